"""Changing what serves while it serves, over HTTP: the governor's settings and the cache of answers.

`GET /api/config/governor` shows what may be spent and what is. `POST` takes settings by name, such as
{"usd_per_day": 2, "refinement": false} (null or "none" lifts a cap), and {"reset": [names]} for going back to the
configuration; all or nothing. The answer is what GET would say then.

`GET /api/config/cache` shows switch, limits, and what is kept for the caller's key. `POST` takes {"enabled": true or
false}, for everybody and kept over a restart, and {"clear": true}, which removes the answers of the caller's key alone.
The answer is what GET would say then, with how many were removed.
"""

import asyncio
import time
from typing import TYPE_CHECKING

from aiohttp import web

from studium.errors import BadRequest, Unsupported
from studium.serve.cache.cache import ResponseCache
from studium.web import fields
from studium.web.bodies import json_body, json_response
from studium.web.reception import RECEPTION, VISIT

if TYPE_CHECKING:
    from studium.serve.governor.governor import Governor

_MOST_NAMES = 20
routes = web.RouteTableDef()


@routes.get("/api/config/governor")
async def show_governor(request: web.Request) -> web.Response:
    return await _standing(request.app[RECEPTION].studium.governor)


@routes.post("/api/config/governor")
async def change_governor(request: web.Request) -> web.Response:
    body, governor = await json_body(request), request.app[RECEPTION].studium.governor
    reset = fields.texts(body, "reset", _MOST_NAMES)
    body.pop("reset", None)
    if not body and not reset:
        raise BadRequest(
            "nothing is to be changed", expected='settings by name, such as {"usd_per_day": 2}, or "reset"'
        )
    await asyncio.to_thread(governor.change, body, reset=reset, by=request[VISIT].actor)
    return await _standing(governor)


@routes.get("/api/config/cache")
async def show_cache(request: web.Request) -> web.Response:
    return json_response(await asyncio.to_thread(_cache(request).state, request[VISIT].key_name))


@routes.post("/api/config/cache")
async def change_cache(request: web.Request) -> web.Response:
    body, visit, cache = await json_body(request), request[VISIT], _cache(request)
    enabled, clear = fields.wish(body, "enabled"), fields.flag(body, "clear")
    unknown = body.keys() - {"enabled", "clear"}
    if unknown or (enabled is None and not clear):
        raise BadRequest(
            f"the cache cannot be told {', '.join(sorted(unknown))[:80]!r}"
            if unknown
            else "nothing is to be changed",
            expected='{"enabled": true}, {"enabled": false} or {"clear": true}',
        )
    if enabled is not None:
        await asyncio.to_thread(cache.shelf.switch, enabled, by=visit.actor, at=time.time())
    removed = await asyncio.to_thread(cache.shelf.clear, visit.key_name) if clear else 0
    return json_response(await asyncio.to_thread(cache.state, visit.key_name) | {"removed": removed})


async def _standing(governor: "Governor") -> web.Response:
    standing = await asyncio.to_thread(governor.standing)
    return json_response(standing.as_json())


def _cache(request: web.Request) -> ResponseCache:
    cache = request.app[RECEPTION].studium.cache
    if cache is None:
        raise Unsupported(
            "no answers are kept here, as store.keep_questions is false",
            expected="store.keep_questions: true",
            try_next="set it in studium.yaml and start again",
        )
    return cache
