"""Rows for training, sent ahead of a recipe that names them as datasets/SHA256.jsonl.

`GET /api/datasets/SHA256?bytes=N` says whether rows are here and, where not, refuses N bytes before one is sent:
413 by `server.max_dataset`, 503 for want of disk. `PUT /api/datasets/SHA256` takes JSON lines as recipes read them.
"""

import asyncio
import shutil
from pathlib import Path

from aiohttp import web

from studium.errors import BadRequest, OperatorError
from studium.web.bodies import body_pieces, too_large
from studium.web.failures import Refused
from studium.web.openai_api import json_response
from studium.web.reception import RECEPTION, VISIT

LONGEST_S = 6 * 3600.0
_SHORTEN = "send fewer rows or raise server.max_dataset"
routes = web.RouteTableDef()


@routes.get("/api/datasets/{sha256}")
async def show(request: web.Request) -> web.StreamResponse:
    try:
        num_bytes = int(request.query.get("bytes", "0")[:18])
    except ValueError as error:
        raise BadRequest("bytes is no number", expected="a whole number") from error
    is_here = _place(request).exists()
    if not is_here:
        _check(request, num_bytes)
    return json_response({"sha256": request.match_info["sha256"], "is_here": is_here})


@routes.put("/api/datasets/{sha256}")
async def put(request: web.Request) -> web.StreamResponse:
    from studium.manage.datasets import arriving, settle

    reception, sha256 = request.app[RECEPTION], _place(request).stem
    workspace, num_bytes = reception.studium.config.workspace, 0
    _check(request, request.content_length or 0)
    try:
        with reception.crowd.place(request[VISIT].key_name), arriving(workspace) as rows:
            with rows.open("wb") as file:
                async with asyncio.timeout(LONGEST_S):
                    async for piece in body_pieces(
                        request,
                        max_bytes=reception.server.max_dataset_bytes,
                        stall_s=reception.server.body_timeout_s,
                        shorten=_SHORTEN,
                    ):
                        num_bytes += await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(settle, rows, workspace, sha256)
    except TimeoutError as error:
        happened = f"the rows stopped coming after {num_bytes:,} bytes"
        raise Refused(408, "body_timeout", happened, try_next="send them again") from error
    except OSError as error:
        raise OperatorError(f"the rows cannot be kept: {error.strerror}") from error
    response = json_response({"sha256": sha256, "is_here": True})
    response.set_status(201)
    return response


def _place(request: web.Request) -> Path:
    from studium.manage.datasets import place_of

    return place_of(request.app[RECEPTION].studium.config.workspace, request.match_info["sha256"])


def _check(request: web.Request, num_bytes: int) -> None:
    """Raise Refused (413) where so many bytes are too many, OperatorError where the disk has no room for them."""
    from studium.manage.datasets import check_room

    most = request.app[RECEPTION].server.max_dataset_bytes
    if num_bytes > most:
        raise too_large(f"{num_bytes:,} bytes", most, _SHORTEN)
    workspace = request.app[RECEPTION].studium.config.workspace
    check_room(num_bytes, shutil.disk_usage(workspace).free)
