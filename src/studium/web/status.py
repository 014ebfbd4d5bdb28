"""Health, readiness and metrics: what keeps answering when little else does. None of them waits on a model."""

import asyncio
from dataclasses import asdict

import psutil
from aiohttp import web

from studium import telemetry
from studium.errors import StudiumError
from studium.web.bodies import json_response
from studium.web.reception import RECEPTION, Reception

READING_TIMEOUT_S = 2.0
routes = web.RouteTableDef()


@routes.get("/")
async def home(request: web.Request) -> web.StreamResponse:
    """A word for people and for clients that look whether somebody is there."""
    return web.Response(text="Studium is running\n")


@routes.get("/healthz")
async def healthz(request: web.Request) -> web.StreamResponse:
    """The process lives and its event loop turns."""
    return json_response({"status": "ok"})


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.StreamResponse:
    """200 where questions are taken, 503 where not. Trouble of the log stops no answers."""
    reception = request.app[RECEPTION]
    students = len(reception.studium.roster.students)
    ready = bool(students) and not reception.draining
    return json_response(
        {
            "status": "ready" if ready else "not ready",
            "stopping": reception.draining,
            "students": students,
            "store_trouble": reception.studium.store.trouble,
            "models": reception.studium.health(),
            "devices": [asdict(device) for device in reception.studium.fleet.devices()],
        },
        200 if ready else 503,
    )


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.StreamResponse:
    reception = request.app[RECEPTION]
    await _read_memory(reception)
    _read_health(reception)
    return web.Response(body=reception.metrics.render(), headers={"Content-Type": telemetry.CONTENT_TYPE})


def _read_health(reception: Reception) -> None:
    meters = reception.meters
    for name, one in reception.studium.health().items():
        meters.held_back.set(float(one["state"] != "closed"), name)
        meters.model_errors.set(float(one["errors"]), name)
        meters.degraded.set(float(one["degraded"] is not None), name)


async def _read_memory(reception: Reception) -> None:
    meters = reception.meters
    meters.rows_dropped.set(reception.studium.store.rows_dropped)
    meters.process_bytes.set(psutil.Process().memory_info().rss)
    meters.resident_bytes.clear()
    try:
        async with asyncio.timeout(READING_TIMEOUT_S):
            residences = await reception.studium.fleet.residences()
    except (TimeoutError, StudiumError):
        return  # an engine that cannot tell leaves a gap in its own series, not in all of them
    for one in residences:
        if one.resident_bytes is not None:
            meters.resident_bytes.set(one.resident_bytes, one.model)
