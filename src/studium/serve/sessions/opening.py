"""Making a session and taking one up again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from studium.domains.topics import Topic
from studium.errors import BadRequest, StoreUnavailable, UnknownModel
from studium.records.models import Student
from studium.records.sessions import SessionPlan, SessionState
from studium.serve.sessions.folder import SessionFolder, checked_student
from studium.serve.sessions.ledger import Ledger, open_ledger

MOST_DURATION_S = 366 * 86400.0


def chosen_students(students: Mapping[str, Student], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the students' names, in roster order; all that generate where none are named.

    Raises UnknownModel naming the nearest.
    """
    able = [name for name, student in students.items() if not student.model.embeddings]
    if wanted is None:
        return tuple(able)
    for name in wanted:
        if name not in able:
            near = get_close_matches(name, able, n=1)
            raise UnknownModel(
                f"there is no student {name!r} that generates",
                expected=f"some of {', '.join(able)}",
                try_next=f"did you mean {near[0]!r}?" if near else "see: studium students list",
            )
    return tuple(name for name in able if name in wanted)


def begin(folder: SessionFolder, plan: SessionPlan, topic: Topic) -> Ledger:
    """Create a session on disk and return its ledger. The caller owns the session (see `ownership`).

    Raises BadRequest where there is one of that name or the plan makes no sense, StoreUnavailable.
    """
    check(plan)
    folder.proposals(topic.prefix)  # refuses a prefix that is no folder name
    ledger = open_ledger(folder.database)
    if ledger.created:
        ledger.close()
        raise BadRequest(
            f"there is a session {plan.name!r} already",
            expected="a new name",
            try_next=f"go on with it: studium session resume {plan.name}",
        )
    ledger.create(plan, prefix=topic.prefix, title=topic.title)
    return ledger


def take_up(folder: SessionFolder, *, more_s: float | None = None, more_cycles: int | None = None) -> Ledger:
    """Open a session to go on with it, given more time or cycles if wanted. The caller owns the session.

    Raises BadRequest where it has ended and is given nothing more, StoreUnavailable.
    """
    ledger = open_ledger(folder.database)
    if not ledger.created:
        ledger.close()
        raise StoreUnavailable(
            f"the session {folder.name!r} was never begun: its database is empty",
            expected="a session that was begun",
            try_next=f"begin it: studium session run {folder.name} --topic ...",
        )
    summary = ledger.summary()
    plan = summary.plan
    if more_s is not None:
        plan = replace(plan, duration_s=max(plan.duration_s, summary.active_seconds) + more_s)
    if more_cycles is not None:
        plan = replace(plan, max_cycles=max(plan.max_cycles or 0, summary.cycles) + more_cycles)
    if plan == summary.plan and summary.state is SessionState.FINISHED:
        ledger.close()
        raise BadRequest(
            f"the session {folder.name!r} has ended: {summary.reason}",
            expected="more time or cycles to go on with",
            try_next=f"studium session resume {folder.name} --duration 30",
        )
    check(plan)
    ledger.change_plan(plan)
    return ledger


def check(plan: SessionPlan) -> None:
    """Raise BadRequest where a plan makes no sense."""
    if not 0 < plan.duration_s <= MOST_DURATION_S:  # never true of NaN
        raise BadRequest(
            f"the duration is {plan.duration_s / 60:g} minutes",
            expected="more than zero and at most a year, in minutes",
            try_next=f"studium session run {plan.name} --topic {plan.topic} --duration 30",
        )
    for what, number in (("cycles", plan.max_cycles), ("tokens", plan.token_budget)):
        if number is not None and number < 1:
            raise BadRequest(f"{what} is {number}", expected="at least 1", try_next=f"leave --{what} out")
    if not plan.students:
        raise BadRequest(
            "the session has no students", expected="at least one", try_next="see: studium students list"
        )
    for student in plan.students:
        checked_student(student)
