"""Fetching a model from Ollama's registry: how far it is, whether it still moves, and why it broke off.

While its registry is silent Ollama says the same line 16 times a second (server/download.go), so lines alone are
no sign of life: bytes and new steps are. What was fetched stays on Ollama's disk, and the next pull goes on there.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, NamedTuple

from studium.engines.http_errors import HttpRefusal
from studium.engines.ollama.http import Json, OllamaHttp
from studium.errors import BadReply, DoesNotFit, EngineDied, EngineRefused, EngineTimeout, UnknownModel

STALL_S = 300.0
"""How long a pull may get nowhere: Ollama checks digests in silence, 40 GB at 250 MB/s in 160 s."""
_WHOLE_S = 24 * 3600.0
_AGAIN = "pull it again: Ollama goes on with what it has"
_UNKNOWN = re.compile(r"file does not exist|not found|invalid model name", re.IGNORECASE)
_DISK_FULL = re.compile(r"no space left|not enough space|disk quota", re.IGNORECASE)


class Progress(NamedTuple):
    """How far a pull is. Bytes are those of the part named by `status`, None where it has no size."""

    status: str
    completed_bytes: int | None
    total_bytes: int | None

    def is_beyond(self, earlier: "Progress") -> bool:
        """Say whether the pull has moved since `earlier`."""
        return self.status != earlier.status or (self.completed_bytes or 0) > (earlier.completed_bytes or 0)


async def pull(http: OllamaHttp, model: str, stall_s: float) -> AsyncGenerator[Progress, None]:
    """Yield the progress of a pull until it succeeded. `OllamaEngine.pull` says which errors it raises."""
    now = asyncio.get_running_loop().time
    furthest, deadline = Progress("", None, None), now() + stall_s
    with _errors_of_pulls(model):
        lines = http.stream("/api/pull", {"model": model}, model=model, timeout_s=_WHOLE_S)
        async with aclosing(lines):
            while (line := await _next(lines, model, deadline, stall_s)) is not None:
                step = _progress(line)
                if step.is_beyond(furthest):
                    furthest, deadline = step, now() + stall_s
                yield step
    if furthest.status != "success":
        raise EngineDied(
            f"the pull of {model} ended at {furthest.status!r}", expected="success", try_next=_AGAIN
        )


async def _next(
    lines: AsyncGenerator[Json, None], model: str, deadline: float, stall_s: float
) -> Json | None:
    try:
        async with asyncio.timeout_at(deadline):
            line = await anext(lines, None)
        # Lines that are here already never wait, so the limit above does not see those that say nothing new.
        if line is None or asyncio.get_running_loop().time() < deadline:
            return line
        raise TimeoutError
    except TimeoutError as cause:
        raise EngineTimeout(
            f"the pull of {model} got nowhere for {stall_s:g} s",
            expected="a byte or a new step in that time",
            try_next=f"check Ollama's way to its registry and its log, then {_AGAIN}",
        ) from cause


def _progress(line: Json) -> Progress:
    return Progress(str(line.get("status", "")), _size(line.get("completed")), _size(line.get("total")))


def _size(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


@contextmanager
def _errors_of_pulls(model: str) -> Iterator[None]:
    """Give what goes wrong the meaning it has in a pull, and the way on."""
    try:
        yield
    except UnknownModel as error:
        raise _unknown(model, error.happened) from error
    except HttpRefusal as error:
        if _UNKNOWN.search(error.happened):
            raise _unknown(model, error.happened) from error
        if _DISK_FULL.search(error.happened):
            raise DoesNotFit(
                f"no room on Ollama's disk: {error.happened}",
                expected=f"room for {model}",
                try_next=f"free some (`ollama list`, `ollama rm NAME`), then {_AGAIN}",
            ) from error
        raise EngineRefused(
            f"the pull broke off: {error.happened}",
            expected="success",
            try_next=f"check Ollama's way to its registry and its log, then {_AGAIN}",
        ) from error
    except BadReply as error:
        raise BadReply(
            f"the pull broke off: {error.happened}", expected=error.expected, try_next=_AGAIN
        ) from error
    except EngineDied as error:
        raise EngineDied(
            f"the pull broke off: {error.happened}",
            expected="success",
            try_next=f"start Ollama again where it has ended (`ollama serve`), then {_AGAIN}",
        ) from error


def _unknown(model: str, happened: str) -> UnknownModel:
    return UnknownModel(
        f"Ollama's registry has no model {model!r} ({happened})",
        expected="a name and a tag as on ollama.com/library",
        try_next=f"correct the base {model!r}",
    )
