"""Who would be asked a question, in which order, and why: what is known of each student, and what asking it would take.

Asks nobody and loads nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studium.domains.catalogue import recognise
from studium.domains.open_question import OPEN_QUESTION
from studium.fleet import Fleet
from studium.records.models import Student
from studium.serve.choosing.asking_order import LEAST_SECONDS, Option, asking_order, information
from studium.serve.choosing.evidence import Panel, Source
from studium.serve.history.evidence_history import USUAL_WRONG_ANSWERS, InCommon
from studium.serve.history.history import History


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one student stands where it stands in the order.

    `reliability` with `low` and `high` (90 %) is the share right expected at this kind, of which `grades` (faded)
    and `card` are the evidence, None where the card says nothing. `seconds` until it has answered, `load_seconds`
    of that to bring it into memory. `echo`: how strongly a further try goes with its first, 0 to 1, None where that
    was not measured. `information` is what its reply is expected to tell, in nats, asked first.
    """

    student: str
    tier: str
    reliability: float
    low: float
    high: float
    grades: float
    card: float | None
    level: float
    echo: float | None
    resident: bool
    seconds: float
    load_seconds: float
    information: float
    information_per_second: float


@dataclass(frozen=True, slots=True)
class Why:
    """The question's kind, what voices have in common there, and the students in the order they would be asked in."""

    kind: str
    described: str
    recognised: bool
    in_common: InCommon
    students: tuple[Reason, ...]


def why(question: str, students: Sequence[Student], history: History, fleet: Fleet) -> Why:
    """Return who would be asked now, the first first."""
    found = recognise(question) if len(students) > 1 else None
    kind = history.kind(question, found.name if found else "")
    seconds = {one.name: fleet.seconds_to_answer(one) for one in students}
    known = {one.name: history.known(one, kind) for one in students}
    guess = getattr(found, "wrong_answers", USUAL_WRONG_ANSWERS)
    shared = history.in_common(students, kind, guess)
    panel = Panel(
        {name: Source(name, one.reliability, one.family) for name, one in known.items()},
        (found or OPEN_QUESTION).same,
        wrong_answers=shared.wrong_answers,
        kinship=shared.kinship,
        commons=shared.commons,
        declines_count=found is None,
    )
    options = [Option(one.name, seconds[one.name], fleet.seconds_to_load(one)) for one in students]
    by_name = {one.name: one for one in students}
    resident = set(fleet.residency.resident())
    reasons = [
        _reason(by_name[option.name], kind, panel, history, fleet, seconds, resident)
        for option in asking_order(panel, (), options)
    ]
    return Why(kind, history.kinds.describe(kind), found is not None, shared, tuple(reasons))


def _reason(
    student: Student,
    kind: str,
    panel: Panel,
    history: History,
    fleet: Fleet,
    seconds: Mapping[str, float],
    resident: set[str],
) -> Reason:
    known = history.reliability.posterior(student, kind)
    bounds, told = known.interval(), information(panel, (), student.name)
    wait_s = seconds[student.name]
    return Reason(
        student=student.name,
        tier=student.tier.value,
        reliability=known.mean,
        low=bounds.low,
        high=bounds.high,
        grades=known.grades,
        card=known.card,
        level=history.reliability.level(student),
        echo=history.known(student, kind).echo,
        resident=student.model.name in resident,
        seconds=wait_s,
        load_seconds=max(0.0, wait_s - fleet.run_seconds(student)),
        information=told,
        information_per_second=told / max(wait_s, LEAST_SECONDS),
    )
