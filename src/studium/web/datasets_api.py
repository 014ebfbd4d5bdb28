"""Rows for training, sent ahead of a recipe: content-addressed, whole and checked, or refused.

`GET /api/datasets/SHA256?bytes=N` says whether rows are here and, where they are not, refuses N bytes that would be too
many before one is sent (413 by `server.max_dataset`, 503 for want of disk). `PUT /api/datasets/SHA256` takes them: JSON
lines as recipes read them, which recipes then name as datasets/SHA256.jsonl.
"""

import asyncio

from aiohttp import web

from studium.web.bodies import body_pieces, too_large
from studium.web.failures import BadField, Refused
from studium.web.leases_api import studium_of
from studium.web.openai_api import json_response
from studium.web.reception import RECEPTION, VISIT

LONGEST_S = 6 * 3600.0
_SHORTEN = "send fewer rows or raise server.max_dataset"


async def show(request: web.Request) -> web.StreamResponse:
    """GET /api/datasets/SHA256"""
    from studium.manage.datasets import check_room, place_of

    reception, sha256 = request.app[RECEPTION], request.match_info["sha256"]
    workspace = studium_of(reception).config.workspace
    place, num_bytes = place_of(workspace, sha256), request.query.get("bytes", "0")
    if not num_bytes.isascii() or not num_bytes.isdecimal() or len(num_bytes) > 18:
        raise BadField("bytes", f"bytes is {num_bytes[:40]!r}", expected="a whole number")
    if not place.exists():
        if int(num_bytes) > reception.server.max_dataset_bytes:
            raise too_large(f"{int(num_bytes):,} bytes", reception.server.max_dataset_bytes, _SHORTEN)
        check_room(workspace, int(num_bytes))
    return json_response({"sha256": sha256, "is_here": place.exists()})


async def put(request: web.Request) -> web.StreamResponse:
    """PUT /api/datasets/SHA256"""
    from studium.manage.datasets import arriving, check_room, place_of

    reception, sha256 = request.app[RECEPTION], request.match_info["sha256"]
    workspace, server = studium_of(reception).config.workspace, reception.server
    place_of(workspace, sha256)
    check_room(workspace, request.content_length or 0)
    num_bytes = 0
    with reception.crowd.place(request[VISIT].key_name), arriving(workspace) as rows:
        try:
            async with asyncio.timeout(LONGEST_S):
                async for piece in body_pieces(
                    request,
                    max_bytes=server.max_dataset_bytes,
                    stall_s=server.body_timeout_s,
                    shorten=_SHORTEN,
                ):
                    num_bytes += len(piece)
                    await asyncio.to_thread(rows.write, piece)
        except TimeoutError as error:
            raise Refused(
                408,
                "body_timeout",
                f"nothing came for {server.body_timeout_s:g} s after {num_bytes:,} bytes",
                try_next="send it again",
            ) from error
        await asyncio.to_thread(rows.settle, sha256)
    response = json_response({"sha256": sha256, "is_here": True, "bytes": num_bytes})
    response.set_status(201)
    return response
