"""OpenAI's routes: chat and text completions, embeddings, models."""

import asyncio
import base64
import struct
import time
from collections.abc import Sequence

from aiohttp import web

from studium.engines import openai_wire
from studium.engines.openai_wire import Stamp
from studium.errors import UnknownModel
from studium.serve.ensemble import VIRTUAL_MODELS
from studium.web import openai_requests
from studium.web.bodies import json_body, json_response
from studium.web.delivery import GUARD_S, deliver
from studium.web.reception import RECEPTION, VISIT, Reception
from studium.web.voices import ChatVoice, CompletionVoice

routes = web.RouteTableDef()


@routes.post("/v1/chat/completions")
async def chat_completions(request: web.Request) -> web.StreamResponse:
    visit = request[VISIT]
    request_id = visit.request_id
    body = await json_body(request)
    wish = openai_requests.chat(body, request_id=request_id, api_key_name=visit.key_name)
    stamp = Stamp(f"chatcmpl-{request_id}", int(time.time()), wish.query.model)
    return await deliver(request, wish, ChatVoice(wish, stamp, request_id))


@routes.post("/v1/completions")
async def completions(request: web.Request) -> web.StreamResponse:
    wish = openai_requests.completion(await json_body(request))
    request_id = request[VISIT].request_id
    stamp = Stamp(f"cmpl-{request_id}", int(time.time()), wish.query.model)
    return await deliver(request, wish, CompletionVoice(wish, stamp, request_id))


@routes.post("/v1/embeddings")
async def embeddings(request: web.Request) -> web.StreamResponse:
    reception, visit = request.app[RECEPTION], request[VISIT]
    wish = openai_requests.embedding(await json_body(request))
    visit.model = wish.model
    with reception.crowd.place(visit.key_name):
        async with asyncio.timeout(reception.server.request_timeout_s + GUARD_S):
            found = await reception.studium.ensemble.embed(wish.model, wish.texts)
    body = openai_wire.embedding_list(wish.model, found.vectors, found.prompt_tokens)
    if wish.base64:
        for entry in body["data"]:
            entry["embedding"] = _base64(entry["embedding"])
    return json_response(body)


@routes.get("/v1/models")
async def models(request: web.Request) -> web.StreamResponse:
    """From memory, so that it never waits on a load."""
    reception = request.app[RECEPTION]
    return json_response(openai_wire.model_list(model_names(reception), created=reception.started_at))


@routes.get("/v1/models/{name:.+}")
async def model(request: web.Request) -> web.StreamResponse:
    reception, name = request.app[RECEPTION], request.match_info["name"]
    if name not in model_names(reception):
        raise unknown_model(reception, name)
    return json_response(openai_wire.model_entry(name, created=reception.started_at))


def model_names(reception: Reception) -> list[str]:
    """Return the names a caller may ask: the virtual models, then every student."""
    return [*VIRTUAL_MODELS, *reception.studium.roster.named]


def unknown_model(reception: Reception, name: str) -> UnknownModel:
    """Return the error for a name that nobody has."""
    return UnknownModel(
        f"there is no model {name[:80]!r}",
        expected="one of " + ", ".join(model_names(reception)[:20]),
        try_next="GET /v1/models lists them all",
    )


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
