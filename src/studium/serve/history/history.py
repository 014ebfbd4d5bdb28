"""What a workspace has learned of its students: kinds, reliability and calibration, from its store and back into it.

`kind`, `known`, `in_common` and `calibrated` are on the path of a question: in memory, nothing is waited for. What was
answered is handed to `answered`, which only queues it; `work` grades and keeps it behind the request's back, and
takes in what others (feedback, calibration, another process) have added to the store.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from studium.config.schema import StoreConfig
from studium.domains.catalogue import all_domains
from studium.domains.protocol import Domain
from studium.errors import BadRequest, CallerError
from studium.evals.kinds import Cluster, Kinds
from studium.records.answers import Answer, AnswerStatus, Query
from studium.records.grades import (
    WHOLE,
    Feedback,
    Grade,
    GradedReply,
    KeptAnswer,
    PairCounts,
    Rating,
)
from studium.records.models import Student
from studium.serve.calls import Known
from studium.serve.history.calibration import Calibration, Pair, fit
from studium.serve.history.evidence_history import USUAL_WRONG_ANSWERS, InCommon, Together, added
from studium.serve.history.fingerprint import fingerprint
from studium.serve.history.grading import judged, kept, rated, repeated, verified
from studium.serve.history.reliability import Reliability, family_of
from studium.store import Store
from studium.store.replies import Asked

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""How often what was answered is learned from: together, so that a busy server spends milliseconds on it."""

TIDY_S = 3600.0
MOST_WAITING = 1000
"""Answers that wait to be learned from; beyond, the oldest are let go rather than memory filled."""

CALIBRATING = "calibrate-"
"""Begins the request ids of `studium models calibrate`, which grades what it asks itself."""

Json = dict[str, Any]
_Answered = tuple[Query, Answer, float]
Embed = Callable[[str], Awaitable[Sequence[float]]]


class UnknownAnswer(CallerError):
    """No kept answer has that id, or another caller was given it."""

    code = "unknown_answer"


