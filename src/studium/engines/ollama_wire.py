"""The JSON that an Ollama-shaped server sends and the few values of its requests that need parsing.

Pure functions: times come in as Unix seconds, durations as seconds, and leave as Ollama writes them (RFC 3339,
integer nanoseconds). A stream is NDJSON: any number of `chat_line` or `generate_line`, then one final line with
`done: true`. An error is `{"error": "text"}`, also as the last line of a stream that breaks.
Shapes: Ollama's docs/api.md, tried with the official `ollama` client.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from studium.errors import BadRequest

Json = dict[str, Any]

_DURATION_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
FAR_FUTURE_S = 4_102_444_800.0
"""Expiry shown for a model that stays for ever: the first second of the year 2100."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The counts and durations of a final line. Durations are seconds."""

    total_s: float = 0.0
    load_s: float = 0.0
    prompt_tokens: int = 0
    prompt_s: float = 0.0
    completion_tokens: int = 0
    completion_s: float = 0.0

    def fields(self) -> Json:
        """Return them under Ollama's names, in nanoseconds."""
        return {
            "total_duration": nanoseconds(self.total_s),
            "load_duration": nanoseconds(self.load_s),
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": nanoseconds(self.prompt_s),
            "eval_count": self.completion_tokens,
            "eval_duration": nanoseconds(self.completion_s),
        }


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as tags, ps and show describe it. `family` and the others may stay empty where unknown."""

    name: str
    size_bytes: int
    digest: str
    modified_unix_s: float
    family: str = ""
    parent: str = ""
    parameter_size: str = ""
    quantization: str = ""

    def details(self) -> Json:
        """Return the `details` block."""
        return {
            "parent_model": self.parent,
            "format": "gguf",
            "family": self.family,
            "families": [self.family] if self.family else [],
            "parameter_size": self.parameter_size,
            "quantization_level": self.quantization,
        }


def ndjson(data: Json) -> bytes:
    """Return one line of a stream."""
    return orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE)


def nanoseconds(seconds: float) -> int:
    """Return whole nanoseconds."""
    return round(seconds * 1e9)


def timestamp(unix_s: float) -> str:
    """Return a time as RFC 3339 in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def chat_line(model: str, created_unix_s: float, text: str) -> Json:
    """Return one streamed line of /api/chat that adds `text`."""
    return _line(model, created_unix_s) | {"message": _message(text), "done": False}


def chat_final(
    model: str,
    created_unix_s: float,
    done_reason: str,
    timing: Timing | None = None,
    *,
    text: str = "",
    studium: Mapping[str, Any] | None = None,
) -> Json:
    """Return the last line of /api/chat, or with `text` the whole unstreamed answer.

    `done_reason` is stop, length, load or unload; the last two come without timing.
    """
    return _final(_line(model, created_unix_s) | {"message": _message(text)}, done_reason, timing, studium)


def generate_line(model: str, created_unix_s: float, text: str) -> Json:
    """Return one streamed line of /api/generate that adds `text`."""
    return _line(model, created_unix_s) | {"response": text, "done": False}


def generate_final(
    model: str,
    created_unix_s: float,
    done_reason: str,
    timing: Timing | None = None,
    *,
    text: str = "",
    studium: Mapping[str, Any] | None = None,
) -> Json:
    """Return the last line of /api/generate, or with `text` the whole unstreamed answer."""
    return _final(_line(model, created_unix_s) | {"response": text}, done_reason, timing, studium)


def embed(model: str, vectors: Sequence[Sequence[float]], timing: Timing) -> Json:
    """Return the answer of /api/embed."""
    return {
        "model": model,
        "embeddings": [list(vector) for vector in vectors],
        "total_duration": nanoseconds(timing.total_s),
        "load_duration": nanoseconds(timing.load_s),
        "prompt_eval_count": timing.prompt_tokens,
    }


def tags(models: Sequence[ListedModel]) -> Json:
    """Return the answer of /api/tags: what could be loaded."""
    return {"models": [_entry(model) | {"modified_at": timestamp(model.modified_unix_s)} for model in models]}


def ps_entry(
    model: ListedModel,
    *,
    resident_bytes: int,
    vram_bytes: int,
    expires_unix_s: float = FAR_FUTURE_S,
    context_tokens: int | None = None,
) -> Json:
    """Return one loaded model for `ps`."""
    entry = _entry(model) | {
        "size": resident_bytes,
        "size_vram": vram_bytes,
        "expires_at": timestamp(min(expires_unix_s, FAR_FUTURE_S)),
    }
    return entry if context_tokens is None else entry | {"context_length": context_tokens}


def ps(entries: Sequence[Json]) -> Json:
    """Return the answer of /api/ps: what is in memory now."""
    return {"models": list(entries)}


def show(
    model: ListedModel,
    *,
    modelfile: str,
    parameters: str = "",
    template: str = "",
    system: str = "",
    model_info: Mapping[str, Any] | None = None,
    capabilities: Sequence[str] = ("completion",),
) -> Json:
    """Return the answer of /api/show. `parameters` is one "name value" pair per line."""
    body: Json = {
        "modelfile": modelfile,
        "parameters": parameters,
        "template": template,
        "details": model.details(),
        "model_info": dict(model_info or {}),
        "capabilities": list(capabilities),
        "modified_at": timestamp(model.modified_unix_s),
    }
    return body | {"system": system} if system else body


def version(text: str) -> Json:
    """Return the answer of /api/version."""
    return {"version": text}


def progress(status: str, *, digest: str = "", total_bytes: int = 0, completed_bytes: int = 0) -> Json:
    """Return one line of a pull or create; the last line's status is "success"."""
    if not digest:
        return {"status": status}
    return {"status": status, "digest": digest, "total": total_bytes, "completed": completed_bytes}


def error_body(message: str) -> Json:
    """Return the error shape, alone or as the last line of a stream."""
    return {"error": message}


def keep_alive_s(value: object, *, default_s: float = 300.0) -> float:
    """Return how long a model stays after its last request, in seconds; infinity for a negative value.

    Takes what the API takes: a number of seconds, or a Go duration such as "10m" or "1h30m". None is
    `default_s`, Ollama's five minutes. Raises BadRequest for anything else.
    """
    if value is None:
        return default_s
    if isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
        return float(value) if value >= 0 else math.inf
    if isinstance(value, str) and (seconds := _duration_s(value.strip())) is not None:
        return seconds if seconds >= 0 else math.inf
    raise BadRequest(
        f"keep_alive {value!r} is no duration",
        expected='seconds as a number, or text such as "10m"',
        try_next="send 0 to unload at once, -1 to keep the model loaded",
    )


def _duration_s(text: str) -> float | None:
    sign, digits = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if re.fullmatch(r"\d+(\.\d+)?", digits):
        return sign * float(digits)
    parts = _DURATION_PART.findall(digits)
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        return None
    return sign * sum(float(number) * _DURATION_UNITS_S[unit] for number, unit in parts)


def _line(model: str, created_unix_s: float) -> Json:
    return {"model": model, "created_at": timestamp(created_unix_s)}


def _message(text: str) -> Json:
    return {"role": "assistant", "content": text}


def _final(line: Json, done_reason: str, timing: Timing | None, studium: Mapping[str, Any] | None) -> Json:
    line |= {"done": True, "done_reason": done_reason}
    if timing is not None:
        line |= timing.fields()
    if studium is not None:
        line["studium"] = dict(studium)
    return line


def _entry(model: ListedModel) -> Json:
    return {
        "name": model.name,
        "model": model.name,
        "size": model.size_bytes,
        "digest": model.digest,
        "details": model.details(),
    }
