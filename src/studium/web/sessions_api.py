"""Research sessions in the server, beside its questions and within its budget.

`POST /api/sessions` {name, topic, duration_minutes, cycles, students, tokens, seed, stream} begins one,
`POST /api/sessions/NAME/resume` {duration_minutes, cycles, stream} goes on with one. With `stream` progress comes as
one JSON object per line until it ends; the session goes on when the client does not listen any more.
`POST /api/sessions/NAME/stop` ends it after the runs at work; once more withdraws those. `GET /api/sessions` lists,
`GET /api/sessions/NAME` shows one.
"""

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from studium.errors import BadRequest
from studium.serve.team.routing import Present
from studium.web import fields
from studium.web.bodies import json_body, json_response
from studium.web.door import failure_of
from studium.web.lines import error_line, send_lines
from studium.web.reception import RECEPTION, VISIT, Reception

# Sessions are imported where one is begun or looked at: a start of the server without them is the sooner.
if TYPE_CHECKING:
    from studium.records.sessions import SessionSummary
    from studium.serve.sessions.hosting import Host, Running

Json = dict[str, Any]
_MOST = 10**9
_BEGIN = {"name", "topic", "duration_minutes", "cycles", "students", "tokens", "seed", "stream"}
_RESUME = {"duration_minutes", "cycles", "stream"}

# The server's host, made with its first session.
HOSTS: "web.AppKey[list[Host]]" = web.AppKey("session hosts", list)
routes = web.RouteTableDef()


async def close(app: web.Application) -> None:
    """End the server's sessions in order; they can be resumed."""
    for host in app[HOSTS]:
        await host.close()


@routes.post("/api/sessions")
async def begin(request: web.Request) -> web.StreamResponse:
    from studium.records.sessions import SessionPlan
    from studium.serve.sessions.hosting import to_begin
    from studium.serve.sessions.opening import chosen_students

    studium, body = request.app[RECEPTION].studium, await json_body(request, _BEGIN)
    wanted = fields.texts(body, "students", 1000) if body.get("students") is not None else None
    minutes = _minutes(body)
    plan = SessionPlan(
        name=fields.text(body, "name"),
        topic=fields.text(body, "topic"),
        students=chosen_students(studium.roster.students, wanted),
        duration_s=60 * (120.0 if minutes is None else minutes),
        max_cycles=fields.whole(body, "cycles", 1, _MOST),
        token_budget=fields.whole(body, "tokens", 1, _MOST),
        seed=fields.whole(body, "seed", -_MOST, _MOST) or 0,
    )
    return await _start(request, body, partial(to_begin, studium.config.workspace, plan))


@routes.post("/api/sessions/{name}/resume")
async def resume(request: web.Request) -> web.StreamResponse:
    from studium.serve.sessions.hosting import to_resume

    studium, body = request.app[RECEPTION].studium, await json_body(request, _RESUME)
    minutes = _minutes(body)
    again = partial(
        to_resume,
        studium.config.workspace,
        request.match_info["name"],
        more_s=None if minutes is None else minutes * 60,
        more_cycles=fields.whole(body, "cycles", 1, _MOST),
    )
    return await _start(request, body, again)


@routes.post("/api/sessions/{name}/stop")
async def stop(request: web.Request) -> web.StreamResponse:
    from studium.serve.sessions.folder import checked_name

    name = checked_name(request.match_info["name"])
    running = _host(request).running(name)
    if running is None:
        raise BadRequest(
            f"the session {name!r} does not run in this server",
            expected="a session under way",
            try_next=f"see: GET /api/sessions/{name}",
        )
    if running.stopping:
        running.withdraw()
    running.stop()
    return json_response({"name": name, "state": "stopping"})


@routes.get("/api/sessions")
async def listing(request: web.Request) -> web.StreamResponse:
    from studium.serve.sessions.glance import all_at_a_glance

    workspace = request.app[RECEPTION].studium.config.workspace
    return json_response({"sessions": await asyncio.to_thread(all_at_a_glance, workspace)})


@routes.get("/api/sessions/{name}")
async def show(request: web.Request) -> web.StreamResponse:
    workspace = request.app[RECEPTION].studium.config.workspace
    return await _in_detail(workspace, request.match_info["name"])


async def _in_detail(workspace: Path, name: str) -> web.Response:
    from studium.serve.sessions.glance import in_detail

    return json_response(await asyncio.to_thread(in_detail, workspace, name))


def _minutes(body: Json) -> float | None:
    from studium.serve.sessions.opening import MOST_DURATION_S

    return fields.number(body, "duration_minutes", 0.0, MOST_DURATION_S / 60)


def _host(request: web.Request) -> "Host":
    from studium.serve.sessions.hosting import Host
    from studium.serve.sessions.session import Means

    hosts, studium = request.app[HOSTS], request.app[RECEPTION].studium
    if not hosts:
        fleet = studium.config.fleet
        means = Means(max_models=fleet.max_models_at_once, seat_s=fleet.load_timeout_s + 60.0)
        hosts.append(Host(studium.fleet, Present(studium.routing), means))
    return hosts[0]


async def _start(request: web.Request, body: Json, made: "partial[Running]") -> web.StreamResponse:
    """Start a session and answer with what it is now, or with its progress as it comes."""
    loop, news = asyncio.get_running_loop(), asyncio.Queue[Json]()
    follows = fields.flag(body, "stream")

    def tell(line: str) -> None:  # from any thread
        if follows:
            loop.call_soon_threadsafe(news.put_nowait, {"kind": "progress", "text": line})

    running = await asyncio.to_thread(made, tell=tell)
    news.put_nowait({"kind": "begun", "name": running.name})
    task = await asyncio.shield(_host(request).start(running))
    if not follows:
        workspace = request.app[RECEPTION].studium.config.workspace
        return await _in_detail(workspace, running.name)
    reception = request.app[RECEPTION]
    last_word = partial(_last_word, request, reception, task)
    return await send_lines(request, news, task, beat_s=reception.server.heartbeat_s, last_word=last_word)


def _last_word(request: web.Request, reception: Reception, task: "asyncio.Task[SessionSummary]") -> Json:
    if not task.done():
        _host(request).stop()
        return {"kind": "closing", "text": "this server is stopping, and its sessions with it"}
    if task.cancelled():
        return {"kind": "closing", "text": "this server has stopped the session"}
    error = task.exception()
    if error is None:
        from studium.serve.sessions.glance import summary_json

        return {"kind": "ended"} | summary_json(task.result())
    failure = failure_of(error, ending=True)
    assert failure is not None
    request[VISIT].error_code = failure.code
    return error_line(failure)
