"""Watches roll-outs in a running Studium: what each exposure tells is kept, and what follows from it is done.

Answers are handed over by `answered`, which only queues. Behind their back the challenger is asked the same in the
shadow, one question at a time and after everybody who waits for an answer (Priority.EVALUATION); the judge, where one
is named, compares in both orders. What the governor refuses is not asked. A busy server hands over more than can be
asked again: the oldest are let go, so that what is compared is what was asked lately.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from studium.errors import EngineTimeout, SpendingLimit, StudiumError
from studium.evals.gate.live import Side, Stream, judged
from studium.fleet import Fleet, tokens_at_most
from studium.manage import exposing, rollouts
from studium.manage.rollouts import Act, Seen, Step
from studium.records.adapters import Phase, Route
from studium.records.answers import Answer, Fate, MemberReply, Query
from studium.records.grades import Rating
from studium.records.messages import Ask, Reply
from studium.records.models import Student
from studium.records.rollouts import Exposure, Rollout
from studium.records.scheduling import Priority
from studium.registry import Registry
from studium.serve.governor.governor import Governor
from studium.serve.judging.forms import read_verdict, verdict_ask
from studium.serve.team.places import Place
from studium.serve.team.routing import Routing
from studium.serve.team.team import Team
from studium.store import Store

log = logging.getLogger(__name__)

ACTOR = "rollout"
MOST_WAITING = 100
# A seat is waited for longer than people and sessions may go before (`fleet.patience`, by priority).
SEAT_S, ASK_S = 300.0, 60.0
LOOK_S, REST_S = 1.0, 60.0
_TOLD = {Rating.GOOD: 1.0, Rating.BAD: 0.0, Rating.CORRECTED: 0.0}

_Heard = tuple[Query, Team, Answer, Place, exposing.Spoke]


@dataclass
class Watched:
    """One roll-out as far as this process has read it: `feedback` and `seen` (exposures) are the newest taken in.

    After something went wrong nothing is done for it before `rests_until` (monotonic seconds).
    """

    rollout: Rollout
    told: Seen = field(default_factory=Seen)
    seen: int = 0
    feedback: int = 0
    step: Step | None = None
    rests_until: float = 0.0


class Watch:
    """The roll-outs of one workspace as one process serves them. `work` runs until it is cancelled."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        routing: Routing,
        fleet: Fleet,
        governor: Governor,
        *,
        autopromote: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._registry = registry
        self._routing = routing
        self._fleet = fleet
        self._governor = governor
        self._autopromote = autopromote
        self._now = now
        self._waiting: deque[_Heard] = deque(maxlen=MOST_WAITING)
        self._came = asyncio.Event()
        self._looking = asyncio.Lock()
        self.watched: dict[int, Watched] = {}
        self.counts: Counter[str] = Counter()

    def answered(self, query: Query, team: Team, answer: Answer) -> None:
        """Take note of an answer, if a place it was given in has a challenger. Never waits."""
        for place in self._routing.challenged:
            if (found := exposing.spoke(query, answer, place)) is not None:
                self.counts["dropped"] += len(self._waiting) == MOST_WAITING
                self._waiting.append((query, team, answer, place, found))
                self._came.set()

    async def work(self) -> None:
        """Expose and step until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._expose(), name="exposing challengers")
            both.create_task(self._step(), name="stepping roll-outs")

    async def look(self) -> None:
        """Read what came, decide, and act: what `work` does every second."""
        async with self._looking:
            going = await asyncio.to_thread(self._store.rollouts.rollouts, only_going=True)
            # Another process may have ended one, and begun another of the same two.
            for number in self.watched.keys() - {rollout.number for rollout in going}:
                del self.watched[number]
            for rollout in going:
                await self._look_at(self.watched.setdefault(rollout.number, Watched(rollout)))

    async def _look_at(self, watched: Watched) -> None:
        """Read and act for one roll-out; what goes wrong there is no other's affair, and is tried again later."""
        if time.monotonic() < watched.rests_until:
            return
        try:
            await asyncio.to_thread(self._read, watched)
            await self._act(watched)
        except Exception:
            watched.rests_until = time.monotonic() + REST_S
            log.exception(
                "the roll-out of %s cannot go on; it is tried again in %g s", watched.rollout.role, REST_S
            )

    async def catch_up(self) -> None:
        """Expose all that was handed over."""
        while self._waiting:
            await self._take(*self._waiting.popleft())

    async def _expose(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            while self._waiting:
                try:
                    await self.catch_up()
                except Exception:  # of one question; the others and those that answer go on
                    log.exception("exposing a challenger went wrong")

    async def _step(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:
                log.exception("looking at roll-outs went wrong")

    # --- exposures -----------------------------------------------------------------------------

    async def _take(
        self, query: Query, team: Team, answer: Answer, place: Place, spoke: exposing.Spoke
    ) -> None:
        watched = next((one for one in self.watched.values() if _is_of(one.rollout, place)), None)
        if watched is None:  # no roll-out: a route somebody set by hand
            return
        sides: dict[Side, Mapping[str, float]] = {spoke.side: exposing.grades(query.question, spoke.reply)}
        if place.route.phase is Phase.SHADOW and place.challenger is not None:
            try:
                other = await self._ask(place.challenger, exposing.same_ask(query, ASK_S))
            except SpendingLimit:
                self.counts["refused"] += 1
                return
            if other is None:
                self.counts["dropped"] += 1
                return
            sides[Side.CHALLENGER] = exposing.grades(query.question, other)
            verdict = await self._judge(team, query, spoke.reply, other)
            if verdict is not None:
                sides[Side.CHAMPION] = {**sides[Side.CHAMPION], Stream.JUDGE: 0.0}
                sides[Side.CHALLENGER] = {**sides[Side.CHALLENGER], Stream.JUDGE: verdict}
        self.counts["exposed"] += 1
        row = exposing.exposure(watched.rollout.number, query, place, sides, kind=answer.kind, at=self._now())
        await asyncio.to_thread(self._store.rollouts.add, [row])

    async def _ask(self, student: Student, ask: Ask) -> MemberReply | None:
        """Ask somebody whom nobody waits for; None where it did not come to its turn, which is nobody's error.

        Raises SpendingLimit; other errors become the reply.
        """
        began = time.monotonic()
        seated = False
        try:
            async with (
                asyncio.timeout(SEAT_S + ASK_S),
                self._fleet.seat(
                    student,
                    timeout_s=SEAT_S,
                    priority=Priority.EVALUATION,
                    least_context_tokens=tokens_at_most(student, ask),
                    bill=self._governor.bill(),
                ) as seat,
                aclosing(seat.generate(ask)) as pieces,
            ):
                seated = True
                async for piece in pieces:
                    if isinstance(piece, Reply):
                        return MemberReply(
                            student.name,
                            Fate.ANSWERED,
                            text=piece.text,
                            generate_seconds=piece.seconds,
                            cost_usd=piece.cost_usd,
                            adapter=student.adapter,
                        )
        except SpendingLimit:
            raise
        except (StudiumError, TimeoutError) as error:
            if not seated and isinstance(error, EngineTimeout | TimeoutError):
                return None
            return MemberReply(student.name, Fate.FAILED, error=str(error), seconds=time.monotonic() - began)
        return MemberReply(student.name, Fate.FAILED, error="it ended without a reply")

    async def _judge(
        self, team: Team, query: Query, champion: MemberReply | None, challenger: MemberReply
    ) -> float | None:
        """Return by how much a judge finds the challenger ahead, asked in both orders; None where nobody could tell."""
        judge = team.playing("judge")
        if judge is None or champion is None or not challenger.text or not champion.text:
            return None
        if champion.text.strip() == challenger.text.strip():
            return 0.0
        able = self._fleet.engines[judge.model.engine].capabilities
        said: list[str | None] = []
        for order in ((Side.CHAMPION, Side.CHALLENGER), (Side.CHALLENGER, Side.CHAMPION)):
            texts = {Side.CHAMPION: champion.text, Side.CHALLENGER: challenger.text}
            ask = verdict_ask(judge, able, query.question, (texts[order[0]], texts[order[1]]), ASK_S)
            try:
                reply = await self._ask(judge, ask)
            except SpendingLimit:
                self.counts["refused"] += 1
                return None
            if reply is None:
                return None
            verdict = read_verdict(reply.text) if reply.text else None
            said.append({"A": order[0].value, "B": order[1].value}.get(verdict, "tie") if verdict else None)
        return judged(said[0], said[1])

    # --- steps ---------------------------------------------------------------------------------

    def _read(self, watched: Watched) -> None:
        """Take in exposures and feedback that came since. Blocks for the disk."""
        number = watched.rollout.number
        for said in self._store.rollouts.feedback(number, watched.feedback):
            watched.feedback = said.number
            self._store.rollouts.add(self._felt(number, said.request_id, said.rating))
        terms = rollouts.terms_of(watched.rollout)
        new = list(self._store.rollouts.exposures(number, watched.seen))
        if new:
            watched.told = rollouts.fold(watched.told, new, terms)
            watched.seen = new[-1].number

    def _felt(self, number: int, request_id: str, rating: str) -> list[Exposure]:
        """Return what feedback tells of the side that answered; nothing where it was taken in before."""
        seen = list(self._store.rollouts.exposures(number, request_id=request_id))
        if not seen or any(Stream.FEEDBACK in {**one.champion, **one.challenger} for one in seen):
            return []
        told = {str(Stream.FEEDBACK): _TOLD[Rating(rating)]}
        sides: dict[str, Any] = {"champion": told} if seen[0].champion else {"challenger": told}
        return [Exposure(number, self._now(), request_id, seen[0].phase, seen[0].kind, **sides)]

    async def _act(self, watched: Watched) -> None:
        route = await asyncio.to_thread(self._registry.route, watched.rollout.role)
        step = rollouts.next_step(route, watched.rollout, watched.told, autopromote=self._autopromote)
        watched.step = step
        if step.act not in (Act.NOTHING, Act.READY):
            act = partial(carry_out, self._store, self._registry, watched.rollout, step, route)
            await asyncio.to_thread(act, actor=ACTOR, at=self._now())
            log.info("roll-out of %s: %s, since %s", watched.rollout.role, step.act, step.why)
            await self._routing.refresh()
        if step.act in (Act.PROMOTE, Act.WITHDRAW, Act.OVER):
            self.watched.pop(watched.rollout.number, None)


def carry_out(
    store: Store, registry: Registry, rollout: Rollout, step: Step, route: Route, *, actor: str, at: float
) -> None:
    """Do what follows from a look at `route`; nothing where it was changed since, by another process say.

    Blocks for the disk. Raises LeaseLost, StoreUnavailable, BadRequest where the adapter cannot serve any more.
    """
    evidence, role = "", rollout.role
    if step.act in (Act.PROMOTE, Act.WITHDRAW):
        sealed = rollouts.seal(rollout, list(store.rollouts.exposures(rollout.number)), at=at)
        registry.add_evidence(sealed)
        evidence = sealed.id
    if step.act is not Act.OVER:
        with registry.lease(actor) as token:
            if registry.route(role) != route:
                return
            signed: dict[str, Any] = {"actor": actor, "token": token, "reason": step.why}
            if step.act is Act.SHARE:
                registry.challenge(role, rollout.challenger, Phase.SHIFT, step.share, **signed)
                return
            if step.act is Act.PROMOTE:
                registry.promote(role, rollout.challenger, evidence=evidence, **signed)
            else:
                registry.withdraw(role, evidence=evidence, **signed)
    store.rollouts.end(rollout.number, at=at, outcome=f"{step.act}: {step.why}", evidence=evidence)


def _is_of(rollout: Rollout, place: Place) -> bool:
    return (rollout.role, rollout.champion, rollout.challenger) == (
        place.role,
        place.route.champion,
        place.route.challenger,
    )
