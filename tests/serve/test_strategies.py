"""Strategies are conversations without I/O: a table of who would say what stands in for the world."""

from tests.serve.briefs import brief

from studium.records.answers import AnswerStatus, Fate, MemberReply
from studium.serve.calls import Batch, Strategy, Verdict
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
