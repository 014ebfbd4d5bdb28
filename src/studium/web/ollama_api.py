"""Ollama's routes. Its models are our virtual models and students; loading and unloading are wishes to the
fleet.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from studium import __version__
from studium.engines import ollama_wire
from studium.engines.ollama_wire import ListedModel, Timing
from studium.records.models import ModelSpec, Residence, Student
from studium.serve.ensemble import VIRTUAL_MODELS
from studium.web import fields, ollama_requests, openai_requests
from studium.web.bodies import json_body, json_response
from studium.web.delivery import GUARD_S, deliver
from studium.web.failures import BadField, Refused
from studium.web.ollama_requests import Chore, Housekeeping
from studium.web.openai_api import model_names, unknown_model
from studium.web.reception import RECEPTION, VISIT, Reception
from studium.web.voices import OllamaVoice

Final = Callable[..., dict[str, Any]]
routes = web.RouteTableDef()


@routes.post("/api/chat")
async def chat(request: web.Request) -> web.StreamResponse:
    wish = ollama_requests.chat(await json_body(request))
    if isinstance(wish, Housekeeping):
        return await _keep_house(request, wish, ollama_wire.chat_final)
    voice = OllamaVoice(
        wish, wish.query.model, request[VISIT].request_id, ollama_wire.chat_line, ollama_wire.chat_final
    )
    return await deliver(request, wish, voice)


@routes.post("/api/generate")
async def generate(request: web.Request) -> web.StreamResponse:
    wish = ollama_requests.generate(await json_body(request))
    if isinstance(wish, Housekeeping):
        return await _keep_house(request, wish, ollama_wire.generate_final)
    voice = OllamaVoice(
        wish,
        wish.query.model,
        request[VISIT].request_id,
        ollama_wire.generate_line,
        ollama_wire.generate_final,
    )
    return await deliver(request, wish, voice)


@routes.post("/api/embed")
async def embed(request: web.Request) -> web.StreamResponse:
    reception, visit, began = request.app[RECEPTION], request[VISIT], time.monotonic()
    body = await json_body(request)
    visit.model = ollama_requests.plain_name(body)
    texts = fields.texts(body, "input", openai_requests.MOST_EMBEDDED)
    if not texts or not all(texts):
        raise fields.wrong("input", body.get("input"), "a text or a list of texts, none of them empty")
    with reception.crowd.place(visit.key_name):
        async with asyncio.timeout(reception.server.request_timeout_s + GUARD_S):
            found = await reception.studium.ensemble.embed(visit.model, texts)
    timing = Timing(total_s=time.monotonic() - began, prompt_tokens=found.prompt_tokens)
    return json_response(ollama_wire.embed(visit.model, found.vectors, timing))


@routes.get("/api/tags")
async def tags(request: web.Request) -> web.StreamResponse:
    """Whom one can ask; never waits on a load."""
    reception = request.app[RECEPTION]
    return json_response(ollama_wire.tags([_listed(reception, name) for name in model_names(reception)]))


@routes.get("/api/ps")
async def ps(request: web.Request) -> web.StreamResponse:
    """Which models are in memory, measured now."""
    reception = request.app[RECEPTION]
    specs = {student.model.name: student.model for student in reception.studium.roster.named.values()}
    resident = await reception.studium.fleet.residences()
    return json_response(
        ollama_wire.ps([_resident(reception, one, specs.get(one.model)) for one in resident])
    )


@routes.post("/api/show")
async def show(request: web.Request) -> web.StreamResponse:
    reception = request.app[RECEPTION]
    name = ollama_requests.plain_name(await json_body(request))
    listed = _listed(reception, name)
    student = reception.studium.roster.named.get(name)
    if student is None:
        return json_response(
            ollama_wire.show(listed, modelfile="# a team of students, chosen for each question\n")
        )
    return json_response(
        ollama_wire.show(
            listed,
            modelfile=f"FROM {student.model.name}\n",
            parameters=_parameters(student),
            system=student.system_prompt,
            model_info={
                "general.architecture": student.model.engine,
                "studium.speciality": student.speciality,
                "studium.context_length": student.model.context_tokens,
            },
            capabilities=("embedding",) if student.model.embeddings else ("completion",),
        )
    )


@routes.get("/api/version")
async def version(request: web.Request) -> web.StreamResponse:
    return json_response(ollama_wire.version(__version__))


async def _keep_house(request: web.Request, wish: Housekeeping, final: Final) -> web.Response:
    reception = request.app[RECEPTION]
    request[VISIT].model = wish.model
    student = _student(reception, wish.model)
    with reception.crowd.place(request[VISIT].key_name):
        if wish.chore is Chore.LOAD:
            await reception.studium.fleet.load(student, timeout_s=reception.server.request_timeout_s)
        elif not await reception.studium.fleet.unload(student.model):
            raise Refused(
                409, "model_busy", f"{wish.model} is answering somebody", try_next="unload it in a moment"
            )
    return json_response(final(wish.model, time.time(), wish.chore.value))


def _student(reception: Reception, name: str) -> Student:
    student = reception.studium.roster.named.get(name)
    if student is not None:
        return student
    if name in VIRTUAL_MODELS:
        raise BadField(
            "model",
            f"{name} is a team, which is not loaded as a whole",
            expected="the name of a student",
            try_next="GET /api/tags lists them",
        )
    raise unknown_model(reception, name)


def _listed(reception: Reception, name: str) -> ListedModel:
    student = reception.studium.roster.named.get(name)
    if student is not None:
        return _of_spec(reception, name, student.model)
    if name in VIRTUAL_MODELS:
        return ListedModel(name, 0, _digest(name), reception.started_at, family="studium")
    raise unknown_model(reception, name)


def _of_spec(reception: Reception, name: str, spec: ModelSpec) -> ListedModel:
    return ListedModel(
        name,
        _file_bytes(spec),
        _digest(repr(spec)),
        reception.started_at,
        family=spec.engine,
        parent=spec.name,
    )


def _resident(reception: Reception, one: Residence, spec: ModelSpec | None) -> dict[str, Any]:
    listed = (
        ListedModel(one.model, 0, _digest(one.model), reception.started_at)
        if spec is None
        else _of_spec(reception, one.model, spec)
    )
    return ollama_wire.ps_entry(
        listed,
        resident_bytes=one.resident_bytes or 0,
        vram_bytes=one.vram_bytes or 0,
        context_tokens=None if spec is None else spec.context_tokens,
    )


def _file_bytes(spec: ModelSpec) -> int:
    """Size of the model's file; 0 where its source is no file of this machine."""
    try:
        return Path(spec.source).stat().st_size
    except (OSError, ValueError):
        return 0


def _digest(text: str) -> str:
    """A stable name for a model in the shape of Ollama's: of how it is declared, not of its bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def _parameters(student: Student) -> str:
    sampling = student.sampling
    pairs = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "repeat_penalty": sampling.repeat_penalty,
        "seed": sampling.seed,
        "num_predict": sampling.max_tokens,
    }
    return "\n".join(f"{name} {value}" for name, value in pairs.items() if value is not None)
