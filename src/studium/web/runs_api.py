"""Runs of training for those who had them trained here: a folder's files with their hashes, and each of them.

`GET /api/runs/NAME` lists what `manage.homecoming` sends: recipes, metrics, report and weights as the run wrote them.
`GET /api/runs/NAME/files/PATH` is one of these, in parts where a Range is asked for. Only what is listed is sent.
"""

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from studium.web.failures import Refused
from studium.web.openai_api import json_response
from studium.web.reception import RECEPTION

if TYPE_CHECKING:
    from studium.train.run_folder import RunFolder
routes = web.RouteTableDef()


@routes.get("/api/runs/{name}")
async def show(request: web.Request) -> web.StreamResponse:
    from studium.manage.homecoming import listed

    return json_response(await asyncio.to_thread(listed, _run(request)))


@routes.get("/api/runs/{name}/files/{path:.+}")
async def file(request: web.Request) -> web.StreamResponse:
    from studium.manage.homecoming import files_of

    run, path = _run(request), request.match_info["path"]
    found = (await asyncio.to_thread(files_of, run)).get(path)
    if found is None:
        raise Refused(
            404,
            "unknown_file",
            f"the run {run.path.name} has no file {path[:80]!r} to send",
            try_next=f"GET /api/runs/{run.path.name} lists them",
        )
    return web.FileResponse(found)


def _run(request: web.Request) -> "RunFolder":
    from studium.manage.recipes import RUNS
    from studium.train.run_folder import RunFolder

    run = RunFolder(request.app[RECEPTION].studium.config.workspace / RUNS / request.match_info["name"])
    if not run.told():
        raise Refused(
            404, "unknown_run", f"there is no run {run.path.name!r}", try_next="GET /api/jobs lists jobs"
        )
    return run
