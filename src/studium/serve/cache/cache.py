"""Answers given again: to the same question, and to one that means the same, where the answer would be the same.

`ResponseCache.visit(query, ...)` is entered before a question is worked on: `found` is its answer, or None, and then
`keep` is told the answer that was made. Equal questions that come meanwhile wait for the first (single flight). Keys
are made in `keys`, the form of what is kept in `form`, the disk is `store.cache`'s. Whatever goes wrong
here is a miss and never an error of the question's.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from studium.config.schema import CacheConfig
from studium.domains.catalogue import recognise
from studium.errors import EngineTimeout, StudiumError
from studium.records.answers import Answer, Query
from studium.records.models import Student
from studium.serve.cache import form, keys, nearness
from studium.serve.cache.form import Kept
from studium.serve.cache.same_question import plainly, words_of
from studium.serve.refining.refinement import Refiners
from studium.serve.team.team import COURIER, MASTER, VIRTUAL_MODELS, Team
from studium.store.cache import AnswerShelf, Entry

log = logging.getLogger(__name__)

# An embedding that takes longer is not worth waiting for, beside a question that can be asked.
EMBED_S = 0.25
# Vectors are compared in plain Python: so many products take 10 to 20 ms.
MOST_VECTORS = 2_000
MOST_PRODUCTS = 500_000
# Of those that are near, so many are looked at word by word; the nearest is nearly always the one.
MOST_CANDIDATES = 3
# An answer is not held back for a slow disk: past this it is written behind its back.
WRITE_S = 0.05
CLOSE_S = 5.0

_Result = TypeVar("_Result")
Embed = Callable[[str], Awaitable[Sequence[float]]]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a question's answer is kept; `scope` None: it is found by its key alone."""

    key: str
    scope: str | None
    guard: str
    api_key_name: str


