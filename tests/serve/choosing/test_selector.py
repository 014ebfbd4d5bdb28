"""What is decided in typical circumstances, and that the record says why."""

from collections.abc import Sequence
from typing import Any

import pytest

from studium.records.answers import Complexity, Considered, Decision
from studium.serve.calls import Known
from studium.serve.choosing.selector import WAYS, Candidate, Circumstances, select


def candidate(
    name: str, reliability: float, *, evidence: float = 50.0, seconds: float = 1.0, **more: Any
) -> Candidate:
    return Candidate(name, Known(reliability, evidence, name), seconds, **more)


def decide(candidates: Sequence[Candidate], **changes: Any) -> Decision:
    fields = {"complexity": Complexity.MEDIUM, "limit_s": 45.0, "comparable": True, "confidence": 0.95}
    return select(Circumstances(candidates, **(fields | changes)))


def way(decision: Decision, strategy: str) -> Considered:
    return next(one for one in decision.considered if one.strategy == strategy)


MIDDLING = [candidate(name, 0.7) for name in "abcd"]


def test_students_that_are_often_wrong_are_asked_together():
    decision = decide(MIDDLING)
    assert decision.strategy == "committee"
    assert (way(decision, "committee").accuracy or 0) > (way(decision, "single").accuracy or 1)


def test_one_that_is_nearly_always_right_is_asked_alone_where_nobody_else_knows_anything():
    decision = decide(
        [candidate("a", 0.99), candidate("b", 0.02, seconds=40.0), candidate("c", 0.01, seconds=40.0)]
    )
    assert decision.strategy == "single"
    assert decision.reason == "a is right in 99% of such questions"


def test_a_second_one_that_knows_the_question_is_worth_having_at_hand():
    decision = decide([candidate("a", 0.95), candidate("b", 0.9, seconds=2.0)])
    assert decision.strategy == "committee"


def test_a_complexity_that_asks_several_is_obeyed():
    decision = decide([candidate("a", 0.99), candidate("b", 0.3)], least_students=4)
    assert decision.strategy == "committee"
    assert way(decision, "single").value is None and "4 at least" in way(decision, "single").why


def test_alone_is_alone():
    decision = decide([candidate("a", 0.2)])
    assert (decision.strategy, decision.reason) == ("single", "there is nobody else to ask")


def test_the_caller_decides_but_what_was_weighed_is_still_told():
    decision = decide(MIDDLING, forced="debate")
    assert (decision.strategy, decision.reason) == ("debate", "chosen by the caller")
    assert {one.strategy for one in decision.considered} == set(WAYS)


COURIERS = [
    candidate("c", 0.8),
    candidate("d", 0.75),
    candidate("e", 0.3, seconds=15.0),
    candidate("M", 0.97, seconds=25.0),
]


def test_a_cascade_is_taken_where_the_master_is_good_and_slow():
    decision = decide(COURIERS, courier="c", master="M")
    assert decision.strategy == "cascade"
    assert decision.reason.startswith("c and d first, M in ")
    found = way(decision, "cascade")
    assert 0.9 < (found.accuracy or 0) < 1.0
    assert 2.0 < (found.seconds or 0) < 2.0 + 25.0


def test_a_courier_that_is_sure_enough_never_costs_the_master():
    found = way(decide([candidate("c", 0.96), *COURIERS[1:]], courier="c", master="M"), "cascade")
    assert found.accuracy == 0.96 and found.seconds == 1.0


def test_without_a_second_cheap_one_a_doubtful_courier_always_leads_to_the_master():
    found = way(decide([COURIERS[0], COURIERS[3]], courier="c", master="M"), "cascade")
    assert (found.accuracy, found.seconds) == (0.97, 26.0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "no courier and master"),
        ({"courier": "c", "master": "M", "comparable": False}, "nobody can tell"),
    ],
)
def test_no_cascade_without_its_parts_or_without_a_way_to_compare(changes: dict[str, Any], why: str):
    assert way(decide(COURIERS, **changes), "cascade").value is None
    assert why in way(decide(COURIERS, **changes), "cascade").why


OPEN = {"comparable": False, "complexity": Complexity.COMPLEX, "judge": True, "limit_s": 90.0}


def test_an_open_question_of_weight_is_debated_where_a_judge_can_tell():
    decision = decide(MIDDLING, **OPEN)
    assert decision.strategy == "debate" and "judge" in decision.reason
    found = way(decision, "debate")
    assert found.by_form and found.value is None and found.accuracy is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"judge": False}, "no judge"),
        ({"complexity": Complexity.SIMPLE}, "does not pay"),
        ({"comparable": True}, "can be compared"),
        ({"limit_s": 5.0}, "no time"),
        ({"most_usd": 0.01}, "no time or money"),
    ],
)
def test_no_debate_where_it_cannot_be_decided_paid_or_ended(changes: dict[str, Any], why: str):
    paid = [candidate(name, 0.7, cost_usd=0.01) for name in "abcd"]
    decision = decide(paid, **(OPEN | changes))
    assert decision.strategy != "debate"
    assert why in way(decision, "debate").why


def parts(*reliabilities: float, evidence: float = 50.0) -> list[dict[str, Known]]:
    return [{name: Known(p, evidence, name) for name in "abcd"} for p in reliabilities]


def test_a_question_of_several_is_taken_apart_and_its_accuracy_is_that_of_its_parts():
    decision = decide(MIDDLING, comparable=False, parts=parts(0.9, 0.7))
    assert decision.strategy == "clone_dispatch" and decision.reason.startswith("2 questions in one")
    assert way(decision, "clone_dispatch").accuracy == pytest.approx(0.8)
    assert way(decision, "clone_dispatch").seconds == 2.0


def test_slots_shorten_what_clones_take():
    wide = [candidate("a", 0.7, slots=4)]
    assert way(decide(wide, parts=parts(0.5, 0.5, 0.5)), "clone_dispatch").seconds == 1.0


def test_of_what_nothing_is_known_no_accuracy_is_told():
    strangers = [candidate(name, 0.5, evidence=0.0) for name in "abcd"]
    decision = decide(strangers, comparable=False, parts=parts(0.5, 0.5, evidence=0.0))
    assert all(one.accuracy is None for one in decision.considered)
    assert "nothing is known yet" in way(decision, "single").why


def test_a_way_that_does_not_exist_here_is_not_taken():
    decision = decide(MIDDLING, **OPEN, parts=parts(0.9, 0.9), available=("single", "committee"))
    assert decision.strategy in ("single", "committee")


def test_money_is_weighed_where_it_is_limited():
    dear = [candidate("a", 0.9), *(candidate(name, 0.9, cost_usd=1.0) for name in "bcd")]
    assert decide(dear).strategy == "committee"
    limited = decide(dear, most_usd=0.01, confidence=0.9)
    assert (way(limited, "committee").value or 1) < (way(decide(dear), "committee").value or 0)
    sure = [candidate("a", 0.99), *(candidate(name, 0.5, cost_usd=1.0) for name in "bcd")]
    assert decide(sure, most_usd=0.01, confidence=1.0).strategy == "single"
