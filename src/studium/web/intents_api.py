"""Channels of intents over HTTP, for whoever cannot map a file into memory. No route here waits for a model.

`PUT /api/intents/NAME` creates or changes a channel (fields: see `intents.settings.Settings`), `GET /api/intents` lists
them, `GET /api/intents/NAME` is the intent as it is now, `POST /api/intents/NAME/observation` {"text"} tells what is
the case, `DELETE /api/intents/NAME` removes it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from studium.errors import BadRequest, UnknownModel
from studium.intents.channels import Channels, UnknownChannel
from studium.intents.settings import Settings, settings_of
from studium.serve.ensemble import VIRTUAL_MODELS
from studium.web import fields
from studium.web.bodies import json_body, json_response
from studium.web.conversation import require_text
from studium.web.failures import Refused
from studium.web.reception import RECEPTION, VISIT

CHANNELS: web.AppKey[Channels] = web.AppKey("channels of intents", Channels)
routes = web.RouteTableDef()


@routes.get("/api/intents")
async def listing(request: web.Request) -> web.Response:
    with _channels(request) as channels:
        return json_response({"channels": [channels.state(name) for name in channels.names()]})


@routes.put("/api/intents/{name}")
async def put(request: web.Request) -> web.Response:
    name, body = request.match_info["name"], await json_body(request)
    if "api_key_name" in body:
        raise BadRequest(
            "api_key_name is not for the caller to say", expected="the key that is shown with it"
        )
    settings = settings_of(body | {"api_key_name": request[VISIT].key_name})
    _check_students(request, settings)
    with _channels(request) as channels:
        is_new = channels.put(name, settings)
        return json_response(channels.state(name), 201 if is_new else 200)


@routes.get("/api/intents/{name}")
async def show(request: web.Request) -> web.Response:
    with _channels(request) as channels:
        return json_response(channels.state(request.match_info["name"]))


@routes.post("/api/intents/{name}/observation")
async def observe(request: web.Request) -> web.Response:
    body = await json_body(request)
    text = require_text(fields.text(body, "text"), "text")
    with _channels(request) as channels:
        channels.observe(request.match_info["name"], text)
    return web.Response(status=204)


@routes.delete("/api/intents/{name}")
async def delete(request: web.Request) -> web.Response:
    with _channels(request) as channels:
        await channels.delete(request.match_info["name"])
    return web.Response(status=204)


def _check_students(request: web.Request, settings: Settings) -> None:
    there = request.app[RECEPTION].studium.roster.named
    for student in (*settings.students, settings.model):
        if student not in there and student not in VIRTUAL_MODELS:
            raise UnknownModel(
                f"there is no student {student[:80]!r}",
                expected=f"some of {', '.join(there)}",
                try_next="studium students list",
            )


@contextmanager
def _channels(request: web.Request) -> Iterator[Channels]:
    if CHANNELS not in request.app:
        raise Refused(
            501, "unsupported", "this server keeps no intents", try_next="start one with: studium up"
        )
    try:
        yield request.app[CHANNELS]
    except UnknownChannel as error:
        raise Refused(
            404, error.code, error.happened, expected=error.expected, try_next=error.try_next
        ) from error
