"""One turn of one student: its assignment, its words, the judge's verdict, and the record of all that."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from studium.domains.topics import Assignment, Judgement, Topic
from studium.errors import SpendingLimit, StudiumError, UnknownModel
from studium.fleet import Coming, Fleet
from studium.hardware import snapshot
from studium.records.messages import Finish
from studium.records.models import Student
from studium.records.runs import StudentRun
from studium.records.scheduling import Priority
from studium.records.sessions import SessionRun, Skip, Turn
from studium.serve.hearing import Heard
from studium.serve.sessions.asking import Limits, ask_once, asked_at, run_of
from studium.serve.sessions.folder import SessionFolder
from studium.serve.sessions.learn import Trial
from studium.serve.sessions.ledger import Ledger
from studium.serve.sessions.live import Live, Speaker
from studium.serve.sessions.projections import project_run
from studium.serve.sessions.refusals import SLOW_SECONDS, model_missing, why_slow

log = logging.getLogger(__name__)

JUDGE_LIMIT_S = 60.0
# What a run is taken to last where nothing is known, for the order of what is announced.
UNKNOWN_RUN_S = 10.0
# Of each student, on average: older ones hardly count any more (see `learn.DISCOUNT`).
TRIALS_KEPT = 100
NOT_JUDGED = Judgement(None, False, (), "")


class Desk:
    """Where turns are carried out and recorded. Knows all that was proposed (`known`) and tried (`trials`)."""

    def __init__(
        self,
        fleet: Fleet,
        students: Mapping[str, Student],
        topic: Topic,
        folder: SessionFolder,
        ledger: Ledger,
        *,
        seed: int,
        live: Live,
        tell: Callable[[str], None],
    ) -> None:
        self._fleet = fleet
        self._students = students
        self._topic = topic
        self._folder = folder
        self._ledger = ledger
        self._seed = seed
        self._live = live
        self._tell = tell
        self._expectation = fleet.expect()
        self._recording = asyncio.Lock()
        self._explained: set[str] = set()
        self.known: set[str] = set()
        self.trials: list[Trial] = []
        self.tokens = 0

    def recall(self) -> None:
        """Learn from every run recorded so far. Blocks on the database."""
        for run in self._ledger.runs():
            self._remember(run)

    def announce(self, waiting: Sequence[Turn]) -> None:
        """Tell the fleet whose models will be asked for next, so that it keeps or loads them ahead."""
        coming: list[Coming] = []
        in_s = 0.0
        for turn in waiting:
            coming.append(Coming(self._students[turn.student], in_s))
            in_s += turn.expected_s or UNKNOWN_RUN_S
        self._expectation.change(coming)

    async def take_turn(self, turn: Turn, cycle: int, *, seat_s: float, remaining_s: float) -> Skip | None:
        """Let a student work, judge and record it; return a Skip where it did not come to a run.

        Raises StoreUnavailable or OperatorError where the disk refuses.
        """
        student = self._students[turn.student]
        try:
            rng = Random(f"{self._seed}/{cycle}/{turn.student}")
            assignment = self._topic.assign(turn.student, cycle, rng, self.known)
        except StudiumError as error:  # as when all its problems are solved
            return Skip(turn.student, f"the topic gave it no work: {error.happened}")
        except Exception as error:  # a topic may be a plug-in: one bad assignment is one turn lost
            log.exception("the topic gave %s no work", turn.student)
            return Skip(turn.student, f"the topic gave it no work: {type(error).__name__}: {error}")
        limits = Limits(seat_s, turn.timeout_s, remaining_s, turn.max_tokens)
        speaker = self._live.speaking[turn.student] = Speaker(student.model.name, time.time())
        try:
            heard = await ask_once(
                self._fleet,
                student,
                assignment.prompt,
                limits,
                session=self._folder.name,
                on_seat=lambda: setattr(speaker, "seated", time.time()),
                on_piece=lambda piece: setattr(speaker, "pieces", speaker.pieces + bool(piece.text)),
            )
        finally:
            del self._live.speaking[turn.student]
        if heard is None:
            return Skip(turn.student, "the time was up while it worked")
        if isinstance(heard.error, SpendingLimit):
            return Skip(turn.student, heard.error.happened)
        async with self._recording:
            run = await self._judged(turn, run_of(heard, student, cycle), assignment, heard)
            await asyncio.to_thread(self._ledger.record, run)
            self._remember(run)
            await asyncio.to_thread(project_run, self._folder, self._topic.prefix, run)
        self._report(student, run, heard)
        return None

    async def _judged(
        self, turn: Turn, measured: StudentRun, assignment: Assignment, heard: Heard
    ) -> SessionRun:
        reply, seated = heard.reply, heard.seated or heard.ended
        run = SessionRun(
            run=measured,
            asked_at=asked_at(heard),
            priority=Priority.SESSION.name.lower(),
            queue_seconds=max(0.0, seated - heard.began - heard.load_seconds),
            run_seconds=heard.ended - seated,
            max_tokens=turn.max_tokens,
            subject=_clean(assignment.subject),
            prompt=_clean(assignment.prompt),
            facts=assignment.facts,
            finish=reply.finish.value if reply else "",
            reply=_clean(reply.text if reply else heard.said),
            error=_clean(str(heard.error)) if heard.error else "",
        )
        if reply is None:
            return replace(run, reason="failed, so there was nothing to judge")
        judgement = await self._judge(assignment, run.reply)
        return replace(
            run,
            score=judgement.score,
            useful=judgement.useful,
            keys=tuple(_clean(key) for key in judgement.keys),
            reason=_clean(judgement.reason),
        )

    async def _judge(self, assignment: Assignment, reply: str) -> Judgement:
        """Ask the topic's judge, off the event loop; what it cannot judge is not scored."""
        try:
            async with asyncio.timeout(JUDGE_LIMIT_S):
                return await asyncio.to_thread(self._topic.judge, assignment, reply, frozenset(self.known))
        except TimeoutError:
            reason = f"not judged within {JUDGE_LIMIT_S:.0f} s"
        except Exception as error:  # a topic may be a plug-in; a proposal is worth keeping all the same
            log.exception("judging went wrong")
            reason = f"judging went wrong: {type(error).__name__}: {error}"
        return replace(NOT_JUDGED, reason=reason)

    def _remember(self, run: SessionRun) -> None:
        self.known.update(run.keys)
        self.tokens += run.run.completion_tokens
        self.trials.append(as_trial(run))
        if len(self.trials) > 2 * TRIALS_KEPT * len(self._students):
            del self.trials[: -TRIALS_KEPT * len(self._students)]

    def _report(self, student: Student, run: SessionRun, heard: Heard) -> None:
        verdict = "useful" if run.useful else run.error or "not useful"
        reason = f": {shortened(run.reason)}" if run.reason and not run.error else ""
        self._tell(
            f"  {student.name} {run.run.seconds:.1f} s, {run.run.completion_tokens} tokens, {verdict}{reason}"
        )
        if isinstance(heard.error, UnknownModel):
            self.explain_missing(student, heard.error)
        if run.run_seconds > SLOW_SECONDS and "slow" not in self._explained:
            self._explained.add("slow")
            slow = why_slow(
                student, run.run_seconds, run.run.load_seconds, run.run.completion_tokens, snapshot()
            )
            self._tell(f"slow: {slow.happened}\n  expected: {slow.expected}\n  try: {slow.try_next}")

    def explain_missing(self, student: Student, error: UnknownModel) -> UnknownModel:
        """Say, once for each student, how its missing model is made; return the refusal."""
        refusal = model_missing(student, error)
        if student.name not in self._explained:
            self._explained.add(student.name)
            self._tell(f"missing: {refusal.happened}\n  try: {refusal.try_next}")
        return refusal


def as_trial(run: SessionRun) -> Trial:
    """Return what learning needs of a run."""
    return Trial(
        student=run.run.student,
        model=run.run.model,
        cycle=run.run.cycle,
        useful=run.useful,
        seconds=run.run_seconds,
        load_seconds=run.run.load_seconds,
        tokens=run.run.completion_tokens,
        max_tokens=run.max_tokens,
        cut=run.finish == Finish.LENGTH.value,
        seated=run.run_seconds > 0,
    )


def shortened(text: str, most: int = 160) -> str:
    """Return text that fits a line or two."""
    return text if len(text) <= most else text[: most - 3] + "..."


def _clean(text: str) -> str:
    """Return text that any database and file can hold: a model may send halves of characters."""
    return text.encode("utf-8", "replace").decode("utf-8")
