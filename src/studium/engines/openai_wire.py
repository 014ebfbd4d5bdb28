"""The JSON that an OpenAI-shaped server sends, as pure functions: no clock, no socket, no identifiers made.

Shared by our own endpoint and by the scripted stand-alone server, so that both speak alike. A stream is,
in order: `chat_role_chunk`, any number of `chat_chunk`, `chat_finish_chunk`, `usage_chunk` where the caller
asked for it, and `SSE_DONE`; all carry one `Stamp`. A stream that merely ends looks like success to clients:
one that breaks must send `sse(error_body(...))` before it closes.
Shapes: the OpenAI API reference (chat completions, completions, embeddings, models), tried with openai 3.52.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from studium.records.messages import TokenLogprob

Json = dict[str, Any]

SSE_DONE = b"data: [DONE]\n\n"
LOWEST_LOGPROB = -9999.0
"""Sent for minus infinity, which JSON cannot say; the value that OpenAI sends."""


class Stamp(NamedTuple):
    """What every part of one answer repeats: its identifier, when it was made (Unix seconds), and by which model."""

    id: str
    created: int
    model: str


def usage(prompt_tokens: int, completion_tokens: int) -> Json:
    """Return the usage block."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def chat_completion(
    stamp: Stamp,
    text: str,
    finish_reason: str,
    usage: Json,
    *,
    logprobs: Sequence[TokenLogprob] | None = None,
    studium: Mapping[str, Any] | None = None,
) -> Json:
    """Return a whole chat answer. `studium` is our extra object; clients let it pass."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "logprobs": None if logprobs is None else chat_logprobs(logprobs),
        "finish_reason": finish_reason,
    }
    return _answer(stamp, "chat.completion", [choice], usage, studium)


def chat_role_chunk(stamp: Stamp) -> Json:
    """Return the first chunk of a streamed chat: who speaks, and nothing said yet."""
    return _chat_chunk(stamp, {"role": "assistant", "content": ""}, None, None)


def chat_chunk(stamp: Stamp, text: str, *, logprobs: Sequence[TokenLogprob] | None = None) -> Json:
    """Return a chunk that adds `text`."""
    return _chat_chunk(stamp, {"content": text}, None, logprobs)


def chat_finish_chunk(stamp: Stamp, finish_reason: str, *, studium: Mapping[str, Any] | None = None) -> Json:
    """Return the chunk that says why the answer ended, with an empty delta."""
    chunk = _chat_chunk(stamp, {}, finish_reason, None)
    return chunk if studium is None else chunk | {"studium": dict(studium)}


def usage_chunk(
    stamp: Stamp,
    usage: Json,
    *,
    kind: str = "chat.completion.chunk",
    studium: Mapping[str, Any] | None = None,
) -> Json:
    """Return the last chunk of a stream whose caller set `stream_options.include_usage`: no choices.

    `kind` is "text_completion" for a streamed completion.
    """
    return _answer(stamp, kind, [], usage, studium)


def text_completion(
    stamp: Stamp,
    text: str,
    finish_reason: str,
    usage: Json,
    *,
    logprobs: Sequence[TokenLogprob] | None = None,
    studium: Mapping[str, Any] | None = None,
) -> Json:
    """Return a whole answer of the older completions API."""
    choice = _text_choice(text, finish_reason, logprobs)
    return _answer(stamp, "text_completion", [choice], usage, studium)


def text_completion_chunk(
    stamp: Stamp,
    text: str,
    finish_reason: str | None = None,
    *,
    logprobs: Sequence[TokenLogprob] | None = None,
    studium: Mapping[str, Any] | None = None,
) -> Json:
    """Return a chunk of a streamed completion; the last one has empty text and a finish reason."""
    choice = _text_choice(text, finish_reason, logprobs)
    return _answer(stamp, "text_completion", [choice], None, studium)


def embedding_list(model: str, vectors: Sequence[Sequence[float]], prompt_tokens: int) -> Json:
    """Return embeddings in the order of their texts."""
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": list(vector)}
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }


def model_list(models: Sequence[str], *, created: int, owned_by: str = "studium") -> Json:
    """Return the list of models, `created` in Unix seconds."""
    return {
        "object": "list",
        "data": [model_entry(name, created=created, owned_by=owned_by) for name in models],
    }


def model_entry(name: str, *, created: int, owned_by: str = "studium") -> Json:
    """Return one model, as in the list and alone under /v1/models/NAME."""
    return {"id": name, "object": "model", "created": created, "owned_by": owned_by}


def error_body(message: str, *, type: str, code: str | None, param: str | None = None) -> Json:
    """Return the error shape; the same inside a stream (`sse(error_body(...))`) and as a whole body."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def chat_logprobs(logprobs: Sequence[TokenLogprob]) -> Json:
    """Return the log-probabilities block of a chat choice."""
    return {
        "content": [
            _token(entry.token, entry.logprob)
            | {"top_logprobs": [_token(token, logprob) for token, logprob in entry.top]}
            for entry in logprobs
        ],
        "refusal": None,
    }


def text_logprobs(logprobs: Sequence[TokenLogprob], *, first_offset: int = 0) -> Json:
    """Return the log-probabilities block of a completion; offsets count characters of the answer."""
    offsets, offset = [], first_offset
    for entry in logprobs:
        offsets.append(offset)
        offset += len(entry.token)
    return {
        "tokens": [entry.token for entry in logprobs],
        "token_logprobs": [_finite(entry.logprob) for entry in logprobs],
        "top_logprobs": [{token: _finite(logprob) for token, logprob in entry.top} for entry in logprobs],
        "text_offset": offsets,
    }


def sse(data: bytes | Json) -> bytes:
    """Return one server-sent event. Bytes are sent as they are and must hold no line break."""
    return b"data: " + (data if isinstance(data, bytes) else orjson.dumps(data)) + b"\n\n"


def sse_comment(text: str) -> bytes:
    """Return a comment line: clients ignore it, and connections stay open through a long load."""
    return b": " + text.replace("\r", " ").replace("\n", " ").encode() + b"\n\n"


def _chat_chunk(
    stamp: Stamp, delta: Json, finish_reason: str | None, logprobs: Sequence[TokenLogprob] | None
) -> Json:
    choice = {
        "index": 0,
        "delta": delta,
        "logprobs": None if logprobs is None else chat_logprobs(logprobs),
        "finish_reason": finish_reason,
    }
    return _answer(stamp, "chat.completion.chunk", [choice], None, None)


def _text_choice(text: str, finish_reason: str | None, logprobs: Sequence[TokenLogprob] | None) -> Json:
    return {
        "index": 0,
        "text": text,
        "logprobs": None if logprobs is None else text_logprobs(logprobs),
        "finish_reason": finish_reason,
    }


def _answer(
    stamp: Stamp, kind: str, choices: list[Json], usage: Json | None, studium: Mapping[str, Any] | None
) -> Json:
    body: Json = {
        "id": stamp.id,
        "object": kind,
        "created": stamp.created,
        "model": stamp.model,
        "choices": choices,
    }
    if usage is not None:
        body["usage"] = usage
    if studium is not None:
        body["studium"] = dict(studium)
    return body


def _token(token: str, logprob: float) -> Json:
    return {"token": token, "logprob": _finite(logprob), "bytes": list(token.encode("utf-8", "replace"))}


def _finite(logprob: float) -> float:
    return max(logprob, LOWEST_LOGPROB)
