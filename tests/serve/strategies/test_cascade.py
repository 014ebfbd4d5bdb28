"""The courier first, the master as seldom as possible; but where small ones differ, its word is the last."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.serve.briefs import World, brief, student
from tests.serve.plays import Play, play

from studium.records.answers import AnswerStatus, Complexity, Fate
from studium.serve.calls import Brief, Known, Stage, Verdict
from studium.serve.strategies.cascade import cascade

SLOW_MASTER = World(seconds={"M": 10.0})


def house(names: str = "ab", *, wanted: float = 0.9, reliability: float = 0.6, **changes: Any) -> Brief:
    """A brief whose courier is the first of `names` and whose master is M."""
    made = brief(
        names + "M",
        reliability=dict.fromkeys(names, reliability) | {"M": 0.9},
        world=SLOW_MASTER,
        courier=student(names[0]),
        master=student("M"),
        stages=(Stage(Complexity.MEDIUM, 1, 6, wanted),),
    )
    return replace(made, **changes)


def cascaded(b: Brief, says: Mapping[str, str | Fate]) -> tuple[Verdict, Play]:
    return play(b, cascade(b), lambda call: says[call.student.name])


def test_a_sure_courier_is_enough():
    verdict, seen = cascaded(house(reliability=0.95), {"a": "4"})
    assert seen.asked == ["a"]
    assert verdict.winner is not None and verdict.winner.answer == "4"
    assert verdict.confidence >= 0.9


def test_a_second_cheap_one_that_agrees_may_save_the_master():
    verdict, seen = cascaded(house(), {"a": "4", "b": "4"})
    assert seen.asked == ["a", "b"]
    assert verdict.agreement == 1.0


def test_where_cheap_ones_differ_the_master_decides_even_alone():
    verdict, seen = cascaded(house(), {"a": "4", "b": "5", "M": "6"})
    assert seen.asked == ["a", "b", "M"]
    assert verdict.winner is not None and verdict.winner.student == "M"
    assert verdict.agreement == pytest.approx(1 / 3)


def test_the_master_is_not_outvoted_however_little_is_known_of_it():
    b = house()
    unknown = replace(b, known={**b.known, "M": Known(0.1, 0.0, "M")})
    verdict, _ = cascaded(unknown, {"a": "4", "b": "5", "M": "6"})
    assert verdict.winner is not None and verdict.winner.answer == "6"


def test_a_master_heard_because_of_doubt_alone_is_weighed_with_the_others():
    says = {"a": "4", "b": "4", "c": "I cannot answer that.", "M": "5"}
    verdict, seen = cascaded(house("abc", wanted=0.99), says)
    assert seen.asked == ["a", "b", "c", "M"]
    assert verdict.winner is not None and verdict.winner.answer == "4"
    assert verdict.notes["cascade"]["ended"] == "the master was heard: they are not sure enough"


@pytest.mark.parametrize("silent", [Fate.FAILED, Fate.LATE, "I cannot answer that."])
def test_a_silent_master_leaves_it_to_the_others_and_a_flag_says_so(silent: str | Fate):
    verdict, _ = cascaded(house(), {"a": "4", "b": "5", "M": silent})
    assert verdict.winner is not None and verdict.winner.answer == "4"
    assert "master_silent" in verdict.flags


def test_couriers_without_an_answer_send_the_question_on():
    silent = {"a": Fate.FAILED, "b": "I cannot answer that.", "M": "4"}
    verdict, seen = cascaded(house(reliability=0.95), silent)
    assert seen.asked == ["a", "b", "M"]
    assert verdict.winner is not None and verdict.winner.student == "M"


def test_where_certainty_is_wanted_two_that_agree_will_do():
    _, seen = cascaded(house(wanted=1.0), {"a": "4", "b": "4"})
    assert seen.asked == ["a", "b"]
    _, seen = cascaded(house(wanted=1.0), {"a": "4", "b": "5", "M": "5"})
    assert seen.asked == ["a", "b", "M"]
    _, seen = cascaded(house("a", wanted=1.0), {"a": "4", "M": "4"})
    assert seen.asked == ["a", "M"]


def test_cheap_ones_go_on_until_it_is_sure_and_none_is_slower_than_the_master():
    b = house("abcd", wanted=0.99)
    _, seen = cascaded(b, dict.fromkeys("abcdM", "4"))
    assert seen.asked == ["a", "b", "c"]
    slow = replace(b, outlook=World(seconds={"M": 1.0, "b": 20.0, "c": 20.0, "d": 20.0}))
    _, seen = cascaded(slow, dict.fromkeys("abcdM", "4"))
    assert seen.asked == ["a", "M"]


def test_the_master_is_asked_at_once_when_the_cheap_ones_left_could_not_make_it_sure():
    _, seen = cascaded(house("abcd", wanted=0.9999), dict.fromkeys("abcdM", "4"))
    assert seen.asked == ["a", "M"]
    _, seen = cascaded(house("abc", wanted=0.99), {"a": "4", "b": "5", "M": "5"})
    assert seen.asked == ["a", "b", "M"]


def test_a_third_cheap_one_may_tip_the_scales_where_two_differ():
    sure = house("abc", wanted=0.9, reliability=0.8)
    verdict, seen = cascaded(sure, {"a": "4", "b": "5", "c": "4"})
    assert seen.asked == ["a", "b", "c"]
    assert verdict.winner is not None and verdict.winner.answer == "4"


def test_where_answers_cannot_be_compared_a_second_one_is_not_asked_and_the_master_has_the_word():
    verdict, seen = cascaded(house(recognised=False), {"a": "an essay", "M": "a better one"})
    assert seen.asked == ["a", "M"]
    assert verdict.winner is not None and verdict.winner.student == "M"


def test_with_nobody_but_the_master_it_is_asked_alone():
    b = replace(house(), courier=student("M"), students=(student("M"),))
    _, seen = cascaded(b, {"M": "4"})
    assert seen.asked == ["M"]


def test_everybody_declining_is_said():
    verdict, _ = cascaded(house(), dict.fromkeys("abM", "I cannot answer that."))
    assert verdict.status is AnswerStatus.UNABLE