class History:
    """What was graded, as experience. `embed` gives a question's embedding if that costs no load now, else nothing."""

    def __init__(
        self,
        store: Store,
        students: Mapping[str, Student],
        keeping: StoreConfig | None = None,
        *,
        embed: Embed | None = None,
    ) -> None:
        self._store = store
        self._students = dict(students)
        self.keeping = keeping or StoreConfig()
        self._embed = embed
        self.models = {name: fingerprint(student) for name, student in students.items()}
        self._spoke = {(one.name, one.adapter): self.models[one.name] for one in students.values()}
        self._standing: Mapping[str, Student] = self._students
        self._others: tuple[Student, ...] = ()
        self._moved: dict[str, Cluster] = {}
        self.kinds = Kinds(
            map(_cluster, store.answers.kinds()),
            save=lambda one: self._moved.update({one.name: one}),
            keep_words=self.keeping.keep_questions,
        )
        self._save_moved()
        self._waiting: deque[_Answered] = deque(maxlen=MOST_WAITING)
        self.reliability = Reliability((), students, self.models)
        self.calibration = self.open_calibration = Calibration()
        self._learning = asyncio.Lock()
        self._newest_grade = self._newest_reply = 0
        self._pairs: list[PairCounts] = []
        self._families = {name: family_of(student) for name, student in students.items()}
        self._known: dict[tuple[str, str], Known] = {}
        self.together = self._go_together()
        self.refresh()

    # On the path of a question: nothing here waits.

    def kind(self, question: str, domain: str) -> str:
        """Return the kind of a question: its domain's name, or where that is empty the cluster it is in."""
        return self.kinds.of(question, domain)

    def known(self, student: Student, kind: str) -> Known:
        """Return what is known of a student for a kind of question. Takes microseconds."""
        made = self._known  # another takes its place whenever something was learned
        found = made.get((student.name, kind))
        if found is None:
            echo = self.together.echo(student.name, kind)
            found = self.reliability.known(student, kind, family_of(student), echo)
            made[student.name, kind] = found
        return found

    def in_common(self, students: Sequence[Student], kind: str, wrong_answers: float) -> InCommon:
        """Return what these students' voices have in common at a kind of question. Takes microseconds.

        `wrong_answers` is the guess of who made the questions, for where nobody counted.
        """
        return self.together.in_common(kind, tuple(one.name for one in students), wrong_answers)

    def calibrated(self, confidence: float, kind: str = "") -> float:
        """Return how often answers of this computed confidence, to such questions, were right, 0 to 1."""
        return self.calibration_of(kind).of(confidence)

    def calibration_of(self, kind: str) -> Calibration:
        """Return the curve for such questions: those that domains can check have one, all others, of which only
        feedback tells, another. What is right about sums says nothing of poems."""
        return self.calibration if kind in all_domains() else self.open_calibration

    def answered(self, query: Query, answer: Answer) -> None:
        """Hand over what was answered, by students or from the cache. Never waits."""
        if query.request_id.startswith(CALIBRATING):
            return
        self._waiting.append((query, answer, time.time()))

    def stands(self, standing: Iterable[Student], others: Iterable[Student] = ()) -> None:
        """Take note of who stands where now, and which `others` (challengers) may speak. Never waits.

        A student with another model is another: what was learned of the one before counts as a few grades from now
        on (`reliability.MOST_FORMER_GRADES`). What the former said stays its own, also where it is learned from later.
        """
        self._standing = {**self._standing, **{one.name: one for one in standing}}
        self._others = tuple(others)

    # Behind its back.

    async def work(self) -> None:
        """Learn from what comes until cancelled."""
        tidied = -TIDY_S
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.catch_up()
                if time.monotonic() - tidied >= TIDY_S:
                    tidied = time.monotonic()
                    await asyncio.to_thread(self.tidy)
            except Exception:  # what is learned must not end the learning, and never a question
                log.exception("learning from what was answered went wrong")

    async def catch_up(self) -> None:
        """Learn from all that was answered before this was called, and from what others have added."""
        async with self._learning:
            learned: list[_Answered] = []
            for _ in range(len(self._waiting)):
                query, answer, at = self._waiting.popleft()
                meaning = await self._meaning(query.question, answer)
                kind = self.kinds.learn(query.question, _domain_name(answer), meaning)
                learned.append((query, answer if answer.kind == kind else replace(answer, kind=kind), at))
            await asyncio.to_thread(self._learn_all, learned)

    def refresh(self) -> None:
        """Fold new grades and replies in and take over the counts. Blocks. Raises StoreUnavailable."""
        self._take_in()
        grades, replies = self._store.grades, self._store.replies
        newest, newest_reply = grades.fold(), replies.newest()
        if newest == self._newest_grade and newest_reply == self._newest_reply:
            return
        if newest != self._newest_grade:
            self.reliability = Reliability(grades.counts(), self._students, self.models)
            self.calibration = fit(self._confidences(others=False))
            self.open_calibration = fit(self._confidences(others=True))
        if newest_reply != self._newest_reply:
            self._pairs += filter(self._present, replies.pairs(self._newest_reply, newest_reply))
        self.together = self._go_together()
        self._known = {}
        self._newest_grade, self._newest_reply = newest, newest_reply

    def tidy(self) -> None:
        """Remove answers that were kept long enough, and grades beyond what is kept of them."""
        keep_s = self.keeping.keep_answers_s if self.keeping.keep_questions else 0.0
        self._store.answers.tidy(time.time() - keep_s, self.keeping.max_answers_bytes)
        self._store.grades.tidy()
        self._store.replies.tidy()

    def rate(self, feedback: Feedback) -> Json:
        """Write feedback and grade by it; return what came of it. On disk when this returns. Blocks.

        An answer of a moment ago is known only after `catch_up`.

        Raises UnknownAnswer, BadRequest, StoreUnavailable.
        """
        answer = self._find(feedback)
        grades = rated(answer, feedback, _domain(answer))
        number = self._store.grades.add_feedback(feedback, grades)
        if feedback.rating is not Rating.GOOD:
            self._store.cache.forget(feedback.request_id)  # nobody is given a wrong answer again
        self.refresh()
        return {
            "id": number,
            "request_id": feedback.request_id,
            "rating": feedback.rating.value,
            "kind": answer.kind,
            "grades": {one.student: one.score for one in grades if one.student != WHOLE},
            "comparable": feedback.rating is not Rating.CORRECTED or bool(grades),
        }

    async def record(self, grades: Sequence[Grade], replies: Sequence[GradedReply] = ()) -> None:
        """Write grades that have keys, and replies, those which are there already left out, and learn from them."""
        await asyncio.to_thread(self._store.grades.add_new, grades)
        await asyncio.to_thread(self._store.replies.add, replies)
        await asyncio.to_thread(self.refresh)

    def heard(self, prefix: str) -> Mapping[Asked, bool]:
        """Return the graded replies to questions that begin so, and whether each gave an answer. Blocks."""
        return self._store.replies.answered(prefix)

    def scores(self, prefix: str) -> Mapping[str, float]:
        """Return the newest score of each grade whose key begins so. Blocks."""
        return self._store.grades.scores(prefix)

    def _present(self, counts: PairCounts) -> bool:
        """Say whether both were given by the models that stand behind these names now."""
        sides = ((counts.first, counts.first_model), (counts.second, counts.second_model))
        return all(self.models.get(name) == model for name, model in sides)

    def _go_together(self) -> Together:
        merged: dict[tuple[str, str, str], PairCounts] = {}
        for one in self._pairs:
            whose = (one.kind, one.first, one.second)
            merged[whose] = added(merged.get(whose), one)
        self._pairs = list(merged.values())
        mean = lambda name, kind: self.reliability.mean(self._students[name], kind)  # noqa: E731
        return Together(self._pairs, self._families, mean, _wrong_answers)

    def _confidences(self, *, others: bool) -> list[Pair]:
        found = self._store.grades.confidences(WHOLE, kinds=tuple(all_domains()), others=others)
        return [Pair(*one) for one in found]

    async def _meaning(self, question: str, answer: Answer) -> Sequence[float]:
        if self._embed is None or _domain_name(answer):
            return ()
        try:
            return await self._embed(question)
        except Exception as error:  # kinds by letters are good enough for now
            log.info("no embedding of a question: %s", error)
            return ()

    def _take_in(self) -> None:
        """Let those who stand now take the places of those before. Reads their files."""
        standing = self._standing
        for one in (*standing.values(), *self._others):
            if (one.name, one.adapter) not in self._spoke:
                self._spoke[one.name, one.adapter] = fingerprint(one)
        if standing is self._students:
            return
        self._students = standing
        self._families = {name: family_of(one) for name, one in standing.items()}
        models = {name: self._spoke[name, one.adapter] for name, one in standing.items()}
        if models != self.models:
            self.models = models
            self._pairs, self._newest_grade, self._newest_reply = [], -1, -1  # all is counted anew

    def _models_of(self, answer: Answer) -> Mapping[str, str]:
        """Return which models the members of an answer were when they spoke."""
        return self.models | {
            one.student: self._spoke.get((one.student, one.adapter), "") for one in answer.members
        }

    def _learn_all(self, answers: Sequence[_Answered]) -> None:
        self._take_in()
        for query, answer, at in answers:
            self._learn(query, answer, at)
        self._save_moved()
        self.refresh()

    def _learn(self, query: Query, answer: Answer, at: float) -> None:
        seen = kept(
            query,
            answer,
            at=at,
            computed=self.calibration_of(answer.kind).before(answer.confidence),
            models=self._models_of(answer),
        )
        cached = answer.notes.get("cache", {})
        if cached.get("hit"):  # graded when it was given first; those who gave it can still be rated for it
            first = self._store.answers.find(cached.get("of", ""), None)
            seen = replace(seen, members=first.members if first else ())
        else:
            self._store.grades.add([*verified(seen, _domain(seen)), *judged(seen, _scores_by_judge(answer))])
            self._store.replies.add(
                repeated(query, answer, _domain(seen), at=at, models=self._models_of(answer))
            )
        if self.keeping.keep_questions and query.request_id:
            self._store.answers.keep(seen)

    def _find(self, feedback: Feedback) -> KeptAnswer:
        found = self._store.answers.find(feedback.request_id, feedback.api_key_name)
        if found is not None:
            return found
        if not self.keeping.keep_questions:
            raise BadRequest(
                "no questions are kept here, so there is no answer to give feedback on",
                expected="a Studium with store.keep_questions: yes",
                try_next="set store.keep_questions in studium.yaml, and ask again",
            )
        raise UnknownAnswer(
            f"there is no answer {feedback.request_id[:64]!r} of yours",
            expected=f"the request_id of an answer of the last {self.keeping.keep_answers_s / 86400:g} days",
            try_next='studium ask "..." --explain shows it; by HTTP it is the header x-studium-request-id',
        )

    def _save_moved(self) -> None:
        """Save the clusters that questions moved since the last time, each once."""
        for cluster in self._moved.values():
            body = {
                "trigrams": sorted(cluster.trigrams.items()),
                "meaning": cluster.meaning,
                "words": cluster.words,
            }
            self._store.answers.save_kind(cluster.name, cluster.size, body)
        self._moved.clear()


def _cluster(row: tuple[str, int, Mapping[str, Any]]) -> Cluster:
    name, size, body = row
    trigrams = {int(bucket): float(weight) for bucket, weight in body["trigrams"]}
    return Cluster(name, trigrams, size, tuple(body["meaning"]), dict(body["words"]))


def _wrong_answers(kind: str) -> float:
    return getattr(all_domains().get(kind), "wrong_answers", USUAL_WRONG_ANSWERS)


def _domain_name(answer: Answer) -> str | None:
    return answer.domain if answer.domain in all_domains() else None


def _domain(answer: KeptAnswer) -> Domain | None:
    return all_domains().get(answer.domain)


def _scores_by_judge(answer: Answer) -> dict[str, float]:
    """Return what the judge thought of each member, its own answer left out; nothing where it could not tell."""
    note = answer.notes.get("judge")
    if answer.status is not AnswerStatus.ANSWERED or not isinstance(note, Mapping) or not note.get("decided"):
        return {}
    return {
        one["student"]: one["score"]
        for one in note["ranking"]
        if one["score"] is not None and one["student"] != note["judge"]
    }