class ResponseCache:
    """The kept answers of one workspace. Whose they are is the team's identity, so that a swap finds none of another's.

    `circumstances` is whatever else decides answers (limits, version), as text. `embed` gives a question's embedding if
    that costs no load now, else nothing.
    """

    def __init__(
        self,
        shelf: AnswerShelf,
        settings: CacheConfig,
        *,
        circumstances: str = "",
        embed: Embed | None = None,
        longest_wait_s: float = 120.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.shelf = shelf
        self.settings = settings
        self.longest_wait_s = longest_wait_s
        self.counts: Counter[str] = Counter()
        self._circumstances = circumstances
        self._embed = embed if settings.by_meaning else None
        self._clock = clock
        self._flights: dict[str, asyncio.Future[Kept | None]] = {}
        self._writing: set[asyncio.Task[Any]] = set()
        self._probing: asyncio.Task[float | None] | None = None

    def visit(self, query: Query, team: Team, refiners: Refiners | None = None) -> "Visit | None":
        """Return the visit of one question, to be entered; None where its answer may not be kept.

        Entering raises EngineTimeout, and nothing else.
        """
        place = self._place(query, team, refiners)
        return None if place is None else Visit(self, query, place)

    def is_enabled(self) -> bool:
        """Return whether answers are kept and given again: as switched, else as configured. Blocks for the disk."""
        switched = self.shelf.switched()
        return self.settings.enabled if switched is None else switched

    def state(self, api_key_name: str | None = None) -> dict[str, Any]:
        """Return the switch, the limits and what is kept (of one key), for people and programs. Blocks for the disk."""
        return state_of(self.shelf, self.settings, api_key_name, now=self._clock()) | {
            "since_start": {name: self.counts[name] for name in ("exact", "meaning", "miss")}
        }

    async def close(self) -> None:
        """Wait a little for what is still being written."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=CLOSE_S)

    def _place(self, query: Query, team: Team, refiners: Refiners | None) -> _Place | None:
        """Return where the answer to a query is kept; None where it may not be."""
        if query.cache is False:
            return None
        try:
            asked = _may_be_asked(query, team, refiners)
        except StudiumError:
            return None  # whoever works on the question tells what is wrong with it
        if not query.cache and not keys.draws_nothing(query, asked):
            return None
        refined = [] if refiners is None else [refiners.always, refiners.force_arbiter, refiners.doubt_below]
        fixed = [
            self._circumstances,
            *team.identity,
            repr(team.parts),
            refined,
            keys.files_of([*team.students.values(), *team.roles.values()]),
        ]
        # A question of a domain turns on each of its words, which an embedding does not tell.
        short = len(query.question) <= nearness.LONGEST_CHARACTERS
        by_meaning = self._embed is not None and short and recognise(query.question) is None
        scope = keys.scope_of(query, fixed) if by_meaning else None
        guard = repr(keys.guard(plainly(query.question))) if scope else ""
        return _Place(keys.exact_key(query, fixed), scope, guard, query.api_key_name)

    # For visits alone.

    async def find(self, place: _Place, question: str) -> "_Search":
        """Look for an answer: by its key, then by its meaning."""
        found = await asyncio.to_thread(self._look, place.key)
        if found.hit or not found.enabled or place.scope is None:
            return self._counted(found)
        plain = plainly(question)
        vector = await self._vector(" ".join(words_of(plain)))
        packed = keys.packed(vector)
        if packed is None:
            return self._counted(found)
        least = self._least_cosine()
        near = [] if least is None else await asyncio.to_thread(self._look_near, place, vector)
        for candidate in near:
            kept = plainly(candidate.one.question) if candidate.one else ""
            if least and await nearness.means_the_same(self._vector, kept, plain, least):
                return self._counted(candidate)
        return self._counted(_Search(vector=packed))

    async def put(self, place: _Place, one: Kept, vector: bytes | None) -> bool:
        """Write an answer down; False where it cannot be kept."""
        try:
            body = form.to_bytes(one)
        except TypeError as error:
            log.warning("an answer has no form to be kept in: %s", error)
            return False
        now = self._clock()
        scope = place.scope or ""
        key_name = place.api_key_name
        entry = Entry(place.key, scope, place.guard, key_name, one.answer.request_id, now, body, vector)
        task = self._behind(asyncio.to_thread(self.shelf.put, entry, now))
        await asyncio.wait({task}, timeout=WRITE_S)
        return not task.done() or task.result()

    def flight(self, key: str) -> "asyncio.Future[Kept | None] | None":
        """Return what an equal question is waited with, if one is being worked on."""
        return self._flights.get(key)

    def take_off(self, key: str) -> None:
        """Say that the answer to a question is being made."""
        self._flights[key] = asyncio.get_running_loop().create_future()

    def land(self, key: str, one: Kept | None) -> None:
        """Tell those who wait what came of it; None: nothing that can be given to them."""
        flight = self._flights.pop(key, None)
        if flight is not None and not flight.done():
            flight.set_result(one)

    def _look(self, key: str) -> "_Search":
        if not self.is_enabled():
            return _Search(enabled=False)
        now = self._clock()
        entry = self.shelf.look(key, now)
        one = None if entry is None else self._read(entry)
        if entry is None or one is None:
            return _Search()
        return _Search("exact", one, key, now - entry.at, 1.0)

    def _least_cosine(self) -> float | None:
        """Return from which cosine words mean the same to this model; None while that is being found out."""
        if self._probing is None or (self._probing.done() and self._probing.result() is None):
            self._probing = self._behind(nearness.least_cosine(self._vector))
            return None
        return self._probing.result() if self._probing.done() else None

    def _look_near(self, place: _Place, vector: Sequence[float]) -> "list[_Search]":
        """Return what may mean the same, the nearest first."""
        now = self._clock()
        most = min(MOST_VECTORS, MOST_PRODUCTS // len(vector))
        rows = self.shelf.near(place.scope or "", place.guard, now, most)
        near = [(keys.similarity(vector, keys.unpacked(data)), key) for key, data in rows]
        found: list[_Search] = []
        for cosine, key in sorted(near, reverse=True)[:MOST_CANDIDATES]:
            entry = self.shelf.look(key, now) if cosine >= self.settings.similarity else None
            one = None if entry is None else self._read(entry)
            if entry and one:
                found.append(_Search("meaning", one, key, now - entry.at, cosine))
        return found

    def _read(self, entry: Entry) -> Kept | None:
        try:
            return form.from_bytes(entry.body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("a kept answer cannot be read and is removed: %r", error)
            self.shelf.remove(entry.key)
            return None

    async def _vector(self, question: str) -> Sequence[float]:
        if self._embed is None:
            return ()
        try:
            async with asyncio.timeout(EMBED_S):
                return await self._embed(question)
        except Exception as error:
            log.info("no embedding of a question: %r", error)
            return ()

    def _counted(self, found: "_Search") -> "_Search":
        if found.enabled:
            self.counts[found.hit or "miss"] += 1
        if found.hit:
            self._behind(asyncio.to_thread(self.shelf.used, found.key, self._clock()))
        return found

    def _behind(self, work: Coroutine[Any, Any, _Result]) -> "asyncio.Task[_Result]":
        task = asyncio.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task


@dataclass(frozen=True, slots=True)
class _Search:
    """What was found: `hit` is "exact", "meaning", or empty. `vector` is the question's own, for keeping its answer."""

    hit: str = ""
    one: Kept | None = None
    key: str = ""
    age_s: float = 0.0
    similarity: float = 0.0
    vector: bytes | None = None
    enabled: bool = True


class Visit:
    """One question's visit: `found` is the answer to be given again; else `keep` takes the one that is made."""

    def __init__(self, cache: ResponseCache, query: Query, place: _Place) -> None:
        self._cache = cache
        self._query = query
        self._place: _Place | None = place  # None once answers are found to be switched off
        self._leads = False
        self._vector: bytes | None = None
        self.found: Answer | None = None

    async def __aenter__(self) -> "Visit":
        assert self._place is not None, "a visit is entered once"
        began = time.monotonic()
        while flight := self._cache.flight(self._place.key):
            if one := await self._wait_for(flight, began):
                self._cache.counts["exact"] += 1
                self._give(_Search("exact", one, similarity=1.0), began)
                return self
        self._cache.take_off(self._place.key)
        self._leads = True
        try:
            search = await self._cache.find(self._place, self._query.question)
        except BaseException:
            self._land(None)
            raise
        self._vector = search.vector
        if search.one is not None:
            self._give(search, began)
        if search.one is not None or not search.enabled:
            self._land(search.one if search.hit == "exact" else None)
        if not search.enabled:
            self._place = None
        return self

    async def __aexit__(self, *_: object) -> None:
        self._land(None)

    async def keep(self, answer: Answer) -> Answer:
        """Keep an answer, if it is settled, and let those who wait have it; return it with a note of that."""
        if self._place is None:
            return answer
        was_kept = False
        if form.is_settled(answer):
            one = form.kept(self._query.question, answer)
            was_kept = await self._cache.put(self._place, one, self._vector)
            self._land(one)
        return replace(answer, notes={**answer.notes, "cache": {"hit": None, "kept": was_kept}})

    async def _wait_for(self, flight: "asyncio.Future[Kept | None]", began: float) -> Kept | None:
        limit_s = self._query.timeout_s or self._cache.longest_wait_s
        done, _ = await asyncio.wait({flight}, timeout=max(0.0, began + limit_s - time.monotonic()))
        if not done:
            raise EngineTimeout(
                f"the same question was being answered already, and not within {limit_s:.0f} s",
                expected="an answer within the limit",
                try_next="ask again, or with `cache: false` to have it answered by itself",
            )
        return flight.result()

    def _give(self, search: _Search, began: float) -> None:
        assert search.one is not None
        self.found = form.given_again(
            search.one,
            hit=search.hit,
            age_s=search.age_s,
            similarity=search.similarity,
            request_id=self._query.request_id,
            seconds=time.monotonic() - began,
        )

    def _land(self, one: Kept | None) -> None:
        if self._leads and self._place is not None:
            self._leads = False
            self._cache.land(self._place.key, one)


def state_of(
    shelf: AnswerShelf, settings: CacheConfig, api_key_name: str | None = None, *, now: float
) -> dict[str, Any]:
    """Return the switch, the limits and what is kept, also where no Studium runs. Raises StoreUnavailable."""
    switched = shelf.switched()
    return {
        "enabled": settings.enabled if switched is None else switched,
        "source": "configuration" if switched is None else "changed at run time",
        "expiry_s": settings.expiry_s,
        "max_bytes": settings.max_size_bytes,
        "max_entries": settings.max_entries,
        "by_meaning": settings.by_meaning,
        "similarity": settings.similarity,
        "kept": shelf.figures(now, api_key_name),
    }


def _may_be_asked(query: Query, team: Team, refiners: Refiners | None) -> list[Student]:
    """Return everybody who may have a say in the answer to a query. Raises UnknownModel or OperatorError."""
    refining = [one for one in (refiners and (refiners.oracle, refiners.arbiter)) or () if one is not None]
    if query.model in (COURIER, MASTER):
        return [team.courier() if query.model == COURIER else team.master(), *refining]
    if query.model not in VIRTUAL_MODELS:
        return [team.student(query.model), *refining]
    members = [team.student(name) for name in query.students] or team.members()
    playing = [team.playing(part) for part in ("courier", "master", "judge")]
    return [*members, *(one for one in playing if one is not None), *refining]
