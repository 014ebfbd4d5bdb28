"""Votes, groups and the early stop, against a brute-force reading of what "settled" means."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studium.records.answers import Fate, MemberReply
from studium.serve import consensus


def said(student: str, answer: str, confidence: float | None = None) -> MemberReply:
    return MemberReply(student, Fate.ANSWERED, text=answer, answer=answer, confidence=confidence)


def same(one: str, other: str) -> bool:
    return one == other


ONES = dict.fromkeys("abcdefg", 1.0)


def test_answers_that_mean_the_same_are_one_group_and_the_largest_leads():
    groups = consensus.group([said("a", "4"), said("b", "5"), said("c", "5")], ONES, same)
    assert [(one.answer, len(one.replies)) for one in groups] == [("5", 2), ("4", 1)]
    assert consensus.agreement(groups) == pytest.approx(2 / 3)


def test_a_student_that_abstained_or_failed_has_no_vote():
    replies = [MemberReply("a", Fate.ABSTAINED, text="no"), MemberReply("b", Fate.FAILED), said("c", "5")]
    groups = consensus.group(replies, ONES, same)
    assert consensus.agreement(groups) == 1.0
    assert [one.answer for one in groups] == ["5"]


def test_a_sure_student_outweighs_two_that_guess():
    groups = consensus.group([said("a", "4", 0.3), said("b", "4", 0.3), said("c", "5", 0.9)], ONES, same)
    assert groups[0].answer == "5"


def test_a_student_known_to_be_weak_here_weighs_little():
    ceilings = {"a": 0.2, "b": 0.2, "c": 0.9}
    groups = consensus.group([said("a", "4"), said("b", "4"), said("c", "5")], ceilings, same)
    assert groups[0].answer == "5"


def test_three_of_five_that_agree_are_enough_and_two_are_not():
    three = consensus.group([said(name, "4") for name in "abc"], ONES, same)
    two = consensus.group([said(name, "4") for name in "ab"], ONES, same)
    assert consensus.settled(three, [1.0, 1.0])
    assert not consensus.settled(two, [1.0, 1.0, 1.0])


def test_nobody_left_is_always_settled():
    assert consensus.settled([], [])
    assert consensus.settled(consensus.group([said("a", "1"), said("b", "2")], ONES, same), [])


def test_the_first_batch_is_a_bare_majority():
    assert [consensus.fewest_to_settle([], [1.0] * n) for n in (1, 2, 3, 5, 6)] == [1, 2, 2, 3, 4]


def test_confidence_grows_with_those_who_agree_and_falls_with_dissent():
    def sure(*replies: MemberReply) -> float:
        return consensus.confidence(consensus.group(replies, ONES, same), ONES)

    one, two = sure(said("a", "4", 0.8)), sure(said("a", "4", 0.8), said("b", "4", 0.8))
    dissent = sure(said("a", "4", 0.8), said("b", "4", 0.8), said("c", "5", 0.8))
    assert 0 < one < two < 1
    assert dissent < two
    assert sure() == 0.0


@settings(max_examples=200, deadline=None)
@given(
    spoken=st.lists(st.tuples(st.sampled_from("xyz"), st.floats(0, 1)), max_size=4),
    left=st.lists(st.floats(0.1, 1), max_size=3),
)
def test_settled_means_that_no_continuation_changes_the_answer(spoken, left):
    replies = [said(f"s{i}", answer, weight) for i, (answer, weight) in enumerate(spoken)]
    ceilings = {f"s{i}": 1.0 for i in range(len(spoken))} | {f"l{i}": top for i, top in enumerate(left)}
    groups = consensus.group(replies, ceilings, same)
    if not groups or not consensus.settled(groups, left):
        return
    for answers in itertools.product("wxyz-", repeat=len(left)):
        more = [said(f"l{i}", answer, 1.0) for i, answer in enumerate(answers) if answer != "-"]
        assert consensus.group([*replies, *more], ceilings, same)[0].answer == groups[0].answer
