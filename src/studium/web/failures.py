"""How an error leaves by HTTP: its status, whether a retry makes sense, and the body each protocol expects.

OpenAI's shape under /v1 (`{"error": {message, type, param, code}}`), Ollama's under /api (`{"error":
"text"}`). OpenAI's clients retry 429 and every 5xx by themselves; `x-should-retry: false` spares them, and
us, the retries that cannot help.
"""

from dataclasses import dataclass
from enum import Enum

import orjson
from aiohttp import web

from studium.engines import ollama_wire, openai_wire
from studium.errors import (
    BadRequest,
    CallerError,
    EngineDied,
    EngineFailure,
    EngineTimeout,
    OperatorError,
    SpendingLimit,
    StoreUnavailable,
    StudiumError,
    UnknownModel,
)


class Dialect(Enum):
    """Whose manners a route keeps."""

    OPENAI = "openai"
    OLLAMA = "ollama"


class BadField(BadRequest):
    """One field of the request is wrong; `param` names it, as OpenAI's error shape does."""

    def __init__(self, param: str, happened: str, *, expected: str = "", try_next: str = "") -> None:
        super().__init__(happened, expected=expected, try_next=try_next)
        self.param = param


class Refused(CallerError):
    """The request was turned away before anyone looked at its question: key, size, rate, method, shutdown."""

    def __init__(
        self,
        status: int,
        code: str,
        happened: str,
        *,
        expected: str = "",
        try_next: str = "",
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(happened, expected=expected, try_next=try_next)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Outcome:
    """What HTTP says of an error. `retry` is None where the client may follow its own habits."""

    status: int
    type: str
    retry: bool | None = None
    retry_after_s: int | None = None


BUG = Outcome(500, "server_error", retry=False)

# The most specific class comes first. DoesNotFit, EngineMissing and ModelBroken stay until an operator acts;
# a question that timed out would only time out again; a dead worker is replaced at the next try.
_OUTCOMES: tuple[tuple[type[StudiumError], Outcome], ...] = (
    (UnknownModel, Outcome(404, "invalid_request_error")),
    (CallerError, Outcome(400, "invalid_request_error")),
    (EngineTimeout, Outcome(504, "server_error", retry=False)),
    (EngineDied, Outcome(502, "server_error", retry_after_s=1)),
    (EngineFailure, Outcome(502, "server_error")),
    (StoreUnavailable, Outcome(503, "server_error", retry_after_s=5)),
    (SpendingLimit, Outcome(402, "insufficient_quota", retry=False)),
    (OperatorError, Outcome(503, "server_error", retry=False)),
)
_REFUSAL_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def outcome_of(error: StudiumError) -> Outcome:
    """Return the status and retry advice for `error`."""
    if isinstance(error, Refused):
        kind = _REFUSAL_TYPES.get(error.status)
        kind = kind or ("server_error" if error.status >= 500 else "invalid_request_error")
        return Outcome(error.status, kind, retry_after_s=error.retry_after_s)
    return next((outcome for family, outcome in _OUTCOMES if isinstance(error, family)), BUG)


def error_json(dialect: Dialect, error: StudiumError) -> dict[str, object]:
    """Return the body that `dialect` expects, alone or inside a stream."""
    if dialect is Dialect.OLLAMA:
        return ollama_wire.error_body(str(error))
    return openai_wire.error_body(
        str(error), type=outcome_of(error).type, code=error.code, param=getattr(error, "param", None)
    )


def error_response(dialect: Dialect, error: StudiumError) -> web.Response:
    """Return the whole response for an error raised before anything was sent."""
    outcome = outcome_of(error)
    headers: dict[str, str] = {}
    if outcome.retry is not None:
        headers["x-should-retry"] = "true" if outcome.retry else "false"
    if outcome.retry_after_s is not None:
        headers["Retry-After"] = str(outcome.retry_after_s)
    if outcome.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = orjson.dumps(error_json(dialect, error))
    return web.Response(body=body, status=outcome.status, headers=headers, content_type="application/json")


def dialect_of(path: str) -> Dialect:
    """Return the dialect of a path, known or not."""
    return Dialect.OLLAMA if path.startswith("/api") else Dialect.OPENAI
