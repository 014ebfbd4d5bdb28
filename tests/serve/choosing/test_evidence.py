"""Evidence: no voice hurts its group, the early stop loses nothing, declines count where they mean something."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studium.records.answers import Fate, MemberReply
from studium.serve.choosing.asking_order import Option, asking_order, information
from studium.serve.choosing.evidence import Panel, Source, Stop, effective, stop, together


def said(student: str, answer: str, confidence: float | None = None, sample: int = 0) -> MemberReply:
    return MemberReply(student, Fate.ANSWERED, answer=answer, confidence=confidence, sample=sample)


def declined(student: str) -> MemberReply:
    return MemberReply(student, Fate.ABSTAINED, text="I cannot answer that.")


def same(one: str, other: str) -> bool:
    return one == other


def panel(*reliabilities: float, declines_count: bool = False, families: str = "") -> Panel:
    """Return students a, b, c, ... with these reliabilities; `families` has a letter for each."""
    kin = families or " " * len(reliabilities)
    sources = {
        name: Source(name, reliability, family.strip())
        for name, reliability, family in zip("abcdefgh", reliabilities, kin, strict=False)
    }
    return Panel(sources, same, declines_count=declines_count)


@st.composite
def committees(draw: st.DrawFn) -> tuple[Panel, list[MemberReply]]:
    """Return a panel of two to six students in up to three families, and a reply of each, some of them twice."""
    number = draw(st.integers(2, 6))
    sources = {
        name: Source(
            name,
            draw(st.floats(0.0, 1.0)),
            draw(st.sampled_from(["", "x", "y"])),
            draw(st.floats(0.0, 1.0)),
            draw(st.floats(0.1, 0.9)),
            draw(st.floats(0.1, 0.9)),
        )
        for name in "abcdef"[:number]
    }
    who = draw(st.permutations([*sources, *sorted(sources)[: draw(st.integers(0, 2))]]))
    replies = [
        draw(
            st.one_of(
                st.just(declined(name)),
                st.just(MemberReply(name, Fate.FAILED)),
                st.builds(
                    said,
                    st.just(name),
                    st.sampled_from("123"),
                    st.one_of(st.none(), st.floats(0.0, 1.0)),
                ),
            )
        )
        for name in who
    ]
    return (
        Panel(
            sources,
            same,
            draw(st.floats(1.0, 20.0)),
            draw(st.floats(0.0, 1.0)),
            draw(st.floats(0.0, 1.0)),
            declines_count=draw(st.booleans()),
        ),
        replies,
    )


def winner(of: Panel, replies: list[MemberReply]) -> str | None:
    groups = of.groups(replies)
    return groups[0].answer if groups else "nobody"


@given(committees())
@settings(max_examples=400, deadline=None)
def test_the_answer_at_an_early_stop_is_the_answer_of_everybody(drawn: tuple[Panel, list[MemberReply]]):
    of, replies = drawn
    left = [reply.student for reply in replies]
    for number in range(len(replies)):
        if of.settled(replies[:number], left[number:]):
            assert winner(of, replies[:number]) == winner(of, replies)


@given(committees())
@settings(max_examples=300, deadline=None)
def test_a_voice_never_lowers_the_group_it_joins_nor_touches_another(drawn: tuple[Panel, list[MemberReply]]):
    of, replies = drawn
    before = {group.answer: group.weight for group in of.groups(replies[:-1])}
    after = {group.answer: group.weight for group in of.groups(replies)}
    joined = next((group.answer for group in of.groups(replies) if replies[-1] in group.replies), "nobody")
    for answer, weight in before.items():
        if answer == joined:
            assert after[answer] >= weight - 1e-9
        else:
            assert after[answer] == pytest.approx(weight)


@given(committees())
@settings(max_examples=200, deadline=None)
def test_probabilities_of_all_answers_sum_to_one_at_most(
    drawn: tuple[Panel, list[MemberReply]],
):
    of, replies = drawn
    groups = of.groups(replies)
    assert sum(group.probability for group in groups) <= 1.0 + 1e-9
    assert all(0.0 <= group.probability <= 1.0 for group in groups)


@given(committees())
@settings(max_examples=200, deadline=None)
def test_no_weight_passes_its_ceiling_and_none_is_negative(
    drawn: tuple[Panel, list[MemberReply]],
):
    of, replies = drawn
    for reply in replies:
        declining = reply.fate is Fate.ABSTAINED
        assert 0.0 <= of.weight(reply) <= of.ceiling(reply.student, declining=declining)


def test_a_lone_voice_is_believed_as_far_as_it_is_reliable():
    assert panel(0.7).groups([said("a", "4")])[0].probability == pytest.approx(0.7)


def test_a_student_no_better_than_chance_carries_nothing():
    of = panel(1 / 11, 0.01, 0.5)
    assert of.weight(said("a", "4")) == pytest.approx(0.0)
    assert of.weight(said("b", "4")) == 0.0
    assert winner(of, [said("a", "4"), said("b", "4"), said("c", "5")]) == "5"


def test_one_that_is_good_here_outweighs_two_that_are_not():
    of = panel(0.2, 0.2, 0.9)
    assert winner(of, [said("a", "4"), said("b", "4"), said("c", "5")]) == "5"


def test_three_of_five_equals_that_agree_settle_it_and_two_do_not():
    of = panel(0.6, 0.6, 0.6, 0.6, 0.6)
    assert of.settled([said(name, "4") for name in "abc"], "de")
    assert not of.settled([said(name, "4") for name in "ab"], "cde")


def test_nobody_left_is_always_settled_and_silence_with_some_left_never():
    assert panel(0.5).settled([], ())
    assert not panel(0.5).settled([], ("a",))


def test_two_of_a_family_count_for_less_than_two_strangers():
    strangers = panel(0.6, 0.6, 0.6).groups([said("a", "4"), said("b", "4")])[0].weight
    kin = panel(0.6, 0.6, 0.6, families="xxx").groups([said("a", "4"), said("b", "4")])[0].weight
    alone = panel(0.6).groups([said("a", "4")])[0].weight
    assert alone < kin < strangers


def test_a_student_asked_twice_counts_for_less_than_two_of_a_family():
    twice = panel(0.6, families="x").groups([said("a", "4"), said("a", "4", sample=1)])[0].weight
    kin = panel(0.6, 0.6, families="xx").groups([said("a", "4"), said("b", "4")])[0].weight
    assert twice < kin


def test_five_that_say_they_cannot_outweigh_an_unsure_one_where_no_domain_knows_the_question():
    replies = [*map(declined, "abcde"), said("f", "380", 0.6)]
    of = panel(0.5, 0.5, 0.5, 0.5, 0.5, 0.5, declines_count=True)
    assert of.groups(replies)[0].answer is None
    assert winner(panel(*[0.5] * 6), replies) == "380"


def test_one_known_to_be_good_at_this_kind_stands_against_five_that_decline():
    replies = [*map(declined, "abcde"), said("f", "3000")]
    of = panel(0.5, 0.5, 0.5, 0.5, 0.5, 0.95, declines_count=True)
    assert winner(of, replies) == "3000"


def test_declines_are_inside_the_bound_of_the_early_stop():
    of = panel(0.5, 0.5, 0.5, 0.5, declines_count=True)
    assert not of.settled([said("a", "4", 0.3)], "bcd")
    assert of.settled([said("a", "4"), said("b", "4"), said("c", "4")], "d")


def test_asking_ends_when_settled_when_sure_and_when_spent():
    of = panel(0.6, 0.6, 0.6, 0.6, 0.6)
    two = [said("a", "4"), said("b", "4")]
    assert stop(of, [*two, said("c", "4")], "de") is Stop.SETTLED
    assert stop(of, two, "cde", confidence=0.9) is Stop.SURE
    assert stop(of, two, "cde", confidence=0.9, at_least=3) is None
    assert stop(of, two, "cde", confidence=0.9, calibrated=lambda _: 0.5) is None
    assert stop(of, two, "cde") is None
    assert stop(of, two, "cde", spent=True) is Stop.SPENT


def test_shares_of_correlated_voices_end_at_one_voice_and_at_all_of_them():
    assert together([2.0, 3.0], 1.0) == pytest.approx(3.0)
    assert together([2.0, 3.0], 0.0) == pytest.approx(5.0)
    assert effective(3, 0.5) == pytest.approx(1.5)
    assert together([], 0.5) == 0.0


def options(of: Panel, **seconds: float) -> list[Option]:
    return [Option(name, seconds.get(name, 1.0)) for name in of.sources]


def test_the_most_reliable_is_asked_first_where_seconds_are_equal():
    of = panel(0.2, 0.6, 0.4)
    assert [one.name for one in asking_order(of, [], options(of))] == ["b", "c", "a"]


def test_a_resident_second_best_goes_before_an_evicted_best():
    of = panel(0.62, 0.55, 0.4)
    assert asking_order(of, [], options(of, a=8.0, b=2.0, c=8.0))[0].name == "b"


def test_whoever_is_in_memory_goes_first_where_loads_matter_and_nobody_waits_for_a_load_with_them():
    of = panel(0.62, 0.55, 0.4)
    some = [Option("a", 11.0, 5.0), Option("b", 6.0), Option("c", 6.0)]
    assert [one.name for one in asking_order(of, [], some)] == ["b", "c", "a"]
    quick = [Option("a", 1.01, 0.01), *some[1:]]
    assert asking_order(of, [], quick)[0].name == "a"


def test_being_in_memory_is_no_merit_of_one_that_has_nothing_to_tell():
    of = panel(0.9, 0.05, 0.05)
    some = [Option("a", 11.0, 5.0), Option("b", 6.0), Option("c", 6.0)]
    assert asking_order(of, [], some)[0].name == "a"


def test_all_going_together_lowers_what_agreement_is_worth_but_not_a_lone_voice():
    alone, two = [said("a", "4")], [said("a", "4"), said("b", "4")]
    of = panel(0.6, 0.6)
    common = replace(of, commons=0.3)
    assert common.groups(alone)[0].weight == of.groups(alone)[0].weight
    assert alone_weight(common) < common.groups(two)[0].weight < of.groups(two)[0].weight


def alone_weight(of: Panel) -> float:
    return of.groups([said("a", "4")])[0].weight


def test_what_agreement_could_still_make_of_the_leader_is_found_by_trying():
    of = panel(0.6, 0.5, 0.4)
    best = of.groups([said("a", "4"), said("b", "4"), said("c", "4")])[0].probability
    assert of.most_probable([said("a", "4")], "bc") == pytest.approx(best)
    assert of.most_probable([], ()) == 0.0


def test_of_equals_the_one_given_first_is_asked_first():
    of = panel(0.5, 0.5, 0.5)
    assert [one.name for one in asking_order(of, [], options(of))] == ["a", "b", "c"]


def test_a_stranger_is_asked_before_one_of_the_same_family():
    of = panel(0.6, 0.6, 0.58, families="xxy")
    assert [one.name for one in asking_order(of, [said("a", "4")], options(of)[1:])] == ["c", "b"]


def test_a_voice_that_cannot_flip_the_answer_alone_still_tells_something():
    of = panel(0.8, 0.4, 0.4)
    assert information(of, [said("a", "4")], "b") > 0.01


def test_one_that_only_repeats_itself_tells_nothing():
    of = Panel({"a": Source("a", 0.6, echo=1.0)}, same)
    assert information(of, [said("a", "4")], "a") == pytest.approx(0.0)


@given(committees())
@settings(max_examples=100, deadline=None)
def test_information_is_never_negative_nor_more_than_there_is_to_know(
    drawn: tuple[Panel, list[MemberReply]],
):
    of, replies = drawn
    for name in of.sources:
        assert 0.0 <= information(of, replies, name) < 4.0


def test_random_committees_stop_early_often_enough_to_matter():
    rng = Random(7)
    of, asked = panel(0.62, 0.55, 0.4, 0.34, 0.21), 0
    for _ in range(200):
        truth, replies = str(rng.randrange(11)), list[MemberReply]()
        left = list(of.sources)
        while not of.settled(replies, left):
            name = left.pop(0)
            right = rng.random() < of.sources[name].reliability
            replies.append(said(name, truth if right else str(rng.randrange(11))))
        asked += len(replies)
    assert asked < 200 * 4
