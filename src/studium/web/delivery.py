"""Putting a query to the ensemble and its answer on the wire, whole or as a stream that is never silent for
long.

A stream begins with the first text, or after a short grace: errors that come at once still get a status of
their own, slow loads get heartbeats. Once begun, a stream ends with its closing or with an error in the
protocol's shape.
"""

import asyncio
from contextlib import aclosing
from dataclasses import replace

from aiohttp import web

from studium.errors import StudiumBug
from studium.records.answers import Answer, Delta, Progress, Query
from studium.web.door import REQUEST_ID, failure_of
from studium.web.openai_requests import Wish
from studium.web.reception import RECEPTION, VISIT, Reception, Visit
from studium.web.voices import Voice

OPENING_GRACE_S = 2.0
GUARD_S = 5.0
"""How much longer than its own limit a question may take before it is ended from outside."""

_BEAT = 0.9
"""Part of `heartbeat_s` after which a sign of life is sent, so that it arrives within it."""


async def deliver(request: web.Request, wish: Wish, voice: Voice) -> web.StreamResponse:
    """Answer `wish` in `voice`. Raises what the ensemble raises, unless a stream has begun."""
    reception, visit = request.app[RECEPTION], request[VISIT]
    visit.model = wish.query.model
    query = _bounded(wish.query, visit, reception.server.request_timeout_s, anew=_wants_anew(request))
    with reception.crowd.place(visit.key_name):
        if wish.stream:
            return await _stream(request, query, voice)
        async with asyncio.timeout(_longest_s(reception, query)):
            answer = visit.answer = await reception.studium.ensemble.answer(query)
    return web.Response(body=voice.whole(answer), headers=_headers(answer), content_type="application/json")


async def _stream(request: web.Request, query: Query, voice: Voice) -> web.StreamResponse:
    reception, visit = request.app[RECEPTION], request[VISIT]
    outlet = Outlet(request, voice, heartbeat_s=reception.server.heartbeat_s)
    try:
        async with asyncio.timeout(_longest_s(reception, query)):
            await _relay(request, query, voice, outlet)
    except (Exception, asyncio.CancelledError) as error:
        failure = failure_of(error, ending=reception.ending) if outlet.is_open else None
        if failure is None:
            raise
        visit.error_code = failure.code
        await outlet.end(voice.failure(failure))
    finally:
        outlet.stop()
    return outlet.response


async def _relay(request: web.Request, query: Query, voice: Voice, outlet: "Outlet") -> None:
    spoken = False
    async with aclosing(request.app[RECEPTION].studium.ensemble.stream(query)) as events:
        async for event in events:
            if isinstance(event, Delta):
                spoken = True
                await outlet.say(voice.delta(event))
            elif isinstance(event, Progress):
                await outlet.remark(event)
            else:
                request[VISIT].answer = event
                last = b"" if spoken or not event.text else voice.delta(_all_at_once(event))
                await outlet.end(last + voice.closing(event))
                return
    raise StudiumBug("the ensemble ended a stream without an answer")


class _Stream(web.StreamResponse):
    """A stream whose headers leave with its first bytes: one write to the socket fewer per stream."""

    # Private to aiohttp, as its own Response uses it; where it were gone, headers would leave first again.
    _send_headers_immediately = False


class Outlet:
    """One streamed response: opened late, kept warm, ended once."""

    def __init__(self, request: web.Request, voice: Voice, *, heartbeat_s: float) -> None:
        self.response = _Stream(
            headers={
                REQUEST_ID: request[VISIT].request_id,
                "Content-Type": voice.content_type,
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
            }
        )
        self._request = request
        self._voice = voice
        self._beat_s = heartbeat_s * _BEAT
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._held: list[Progress] = []
        self._last_sent = self._loop.time()
        self._warmer: asyncio.Task[None] | None = None
        # A task is made only for a stream that is slow to begin or that lasts; most are done before.
        self._timer = self._loop.call_later(min(OPENING_GRACE_S, self._beat_s), self._start_warming)

    @property
    def is_open(self) -> bool:
        """Whether anything was sent, so that the status can no longer be changed."""
        return self.response.prepared

    async def say(self, data: bytes) -> None:
        """Send text, with the opening before it if it is the first."""
        async with self._turn:
            if not self.is_open:
                data = await self._open() + data
            self._last_sent = self._loop.time()
            await self.response.write(data)

    async def remark(self, progress: Progress) -> None:
        """Tell what goes on; kept back while the stream has not begun."""
        if self.is_open:
            await self.say(self._voice.progress(progress))
        else:
            self._held.append(progress)

    async def end(self, data: bytes) -> None:
        """Send the last bytes."""
        self.stop()
        async with self._turn:
            if not self.is_open:
                data = await self._open() + data
            await self.response.write_eof(data)

    def stop(self) -> None:
        """Send no more heartbeats."""
        self._timer.cancel()
        if self._warmer is not None:
            self._warmer.cancel()

    async def _open(self) -> bytes:
        await self.response.prepare(self._request)
        notes = b"".join(self._voice.progress(one) for one in self._held)
        self._held.clear()
        return self._voice.opening() + notes

    def _start_warming(self) -> None:
        self._warmer = self._loop.create_task(self._keep_warm())

    async def _keep_warm(self) -> None:
        try:
            if not self.is_open:
                await self.say(self._voice.note("waiting for students"))
            while True:
                await asyncio.sleep(self._last_sent + self._beat_s - self._loop.time())
                if self._loop.time() >= self._last_sent + self._beat_s:
                    await self.say(self._voice.note("still working"))
        except ConnectionError:
            return  # the request itself learns of it by being cancelled


def _bounded(query: Query, visit: Visit, longest_s: float, *, anew: bool) -> Query:
    wanted_s, cache = query.timeout_s, False if anew else query.cache
    timeout_s = None if wanted_s is None else min(wanted_s, longest_s)
    asker = (visit.request_id, visit.key_name)
    if (query.timeout_s, query.cache, query.request_id, query.api_key_name) == (timeout_s, cache, *asker):
        return query
    request_id, key_name = asker
    return replace(query, timeout_s=timeout_s, cache=cache, request_id=request_id, api_key_name=key_name)


def _wants_anew(request: web.Request) -> bool:
    """Say whether the caller wants no kept answer (RFC 9111, section 5.2.1)."""
    if "Cache-Control" not in request.headers:
        return False
    wishes = {wish.strip().lower() for wish in request.headers["Cache-Control"].split(",")}
    return not wishes.isdisjoint({"no-cache", "no-store", "max-age=0"})


def _longest_s(reception: Reception, query: Query) -> float:
    return (query.timeout_s or reception.server.request_timeout_s) + GUARD_S


def _all_at_once(answer: Answer) -> Delta:
    return Delta(answer.text, answer.logprobs)


def _headers(answer: Answer) -> dict[str, str]:
    """Return the same in brief, for programs that look at headers only."""
    hit = answer.notes.get("cache", {}).get("hit")
    sometimes = {"x-studium-cache": hit or "", "x-studium-adapter": answer.adapter}
    return {name: value for name, value in sometimes.items() if value} | {
        "x-studium-strategy": answer.strategy,
        "x-studium-complexity": answer.complexity.value,
        "x-studium-status": answer.status.value,
        "x-studium-chosen-model": answer.chosen_model,
        "x-studium-agreement": f"{answer.agreement:.3f}",
        "x-studium-confidence": f"{answer.confidence:.3f}",
    }
