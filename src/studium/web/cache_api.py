"""The cache of answers over HTTP: what is kept, clearing it, and the switch.

`GET /api/config/cache` shows switch, limits, and what is kept for the caller's key. `POST` takes {"enabled": true or
false}, for everybody and kept over a restart, and {"clear": true}, which removes the answers of the caller's key alone.
The answer is what GET would say then, with how many were removed.
"""

import asyncio
import time

from aiohttp import web

from studium.errors import BadRequest, Unsupported
from studium.serve.cache.cache import ResponseCache
from studium.web import fields
from studium.web.leases_api import studium_of
from studium.web.openai_api import json_body, json_response
from studium.web.reception import RECEPTION, VISIT

_LOCAL = "local"


async def show(request: web.Request) -> web.Response:
    """GET /api/config/cache"""
    return json_response(await asyncio.to_thread(_cache(request).state, request[VISIT].key_name))


async def change(request: web.Request) -> web.Response:
    """POST /api/config/cache"""
    body, key_name, cache = await json_body(request), request[VISIT].key_name, _cache(request)
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
        by = key_name or _LOCAL
        await asyncio.to_thread(cache.shelf.switch, enabled, by=by, at=time.time())
    removed = await asyncio.to_thread(cache.shelf.clear, key_name) if clear else 0
    return json_response(await asyncio.to_thread(cache.state, key_name) | {"removed": removed})


def _cache(request: web.Request) -> ResponseCache:
    cache = studium_of(request.app[RECEPTION]).cache
    if cache is None:
        raise Unsupported(
            "no answers are kept here, as store.keep_questions is false",
            expected="store.keep_questions: true",
            try_next="set it in studium.yaml and start again",
        )
    return cache
