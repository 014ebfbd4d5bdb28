"""A committee whose answers in free words stay apart asks the judge, and nobody else does."""

from collections.abc import Callable
from typing import Any

from tests.serve.briefs import brief, student
from tests.serve.plays import play, shown

from studium.domains.open_question import OPEN_QUESTION
from studium.records.answers import Complexity, Part
from studium.serve.calls import Brief, Call, Stage
from studium.serve.strategies.committee import committee

ESSAYS = {"a": "The sea is blue.", "b": "The sea is green because of algae.", "c": "Water."}


def open_brief(**changes: Any) -> Brief:
    fields: dict[str, Any] = {
        "recognised": False,
        "same": OPEN_QUESTION.same,
        "extract": OPEN_QUESTION.extract,
        "stages": (Stage(Complexity.MEDIUM, 1, 3, 0.95),),
    }
    return brief("abc", **(fields | changes))


def answering(says: dict[str, str]) -> Callable[[Call], str]:
    def say(call: Call) -> str:
        if call.part is Part.MEMBER:
            return says[call.student.name]
        first, second = (shown(call).split(f"<<answer {name}")[1].split("<</")[0] for name in "AB")
        return f"Verdict: {'A' if len(first) > len(second) else 'B'}"

    return say


def test_a_committee_that_stays_apart_is_decided_by_the_judge():
    b = open_brief(judge=student("j"))
    verdict, seen = play(b, committee(b), answering(ESSAYS))
    assert verdict.winner is not None and verdict.winner.student == "b"
    assert seen.asked.count("j") == 6
    assert verdict.complexity is None or verdict.complexity is Complexity.MEDIUM


def test_a_committee_that_agrees_needs_no_judge():
    b = open_brief(judge=student("j"))
    _, seen = play(b, committee(b), answering(dict.fromkeys("abc", "Jupiter")))
    assert "j" not in seen.asked


def test_where_a_domain_can_compare_the_judge_is_not_asked():
    b = open_brief(judge=student("j"), recognised=True)
    _, seen = play(b, committee(b), answering(ESSAYS))
    assert "j" not in seen.asked


def test_without_a_judge_a_committee_decides_by_weight_as_ever():
    b = open_brief()
    verdict, _ = play(b, committee(b), answering(ESSAYS))
    assert verdict.winner is not None and verdict.flags == ()
