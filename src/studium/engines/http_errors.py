"""What a model server's HTTP error means in our own family of errors.

Every engine that speaks HTTP uses it: an OpenAI-shaped body is `{"error": {"message", "type", "code"}}`,
Ollama's is `{"error": "text"}`, and a proxy in between may answer with anything at all.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import orjson

from studium.errors import EngineRefused, PromptTooLong, StudiumError, UnknownModel, Unsupported

MAX_ERROR_BYTES = 64 * 1024
_SHOWN_CHARS = 400
_CONTEXT_CODES = {"context_length_exceeded", "exceed_context_size_error"}
# vLLM, several proxies, and llama.cpp where a text to embed is meant, say it in words only.
_CONTEXT_WORDS = re.compile(
    r"maximum context length|exceeds? the (available |maximum )?context|input .* too large to process",
    re.IGNORECASE,
)


class HttpRefusal(EngineRefused):
    """The server answered with an error: its HTTP `status`, and the wait it asks for, if any."""

    def __init__(
        self,
        happened: str,
        *,
        status: int,
        retry_after_s: float | None = None,
        expected: str = "",
        try_next: str = "",
    ) -> None:
        super().__init__(happened, expected=expected, try_next=try_next)
        self.status = status
        self.retry_after_s = retry_after_s


def http_error(model: str, status: int, body: bytes, headers: Mapping[str, str]) -> StudiumError:
    """Return the error that an HTTP answer of 300 or above stands for."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if error is None:
        error = body[:_SHOWN_CHARS].decode(errors="replace").strip()
    return reported_error(model, error, status=status, retry_after_s=_retry_after_s(headers))


def reported_error(
    model: str, error: Any, *, status: int = 200, retry_after_s: float | None = None
) -> StudiumError:
    """Return the error that a server's own error object (or text) stands for.

    `status` is the HTTP status it came with; 200 for one that arrived inside a stream.
    """
    fields: Mapping[str, Any] = error if isinstance(error, dict) else {"message": error}
    message = str(fields.get("message") or fields.get("detail") or "no reason given")[:_SHOWN_CHARS]
    if status == 200 and isinstance(code := fields.get("code"), int):
        status = code
    if _is_about_context(fields, message):
        return _prompt_too_long(model, fields, message)
    happened = f"{model}: the server {_said(status)}: {message}"
    if status == 404:
        return UnknownModel(happened, expected="a model the server has", try_next="list the server's models")
    if status == 501:
        return Unsupported(happened, try_next="ask without it, or ask another engine")
    return HttpRefusal(happened, status=status, retry_after_s=retry_after_s, try_next=_advice(status))


def _said(status: int) -> str:
    return "reported" if status == 200 else f"answered {status}"


def _is_about_context(fields: Mapping[str, Any], message: str) -> bool:
    names = {fields.get("code"), fields.get("type")} if _hashable(fields) else set()
    return bool(names & _CONTEXT_CODES) or _CONTEXT_WORDS.search(message) is not None


def _hashable(fields: Mapping[str, Any]) -> bool:
    return all(isinstance(fields.get(key), str | int | None) for key in ("code", "type"))


def _prompt_too_long(model: str, fields: Mapping[str, Any], message: str) -> PromptTooLong:
    prompt_tokens, context_tokens = fields.get("n_prompt_tokens"), fields.get("n_ctx")
    try_next = "shorten the prompt, or give the model more context_tokens"
    if isinstance(prompt_tokens, int) and isinstance(context_tokens, int):
        happened = f"{model}: the prompt has {prompt_tokens:,} tokens"
        return PromptTooLong(happened, expected=f"fewer than {context_tokens:,}", try_next=try_next)
    return PromptTooLong(f"{model}: {message}", expected="a prompt within the context", try_next=try_next)


def _advice(status: int) -> str:
    if status in (401, 403):
        return "check the API key and what it may use"
    if status == 429 or status >= 500:
        return "try again later, or ask another model"
    return "change the request as the server says"


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After in seconds; its other form, a date, is rare here and counts as not said."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
