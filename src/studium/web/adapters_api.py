"""The registry of adapters over HTTP: what there is, who serves each role, promoting and rolling back.

`GET /api/adapters` (`?role=`), `GET /api/adapters/state`, `GET /api/adapters/history` (`?role=`, `?limit=`).
`POST /api/adapters/promote/{role}` takes {name, evidence} (the id of what the gate measured), or {name, force: true,
reason}; `POST /api/adapters/rollback/{role}` takes nothing, or {reason}. Both take {dry_run: true} for what would
happen, and answer with the change and who answers questions in the role once it is served: this server waits for that.
`GET /api/rollouts` tells how challengers fare in the roll-outs that go on (`?all=true`: in every one), what would be
done next and why, and the health of every model in memory.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web

from studium.errors import BadRequest
from studium.registry import known_role
from studium.web import fields
from studium.web.bodies import json_body, json_response
from studium.web.fields import Json
from studium.web.reception import RECEPTION, VISIT

if TYPE_CHECKING:
    from studium.app import Studium
    from studium.records.adapters import RouteChange
    from studium.registry import Registry

_MOST_CHANGES = 10_000
_PROMOTE, _ROLLBACK = {"name", "evidence", "force", "reason", "dry_run"}, {"reason", "dry_run"}
routes = web.RouteTableDef()


@routes.get("/api/adapters")
async def listing(request: web.Request) -> web.Response:
    studium = request.app[RECEPTION].studium
    found = await asyncio.to_thread(studium.registry.adapters, request.query.get("role", ""))
    return json_response({"adapters": found})


@routes.get("/api/adapters/state")
async def state(request: web.Request) -> web.Response:
    studium = request.app[RECEPTION].studium
    found = await asyncio.to_thread(studium.registry.state, _roles(studium))
    return json_response({"roles": [asdict(one) | _served(studium, one.role) for one in found]})


@routes.get("/api/adapters/history")
async def history(request: web.Request) -> web.Response:
    asked = request.query.get("limit", "100")
    limit = fields.whole({"limit": int(asked) if asked.isdecimal() else asked}, "limit", 1, _MOST_CHANGES)
    registry = request.app[RECEPTION].studium.registry
    changes = await asyncio.to_thread(registry.history, request.query.get("role", ""))
    return json_response({"changes": changes[-(limit or 1) :], "of": len(changes)})


@routes.post("/api/adapters/promote/{role}")
async def promote(request: web.Request) -> web.Response:
    body, role = await json_body(request, _PROMOTE), request.match_info["role"]
    name, evidence, reason = (fields.text(body, key) for key in ("name", "evidence", "reason"))
    force = fields.flag(body, "force")
    if not name or force == bool(evidence):
        raise BadRequest(
            "both evidence and force were given"
            if force and evidence
            else "a promotion needs name and evidence",
            expected='{"name": ..., "evidence": ID}, or {"name": ..., "force": true, "reason": ...}',
            try_next="studium compare tells the id of its evidence",
        )
    actor = request[VISIT].actor

    def change(registry: "Registry", token: int | None) -> "RouteChange":
        if force:
            adapter_id = registry.adapter_id(role, name)
            return registry.force(role, adapter_id, reason=reason, actor=actor, token=token)
        from studium.evals.gate.evidence import replay  # with it comes numpy, which no other route needs

        found = registry.evidence(evidence)
        replay(found)
        adapter_id = registry.adapter(role, name).id
        return registry.promote(role, adapter_id, evidence=found.id, actor=actor, token=token, reason=reason)

    return await _changed(request, role, body, actor, change)


@routes.post("/api/adapters/rollback/{role}")
async def rollback(request: web.Request) -> web.Response:
    body = await json_body(request, _ROLLBACK) if request.can_read_body else {}
    role, reason = request.match_info["role"], fields.text(body, "reason")
    actor = request[VISIT].actor

    def change(registry: "Registry", token: int | None) -> "RouteChange":
        return registry.rollback(role, actor=actor, token=token, reason=reason)

    return await _changed(request, role, body, actor, change)


@routes.get("/api/rollouts")
async def rollouts(request: web.Request) -> web.Response:
    from studium.manage.rolling import report

    studium = request.app[RECEPTION].studium
    every = request.query.get("all", "") in ("true", "yes", "1")

    def found() -> list[dict[str, Any]]:
        automatic = studium.config.rollout.autopromote
        going = studium.store.rollouts.rollouts(only_going=not every)
        return [report(studium.store, studium.registry, one, autopromote=automatic) for one in going]

    return json_response(
        {
            "rollouts": await asyncio.to_thread(found),
            "exposures": {name: studium.watch.counts[name] for name in ("exposed", "refused", "dropped")},
            "health": studium.carer.state(),
            "faults": studium.routing.faults,
        }
    )


async def _changed(
    request: web.Request,
    role: str,
    body: Json,
    actor: str,
    change: "Callable[[Registry, int | None], RouteChange]",
) -> web.Response:
    """Carry a change out under the lease, and answer once this server serves it."""
    studium = request.app[RECEPTION].studium
    known_role(role, _roles(studium))
    if fields.flag(body, "dry_run"):
        would = await asyncio.to_thread(change, studium.registry, None)
        return json_response({"change": would, "dry_run": True})

    def carry_out() -> "RouteChange":
        with studium.registry.lease(actor) as token:
            return change(studium.registry, token)

    # A client that goes away leaves a change whole, and this server with it.
    async def whole() -> "RouteChange":
        done = await asyncio.to_thread(carry_out)
        await studium.routing.refresh()
        return done

    done = await asyncio.shield(whole())
    return json_response({"change": done, **_served(studium, role)})


def _served(studium: "Studium", role: str) -> dict[str, Any]:
    """Return which model answers in a role now, and why the route's champion does not, if it does not."""
    place = studium.routing.places.get(role)
    return {
        "answers": place.champion.model.name if place else None,
        "fault": studium.routing.faults.get(role),
    }


def _roles(studium: "Studium") -> dict[str, str]:
    return {role: place.holder.name for role, place in studium.routing.places.items()}
