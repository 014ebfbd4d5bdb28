"""Strategies are conversations without I/O: a table of who would say what stands in for the world."""

from dataclasses import replace

import pytest
from tests.serve.briefs import World, brief

from studium.records.answers import AnswerStatus, Complexity, Fate, MemberReply
from studium.serve.calls import Batch, Known, Stage, Strategy, Verdict
from studium.serve.strategies.committee import committee
from studium.serve.strategies.single import single


def reply(name: str, said: str | Fate) -> MemberReply:
    if isinstance(said, Fate):
        return MemberReply(name, said, text="I cannot answer that." if said is Fate.ABSTAINED else "")
    return MemberReply(name, Fate.ANSWERED, text=said, answer=said)


def carry_out(strategy: Strategy, says: dict[str, str | Fate]) -> tuple[Verdict, list[str]]:
    """Play a strategy to its end, one student after another; return its verdict and who was asked."""
    asked: list[str] = []
    try:
        batch: Batch = next(strategy)
        while True:
            got: list[MemberReply] = []
            names = [call.student.name for call in batch.calls]
            for name in names:
                if got and batch.settled(got):
                    break
                asked.append(name)
                got.append(reply(name, says[name]))
            got += [MemberReply(name, Fate.NOT_NEEDED) for name in names[len(got) :]]
            batch = strategy.send(got)
    except StopIteration as end:
        return end.value, asked


def test_a_committee_stops_once_three_of_five_agree():
    verdict, asked = carry_out(committee(brief("abcde")), dict.fromkeys("abcde", "4"))
    assert asked == ["a", "b", "c"]
    assert (verdict.status, verdict.winner and verdict.winner.answer) == (AnswerStatus.ANSWERED, "4")
    assert verdict.agreement == 1.0


def test_a_committee_goes_on_while_the_rest_could_change_the_answer():
    says = {"a": "4", "b": "5", "c": "4", "d": "5", "e": "5"}
    verdict, asked = carry_out(committee(brief("abcde")), dict(says))
    assert asked == list("abcde")
    assert verdict.winner is not None and verdict.winner.answer == "5"


def test_a_failed_student_is_data():
    says: dict[str, str | Fate] = {"a": Fate.FAILED, "b": "5", "c": Fate.LATE}
    verdict, _ = carry_out(committee(brief("abc")), says)
    assert verdict.winner is not None and verdict.winner.answer == "5"
    assert verdict.status is AnswerStatus.ANSWERED


def test_when_everyone_abstains_the_reserves_are_asked_and_then_it_says_that_it_cannot():
    says = dict.fromkeys("abcde", Fate.ABSTAINED)
    verdict, asked = carry_out(committee(brief("abc", "de")), dict(says))
    assert asked == list("abcde")
    assert verdict.status is AnswerStatus.UNABLE
    assert verdict.flags == ("fallback",)


def test_a_reserve_that_knows_saves_the_answer():
    says: dict[str, str | Fate] = {**dict.fromkeys("abc", Fate.ABSTAINED), "d": "7", "e": Fate.ABSTAINED}
    verdict, _ = carry_out(committee(brief("abc", "de")), says)
    assert verdict.winner is not None and verdict.winner.answer == "7"
    assert "fallback" in verdict.flags


def test_when_everything_fails_there_is_no_winner():
    verdict, _ = carry_out(committee(brief("abc")), dict(dict.fromkeys("abc", Fate.FAILED)))
    assert verdict.winner is None
    assert verdict.status is AnswerStatus.PARTIAL


def test_single_asks_the_next_student_only_when_the_first_has_no_answer():
    verdict, asked = carry_out(single(brief("a", "bc")), {"a": Fate.FAILED, "b": "4", "c": "4"})
    assert asked == ["a", "b"]
    assert verdict.flags == ("fallback",)


def test_words_are_live_only_where_nobody_could_replace_them():
    assert next(single(brief("a"))).live
    assert not next(single(brief("a", "b"))).live


