"""Roll-outs over HTTP: how challengers fare, and how the models of this server are.

`GET /api/rollouts` tells the roll-outs that go on (`?all=true`: every one), with what would be done next and why, and
the health of every model in memory.
"""

import asyncio
from typing import Any

from aiohttp import web

from studium.web.leases_api import studium_of
from studium.web.openai_api import json_response
from studium.web.reception import RECEPTION


async def listing(request: web.Request) -> web.Response:
    """GET /api/rollouts"""
    from studium.manage.rolling import report

    studium = studium_of(request.app[RECEPTION])
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
