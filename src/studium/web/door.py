"""The middleware every request passes: who is it, may it come in, how did it go.

Whatever goes wrong further in leaves here in the protocol's own shape, is counted, and is written to the
request log (health checks and metrics are not logged: they would be most of it).
"""

import asyncio
import logging
import re
from random import getrandbits
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler

from studium.errors import EngineTimeout, StudiumBug, StudiumError
from studium.web.failures import Refused, dialect_of, error_response
from studium.web.reception import RECEPTION, VISIT, Reception, Visit

REQUEST_ID = "x-studium-request-id"
CLIENT_GONE = 499
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger("studium.web")


@web.middleware
async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let one request in, and see it out."""
    reception = request.app[RECEPTION]
    visit = request[VISIT] = Visit(_request_id(request), request.path)
    task = cast("asyncio.Task[object]", asyncio.current_task())
    status = CLIENT_GONE
    reception.enter(task)
    try:
        response = await _answered(reception, request, visit, handler)
        status = response.status
        if not response.prepared:
            response.headers[REQUEST_ID] = visit.request_id
        return response
    finally:
        reception.leave(task)
        _note(reception, request, visit, status)


def failure_of(error: BaseException, *, ending: bool) -> StudiumError | None:
    """Return what to tell the client of `error`; None where the client itself is gone."""
    if isinstance(error, StudiumError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return _stopping() if ending else None
    if isinstance(error, ConnectionError):
        return None
    if isinstance(error, TimeoutError):
        return EngineTimeout("the question was not answered in time", try_next="ask again or ask for less")
    if isinstance(error, web.HTTPException):
        return Refused(error.status, _http_code(error), f"{error.reason}: {error.text}")
    _log.error("a request failed by our own fault", exc_info=error)
    return StudiumBug("something broke inside Studium", try_next="the server's log has the details")


async def _answered(
    reception: Reception, request: web.Request, visit: Visit, handler: Handler
) -> web.StreamResponse:
    try:
        _admit(reception, request, visit)
        return await handler(request)
    except (Exception, asyncio.CancelledError) as error:
        failure = failure_of(error, ending=reception.ending)
        if failure is None:
            visit.error_code = "client_gone"
            raise
        visit.error_code = failure.code
        response = error_response(dialect_of(request.path), failure)
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = error.headers["Allow"]
        if isinstance(failure, Refused) and failure.status in (408, 413, 503):
            response.force_close()
        return response


def _admit(reception: Reception, request: web.Request, visit: Visit) -> None:
    if request.path == "/healthz":
        return
    visit.key_name = reception.gate.admit(request)
    if reception.draining and request.path not in PROBES:
        raise _stopping()


def _note(reception: Reception, request: web.Request, visit: Visit, status: int) -> None:
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "other"
    record = visit.record(status)
    meters = reception.meters
    meters.requests.add(route, str(status))
    meters.seconds.observe(record.seconds, route)
    if visit.error_code:
        meters.errors.add(visit.error_code)
    if visit.answer is not None:
        meters.count(visit.answer)
    if request.path not in PROBES:
        reception.studium.store.log_request(record)


def _request_id(request: web.Request) -> str:
    given = request.headers.get("x-request-id", "")
    if given and _GIVEN_ID.fullmatch(given):
        return given
    # Different, not secret: whose answer it is, its caller's key says. The operating system's own chance costs more.
    return f"{getrandbits(64):016x}"


def _stopping() -> Refused:
    return Refused(
        503, "server_stopping", "this server is stopping", try_next="ask again in a moment", retry_after_s=5
    )


def _http_code(error: web.HTTPException) -> str:
    return {404: "unknown_route", 405: "method_not_allowed"}.get(error.status, "bad_request")
