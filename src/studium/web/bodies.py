"""Reading a request's body within limits of size and time, and JSON in and out.

A declared length beyond the limit is refused before a byte is read, an undeclared one (chunked,
compressed) as soon as it passes. orjson itself refuses NaN, lone surrogates, invalid UTF-8 and nesting
beyond 1,024 levels.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from studium.errors import BadRequest
from studium.web.failures import BadField, Refused
from studium.web.reception import RECEPTION

_TEXT_OF_ERROR = 120


def check_length(request: web.BaseRequest, max_bytes: int, shorten: str = "") -> None:
    """Refuse a body whose declared length is too large. Raises Refused (413)."""
    declared = request.content_length
    if declared is not None and declared > max_bytes:
        raise too_large(f"{declared:,} bytes", max_bytes, shorten)


async def read_body(request: web.BaseRequest, *, max_bytes: int, timeout_s: float) -> bytes:
    """Return the whole body. Raises Refused: 413 too large, 408 not complete in time, 400 broken."""
    body = bytearray()
    try:
        async with asyncio.timeout(None if request.content.is_eof() else timeout_s):
            async for piece in body_pieces(request, max_bytes=max_bytes):
                body += piece
    except TimeoutError as error:
        raise Refused(
            408,
            "body_timeout",
            f"{len(body):,} bytes of the body had arrived after {timeout_s:g} s",
            expected="the whole body within that time",
            try_next="send it without pauses",
        ) from error
    return bytes(body)


async def body_pieces(
    request: web.BaseRequest,
    *,
    max_bytes: int,
    stall_s: float | None = None,
    shorten: str = "shorten the conversation or raise server.max_body",
) -> AsyncIterator[bytes]:
    """Yield the body as it comes. Raises Refused (413 too large, 400 broken), TimeoutError after `stall_s` of pause."""
    check_length(request, max_bytes, shorten)
    num_bytes = 0
    try:
        while True:
            async with asyncio.timeout(stall_s):
                piece = await request.content.readany()
            if not piece:
                return
            num_bytes += len(piece)
            if num_bytes > max_bytes:
                raise too_large("a longer one", max_bytes, shorten)
            yield piece
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise Refused(400, "bad_request", f"the body cannot be read: {error}") from error


async def json_body(request: web.Request, known: Collection[str] | None = None) -> dict[str, Any]:
    """Return the request's JSON object, read within the server's limits. Raises BadField for a field not `known`."""
    server = request.app[RECEPTION].server
    body = parse_object(
        await read_body(request, max_bytes=server.max_body_bytes, timeout_s=server.body_timeout_s)
    )
    if known is not None and (unknown := sorted(body.keys() - known)):
        raise BadField(
            unknown[0], f"{unknown[0]!r} is no field", expected=f"some of {', '.join(sorted(known))}"
        )
    return body


def json_response(body: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`. Raises BadRequest."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            f"the body is not valid JSON: {str(error)[:_TEXT_OF_ERROR]}",
            expected="one JSON object in UTF-8, without NaN, lone surrogates or deep nesting",
        ) from error
    if not isinstance(value, dict):
        raise BadRequest(f"the body is a JSON {type(value).__name__}", expected="a JSON object")
    return value


def too_large(found: str, max_bytes: int, shorten: str) -> Refused:
    """Return the refusal of a body; `shorten` says what to try."""
    return Refused(
        413,
        "body_too_large",
        f"a body of at most {max_bytes:,} bytes is taken, this is {found}",
        try_next=shorten,
    )
