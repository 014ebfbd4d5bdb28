"""The governor over HTTP: what may be spent, what is spent, and changing it while running.

`GET /api/config/governor` shows all of it. `POST` takes settings by name, such as {"usd_per_day": 2, "refinement":
false} (null or "none" lifts a cap), and {"reset": [names]} for going back to the configuration; all or nothing. The
answer is what GET would say then.
"""

import asyncio
from typing import TYPE_CHECKING, cast

from aiohttp import web

from studium.errors import BadRequest
from studium.web import fields
from studium.web.openai_api import json_body, json_response
from studium.web.reception import RECEPTION, VISIT

if TYPE_CHECKING:
    from studium.app import Studium
    from studium.serve.governor.governor import Governor

_LOCAL = "local"
_MOST_NAMES = 20


async def show(request: web.Request) -> web.Response:
    """GET /api/config/governor"""
    return await _standing(_governor(request))


async def change(request: web.Request) -> web.Response:
    """POST /api/config/governor"""
    body = dict(await json_body(request))
    reset = fields.texts(body, "reset", _MOST_NAMES)
    body.pop("reset", None)
    if not body and not reset:
        raise BadRequest(
            "nothing is to be changed", expected='settings by name, such as {"usd_per_day": 2}, or "reset"'
        )
    governor = _governor(request)
    await asyncio.to_thread(governor.change, body, reset=reset, by=request[VISIT].key_name or _LOCAL)
    return await _standing(governor)


async def _standing(governor: "Governor") -> web.Response:
    standing = await asyncio.to_thread(governor.standing)
    return json_response(standing.as_json())


def _governor(request: web.Request) -> "Governor":
    return cast("Studium", request.app[RECEPTION].house).governor