def test_students_in_memory_are_asked_before_a_load_and_nobody_waits_for_one_with_them():
    at_hand = World(seconds={"a": 9.0, "b": 1.0, "c": 1.0}, loads={"a": 8.0})
    three = brief("abc", reliability={"a": 0.7, "b": 0.6, "c": 0.6}, world=at_hand)
    batch = next(committee(three))
    assert {call.student.name for call in batch.calls} == {"b", "c"}


def test_one_student_alone_is_heard_several_times_each_with_a_seed_of_its_own():
    one = brief("a", reliability={"a": 0.6}, stages=(Stage(Complexity.MEDIUM, 1, 5, 1.0),))
    batch = next(committee(one))
    assert [call.sample for call in batch.calls] == list(range(len(batch.calls)))
    assert len(batch.calls) > 1
    seeds = [call.ask.sampling.seed for call in batch.calls if call.ask is not None]
    assert len(set(seeds)) == len(batch.calls) - 1
    warm = [call.ask.sampling.temperature or 0.0 for call in batch.calls if call.ask is not None]
    assert min(warm) > 0


def test_a_further_try_of_a_strong_student_comes_before_a_load_of_weak_ones():
    """Where it was measured how strongly its tries go together, one model asked again is an option like any other."""
    world = World(seconds={"a": 1.0, "b": 20.0, "c": 20.0}, loads={"b": 19.0, "c": 19.0})
    known = {"a": Known(0.7, 50.0, "a", echo=0.2), "b": Known(0.4, 50.0, "b"), "c": Known(0.4, 50.0, "c")}
    stages = (Stage(Complexity.MEDIUM, 1, 3, 0.97),)
    strategy = committee(brief("abc", world=world, known=known, stages=stages))
    first = next(strategy)
    assert [call.student.name for call in first.calls] == ["a"]
    second = strategy.send([reply("a", "4")])
    assert (second.calls[0].student.name, second.calls[0].sample) == ("a", 1)


def who_is_asked_after_the_first(known: dict[str, Known], confidence: float = 0.97) -> list[tuple[str, int]]:
    stages = (Stage(Complexity.MEDIUM, 1, 3, confidence),)
    strategy = committee(brief("abc", known=known, world=World(room=1), stages=stages))
    first = next(strategy)
    (name,) = [call.student.name for call in first.calls]
    second = strategy.send([reply(name, "4")])
    return [(call.student.name, call.sample) for call in second.calls]


def test_a_further_try_is_not_taken_where_another_student_tells_more():
    known = {name: Known(0.7, 50.0, name, echo=0.2) for name in "abc"}
    assert who_is_asked_after_the_first(known) == [("b", 0)]


def test_a_further_try_is_not_taken_where_the_answer_of_everybody_once_is_wanted():
    known = {"a": Known(0.7, 50.0, "a", echo=0.1), "b": Known(0.4, 50.0, "b"), "c": Known(0.4, 50.0, "c")}
    assert who_is_asked_after_the_first(known) == [("a", 1)]
    assert who_is_asked_after_the_first(known, confidence=1.0) == [("b", 0)]


@pytest.mark.parametrize(("confidence", "calls"), [(0.97, 3), (0.9999, 2)])
def test_once_all_were_heard_tries_are_taken_only_while_they_could_make_it_sure(
    confidence: float, calls: int
):
    known = {name: Known(0.6, 50.0, name, echo=0.5) for name in "ab"}
    two = brief("ab", known=known, stages=(Stage(Complexity.MEDIUM, 1, 6, confidence),))
    strategy, asked = committee(two), 0
    with pytest.raises(StopIteration):
        batch = next(strategy)
        while True:
            asked += len(batch.calls)
            batch = strategy.send(
                [replace(reply(one.student.name, "4"), sample=one.sample) for one in batch.calls]
            )
    assert asked == calls


def test_a_further_try_is_not_taken_only_to_make_up_the_number_of_voices():
    known = {name: Known(0.8, 50.0, name, echo=0.5) for name in "ab"}
    two = brief("ab", known=known, stages=(Stage(Complexity.MEDIUM, 4, 6, 0.9),))
    assert carry_out(committee(two), {"a": "4", "b": "4"})[1] == ["a", "b"]
