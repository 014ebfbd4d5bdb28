"""Graded replies in a real store: which pairs are counted, and that each is counted once."""

from dataclasses import replace
from itertools import combinations, count
from random import Random

import pytest

from studium.records.grades import GradedReply, PairCounts
from studium.store import open_store
from studium.store.replies import Asked


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "state.db")
    yield store
    store.close()


def reply(
    student: str, answer: str, *, sample: int = 0, question: str = "q1", model: str = "m"
) -> GradedReply:
    """Return a reply; 4 is right, and nothing is a decline."""
    return GradedReply(1.0, question, "sums", student, model, sample, answer, answer == "4")


def pairs(store, after: int = 0) -> dict[tuple[str, str], PairCounts]:
    return {(one.first, one.second): one for one in store.replies.pairs(after, store.replies.newest())}


def test_pairs_are_counted_by_who_was_right_and_whether_mistakes_were_the_same(store):
    said = [("4", "4"), ("4", "5"), ("5", "4"), ("5", "5"), ("5", "6")]
    for number, (one, other) in zip(count(), said, strict=False):
        question = f"q{number}"
        store.replies.add([reply("a", one, question=question), reply("b", other, question=question)])
    assert pairs(store) == {("a", "b"): PairCounts("sums", "a", "b", "m", "m", 1, 1, 1, 1, 1)}


def test_every_pair_is_counted_once_whenever_its_later_reply_came(store):
    store.replies.add([reply("a", "4")])
    first = store.replies.newest()
    assert pairs(store) == {}
    store.replies.add([reply("b", "5")])
    assert pairs(store, first)["a", "b"].first_only == 1
    assert pairs(store, store.replies.newest()) == {}


def test_a_further_try_counts_with_the_first_of_its_student_and_with_nobody_elses(store):
    store.replies.add([reply("a", "5"), reply("b", "4"), reply("a", "5", sample=1)])
    assert set(pairs(store)) == {("a", "b"), ("a", "a")}
    assert pairs(store)["a", "a"].same_mistake == 1


def test_who_declines_is_no_voice_beside_others_but_does_not_repeat_itself(store):
    store.replies.add([reply("a", ""), reply("b", "5"), reply("b", "", sample=1), reply("a", "5", sample=1)])
    assert set(pairs(store)) == {("b", "b")}
    assert (pairs(store)["b", "b"].same_mistake, pairs(store)["b", "b"].other_mistake) == (0, 1)


def test_tries_of_two_models_behind_one_name_are_no_tries_of_one_student(store):
    store.replies.add([reply("a", "5"), reply("a", "5", model="later")])
    assert pairs(store) == {}


def test_what_was_asked_before_stays_as_it_was(store):
    store.replies.add([reply("a", "5"), reply("b", "")])
    store.replies.add([reply("a", "4")])
    assert store.replies.answered("q") == {Asked("q1", "a", "m", 0): True, Asked("q1", "b", "m", 0): False}
    assert store.replies.answered("other") == {}


def test_the_oldest_go_first_and_pairs_that_were_counted_stay_counted(store):
    store.replies.add([reply("a", "4"), reply("b", "4"), replace(reply("c", "4"), question="q2")])
    assert store.replies.tidy(most=1) == 2
    assert set(store.replies.answered("")) == {Asked("q2", "c", "m", 0)}


def slowly(replies: list[GradedReply]) -> dict[tuple[str, str], list[int]]:
    """Count pairs one by one: both right, only the first, only the second, the same mistake, another."""
    found: dict[tuple[str, str], list[int]] = {}
    for one, other in combinations(replies, 2):
        tries = one.student == other.student and one.model == other.model
        strangers = one.student != other.student and one.sample == other.sample == 0 and other.answer
        if one.question != other.question or not one.answer or not (tries or strangers):
            continue
        alike = one.answer == other.answer
        outcome = {(1, 1): 0, (1, 0): 1, (0, 1): 2}.get((one.right, other.right), 3 if alike else 4)
        found.setdefault((one.student, other.student), [0] * 5)[outcome] += 1
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_database_counts_pairs_as_one_would_by_hand_in_one_go_or_in_several(store, seed: int):
    rng = Random(seed)
    asked = [(q, name, sample) for q in "xyz" for name in "abc" for sample in range(3)]
    rng.shuffle(asked)
    replies = [reply(name, rng.choice(["4", "5", "6", ""]), sample=n, question=q) for q, name, n in asked]
    counted: dict[tuple[str, str], list[int]] = {}
    after = 0
    for begin in range(0, len(replies), 10):
        store.replies.add(replies[begin : begin + 10])
        for whose, one in pairs(store, after).items():
            parts = (one.both, one.first_only, one.second_only, one.same_mistake, one.other_mistake)
            counted[whose] = [sum(two) for two in zip(counted.get(whose, [0] * 5), parts, strict=True)]
        after = store.replies.newest()
    assert counted == slowly(replies)
