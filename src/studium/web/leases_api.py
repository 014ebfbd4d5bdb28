"""Memory for work that is no model, by HTTP: who holds the connection holds the lease.

`POST /api/leases` {name, memory, priority, on_gpu, or_main_memory, timeout_s} answers with one JSON object per line for
as long as the client listens: `waiting`, `granted`, `leave` (somebody more urgent needs the memory), `alive`. When the
connection ends, however it ends, the memory is free for others. A holder that was told to leave lets go of what it
holds and says so with `POST /api/leases/NAME/pause` {lease: the id of its first line}; `granted` follows when the
memory is there again. `GET /api/leases` lists.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from studium.config.units import parse_size
from studium.errors import BadRequest
from studium.records.hardware import DeviceKind
from studium.records.scheduling import Priority
from studium.web import fields
from studium.web.bodies import json_body, json_response
from studium.web.door import failure_of
from studium.web.failures import BadField, Refused
from studium.web.lines import error_line, send_lines
from studium.web.reception import RECEPTION, VISIT, Reception

if TYPE_CHECKING:
    from studium.app import Studium
    from studium.fleet import Lease

Json = dict[str, Any]
# A refusal within this time has a status of its own; later ones end the stream.
OPENING_GRACE_S = 0.5
LONGEST_BEAT_S = 5.0
LONGEST_WAIT_S = 7 * 86_400.0
_LENT = {one.name.lower(): one for one in (Priority.TRAINING, Priority.CAMPAIGN, Priority.EVALUATION)}
routes = web.RouteTableDef()


@dataclass(slots=True)
class Holder:
    """A client that holds or waits for a lease. `news` are lines it has not been sent yet."""

    lease: "Lease"
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    since: float = field(default_factory=time.time)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    news: "asyncio.Queue[Json]" = field(default_factory=asyncio.Queue[Json])

    @property
    def state(self) -> str:
        """Return what the holder is to do: wait, hold or leave."""
        if not self.lease.held:
            return "waiting"
        return "leaving" if self.lease.asked_to_leave.is_set() else "granted"


HOLDERS: web.AppKey[dict[str, Holder]] = web.AppKey("lease holders", dict[str, Holder])


@routes.post("/api/leases")
async def hold(request: web.Request) -> web.StreamResponse:
    """Hold memory while the client listens."""
    reception, holders = request.app[RECEPTION], request.app[HOLDERS]
    holder = Holder(_wanted(reception.studium, await json_body(request)))
    name = holder.lease.name
    if name in holders:
        raise Refused(
            409,
            "lease_held",
            f"a lease called {name!r} is held already",
            expected="one lease of a name at a time",
            try_next="choose another name, or wait for the first to end",
        )
    holders[name] = holder
    living = asyncio.create_task(_live(reception.studium, holder), name=f"lease {name}")
    try:
        with reception.crowd.place(request[VISIT].key_name):
            await _settled(holder, living)
            beat_s = min(reception.server.heartbeat_s, LONGEST_BEAT_S)
            last_word = partial(_last_word, request, living)
            return await send_lines(request, holder.news, living, beat_s=beat_s, last_word=last_word)
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
        del holders[name]


@routes.get("/api/leases")
async def listing(request: web.Request) -> web.StreamResponse:
    """Who holds or waits for memory."""
    return json_response({"leases": [_told(one) for one in request.app[HOLDERS].values()]})


@routes.post("/api/leases/{name}/pause")
async def pause(request: web.Request) -> web.StreamResponse:
    """The holder has let go of the memory and wants it again."""
    holder = request.app[HOLDERS].get(request.match_info["name"])
    key = fields.text(await json_body(request), "lease")
    if holder is None:
        raise Refused(
            404,
            "unknown_lease",
            f"there is no lease {request.match_info['name'][:80]!r}",
            expected=f"one of {', '.join(request.app[HOLDERS]) or 'those held, and none is'}",
            try_next="hold it with: POST /api/leases",
        )
    if not secrets.compare_digest(key.encode(), holder.key.encode()):
        raise BadField("lease", "lease is another holder's", expected="the id of the first line of your own")
    if not holder.lease.held:
        raise BadRequest(
            f"the lease {holder.lease.name} is not held, so there is nothing to let go of",
            expected="a lease that was granted",
        )
    holder.let_go.set()
    return json_response({"name": holder.lease.name, "state": "waiting"})


async def _live(studium: "Studium", holder: Holder) -> None:
    """Take the memory, tell when to leave, and take it again, until cancelled. Raises what the lease raises."""
    lease = holder.lease
    waiting = {"kind": "waiting", "lease": holder.key}
    holder.news.put_nowait(waiting | {"in_the_way": studium.fleet.residency.in_the_way()})
    async with lease:
        while True:
            holder.let_go.clear()
            holder.news.put_nowait(_granted(studium, holder))
            await _told_to_leave(holder, studium.config.fleet.lease_leave_s)
            holder.news.put_nowait(waiting)
            await lease.pause()


def _granted(studium: "Studium", holder: Holder) -> Json:
    """Return the line that says that the memory is there, and where: `gpu` is its number by NVML, or null."""
    residency, lease = studium.fleet.residency, holder.lease
    device = residency.whereabouts().get(lease.tenant, "")
    gpu = next((home.gpu for home in residency.limits.homes if home.name == device), None)
    return {"kind": "granted", "lease": holder.key, "bytes": lease.num_bytes, "device": device, "gpu": gpu}


async def _told_to_leave(holder: Holder, leave_s: float) -> None:
    """Wait until the holder has let go; tell it when it is asked to."""
    letting_go = asyncio.create_task(holder.let_go.wait())
    leaving = asyncio.create_task(holder.lease.asked_to_leave.wait())
    try:
        await asyncio.wait({letting_go, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not letting_go.done():
            holder.news.put_nowait({"kind": "leave", "within_s": leave_s})
            await letting_go
    finally:
        letting_go.cancel()
        leaving.cancel()


async def _settled(holder: Holder, living: "asyncio.Task[None]") -> None:
    """Wait a moment for the memory. Raises the refusal where there is one."""
    until = time.monotonic() + OPENING_GRACE_S
    while not (living.done() or holder.lease.held) and time.monotonic() < until:
        await asyncio.wait({living}, timeout=0.01)
    if living.done():
        living.result()


def _last_word(request: web.Request, living: "asyncio.Task[None]") -> Json:
    if not living.done():
        return {"kind": "closing", "text": "this server is stopping"}
    error = living.exception()
    failure = failure_of(error, ending=True) if error is not None else None
    if failure is None:
        return {"kind": "closing", "text": "the lease has ended"}
    request[VISIT].error_code = failure.code
    return error_line(failure)


def _wanted(studium: "Studium", body: Json) -> "Lease":
    """Return the lease a body asks for. Raises BadField, BadRequest."""
    name = fields.text(body, "name")
    if body.get("memory") is None:
        raise BadField("memory", "memory is missing", expected='such as "2GiB", or a number of bytes')
    wait_s = fields.number(body, "timeout_s", 0.01, LONGEST_WAIT_S)
    on_gpu, or_main_memory = fields.flag(body, "on_gpu"), fields.flag(body, "or_main_memory")
    lends_gpu = any(one.kind is DeviceKind.GPU for one in studium.fleet.devices())
    if on_gpu and not lends_gpu and not or_main_memory:
        raise BadField(
            "on_gpu",
            "no model of this Studium lives on a GPU, so it lends none of a GPU's memory",
            expected="a lease of main memory",
            try_next="leave on_gpu out, or declare the GPU in fleet.devices",
        )
    return studium.fleet.lease(
        name,
        _size(body["memory"]),
        priority=_priority(body),
        timeout_s=3600.0 if wait_s is None else wait_s,
        on_gpu=on_gpu and lends_gpu,
    )


def _size(memory: object) -> int:
    if isinstance(memory, int) and not isinstance(memory, bool) and 0 < memory < 2**63:
        return memory
    try:
        if isinstance(memory, str) and (num_bytes := parse_size(memory)) > 0:
            return num_bytes
    except ValueError as error:
        raise fields.wrong("memory", memory, str(error)) from None
    raise fields.wrong("memory", memory, 'a size such as "2GiB", or a number of bytes, more than none')


def _priority(body: Json) -> Priority:
    wanted = fields.text(body, "priority", "training").lower()
    if wanted not in _LENT:
        raise fields.wrong("priority", wanted, f"one of {', '.join(_LENT)}")
    return _LENT[wanted]


def _told(holder: Holder) -> Json:
    lease = holder.lease
    return {
        "name": lease.name,
        "state": holder.state,
        "bytes": lease.num_bytes,
        "priority": lease.priority.name.lower(),
        "since": holder.since,
    }


def studium_of(reception: Reception) -> "Studium":
    """Return the whole of the running Studium: leases and sessions need more of it than answers do."""
    return reception.studium
