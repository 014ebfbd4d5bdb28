"""News as one JSON object per line, for as long as something goes on and its client listens."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

from studium.engines import ollama_wire
from studium.errors import StudiumError
from studium.web.door import REQUEST_ID
from studium.web.reception import RECEPTION, VISIT
from studium.web.voices import NDJSON

Json = dict[str, Any]
LOOK_S = 0.5


async def send_lines(
    request: web.Request,
    news: "asyncio.Queue[Json]",
    work: "asyncio.Task[Any]",
    *,
    beat_s: float,
    last_word: Callable[[], Json],
) -> web.StreamResponse:
    """Send news as it comes, and a sign of life in between, until `work` or the server ends; then the last word."""
    reception = request.app[RECEPTION]
    response = web.StreamResponse(
        headers={REQUEST_ID: request[VISIT].request_id, "Content-Type": NDJSON, "Cache-Control": "no-cache"}
    )
    await response.prepare(request)
    last_sent = time.monotonic()
    while not (work.done() and news.empty()) and not reception.draining:
        line: Json | None = None
        with suppress(TimeoutError):
            line = await asyncio.wait_for(news.get(), LOOK_S)
        if line is None and time.monotonic() - last_sent >= beat_s:
            line = {"kind": "alive"}
        if line is not None:
            await response.write(ollama_wire.ndjson(line))
            last_sent = time.monotonic()
    await response.write_eof(ollama_wire.ndjson(last_word()))
    return response


def error_line(error: StudiumError) -> Json:
    """Return the last line of a stream that broke, from which a client can make the same error."""
    return {
        "kind": "error",
        "error": str(error),
        "code": error.code,
        "happened": error.happened,
        "expected": error.expected,
        "try_next": error.try_next,
    }
