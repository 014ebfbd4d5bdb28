"""Parts go to clones of one student; what it cannot answer goes on once; what nobody answers is said."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.serve.briefs import World, brief, student
from tests.serve.plays import Play, play, shown

from studium.records.answers import AnswerStatus, Fate, Part
from studium.records.messages import Message
from studium.serve.calls import Brief, Call, Known, SubQuestion, Verdict
from studium.serve.strategies.clone_dispatch import clone_dispatch, fastest_of_the_best
from studium.serve.strategies.splitting import read_split

DECLINES = "I cannot answer that."


def dispatched(b: Brief, says: Callable[[Call], str | Fate]) -> tuple[Verdict, Play]:
    return play(b, clone_dispatch(b), says)


def by_part(answers: Mapping[str, Any]) -> Callable[[Call], str | Fate]:
    """Answer by the part asked, or by student and part."""
    return lambda call: answers.get(f"{call.student.name}:{shown(call)}", answers.get(shown(call), DECLINES))


def two_parts(names: str = "ab", reserves: str = "", **changes: Any) -> Brief:
    return brief(names, reserves, parts=("one?", "two?"), recognised=False, **changes)


def test_clones_of_one_student_answer_all_parts_in_one_batch_and_the_answers_are_joined_in_order():
    verdict, seen = dispatched(two_parts(), by_part({"one?": "1", "two?": "line\nAnswer: 2"}))
    assert len(seen.batches) == 1
    assert seen.asked == ["a", "a"] and all(call.part is Part.SUB_ANSWER for call in seen.calls)
    assert verdict.text == "1. 1\n\n2. line\n   Answer: 2"
    assert verdict.status is AnswerStatus.ANSWERED
    assert verdict.winner is not None and (verdict.winner.student, verdict.winner.answer) == ("a", None)


def test_nothing_is_passed_on_before_it_is_joined():
    _, seen = dispatched(two_parts("a"), by_part({"one?": "1", "two?": "2"}))
    assert not any(batch.live for batch in seen.batches)


def test_a_part_that_failed_is_asked_once_of_another():
    says = {"a:one?": "1", "a:two?": Fate.FAILED, "b:two?": "2"}
    verdict, seen = dispatched(two_parts(), by_part(says))
    assert [(call.student.name, shown(call)) for call in seen.calls] == [
        ("a", "one?"),
        ("a", "two?"),
        ("b", "two?"),
    ]
    assert verdict.text == "1. 1\n\n2. 2"
    assert verdict.notes["clone_dispatch"]["parts"][1]["student"] == "b"


def test_what_nobody_answers_is_said_and_makes_the_answer_partial():
    verdict, seen = dispatched(two_parts("abc"), by_part({"one?": "1"}))
    assert len(seen.calls) == 3
    assert verdict.text == "1. 1\n\n2. (not answered: two?)"
    assert verdict.status is AnswerStatus.PARTIAL and verdict.flags == ("partial",)
    assert verdict.confidence == 0.0


def test_parts_that_say_the_same_are_asked_once_and_answered_twice():
    twice = replace(two_parts(), parts=("One?", "two?", "one"))
    verdict, seen = dispatched(twice, by_part({"one": "1", "One?": "1", "two?": "2"}))
    assert len(seen.calls) == 2
    assert verdict.text == "1. 1\n\n2. 2\n\n3. 1"


@pytest.mark.parametrize(
    ("said", "status"), [(DECLINES, AnswerStatus.UNABLE), (Fate.FAILED, AnswerStatus.PARTIAL)]
)
def test_when_no_part_is_answered_it_says_so(said: str | Fate, status: AnswerStatus):
    verdict, _ = dispatched(two_parts(), lambda call: said)
    assert verdict.status is status
    assert (verdict.winner is None) is isinstance(said, Fate)


def test_each_part_is_read_and_weighed_as_its_own_domain_does():
    def look_at(part: str) -> SubQuestion:
        good = "b" if part == "two?" else "a"
        known = {name: Known(0.9 if name == good else 0.1, 20.0, name) for name in "abc"} | {
            "c": Known(0.8, 20.0, "c")
        }
        return SubQuestion(part, part, True, lambda text: text.removeprefix("Answer: ") or None, known)

    b = replace(two_parts("abc"), look_at=look_at)
    verdict, seen = dispatched(b, lambda call: "Answer: 1")
    assert set(seen.asked) == {"c"}
    assert verdict.confidence == pytest.approx(0.64)
    assert verdict.notes["clone_dispatch"]["parts"][0]["answer"] == "1"


def test_the_fastest_of_the_best_answers():
    known = {"a": 0.90, "b": 0.88, "c": 0.30}
    b = two_parts("abc", reliability=known, world=World(seconds={"a": 4.0, "b": 1.0, "c": 0.01}))
    parts = [SubQuestion(part, "", False, b.extract, b.known) for part in b.parts]
    assert fastest_of_the_best(b, parts).name == "b"


def test_slots_count_where_seconds_are_the_same():
    wide = student("b")
    wide = replace(wide, model=replace(wide.model, slots=2))
    b = replace(two_parts("ab"), students=(student("a"), wide))
    parts = [SubQuestion(part, "", False, b.extract, b.known) for part in b.parts]
    assert fastest_of_the_best(b, parts).name == "b"


def test_what_was_said_before_goes_with_every_part():
    b = two_parts("a")
    history = (Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "1. one? 2. two?"))
    _, seen = dispatched(
        replace(b, ask=replace(b.ask, messages=history)), by_part({"one?": "1", "two?": "2"})
    )
    assert all(call.ask and call.ask.messages[:2] == history[:2] for call in seen.calls)


def planned(split: str, join: str = "Joined.") -> Callable[[Call], str | Fate]:
    def says(call: Call) -> str:
        return {Part.SPLIT: split, Part.JOIN: join}.get(call.part, f"answer to {shown(call)}")

    return says


def unsplit() -> Brief:
    return brief("ab", recognised=False, master=student("b"))


def test_where_form_does_not_tell_a_planner_splits_and_joins():
    verdict, seen = dispatched(unsplit(), planned('{"questions": ["x?", "y?", "x?"]}'))
    assert [call.part for call in seen.calls] == [Part.SPLIT, Part.SUB_ANSWER, Part.SUB_ANSWER, Part.JOIN]
    assert seen.asked[0] == seen.asked[-1] == "b"
    assert verdict.text == "Joined."
    assert "answer to x?" in shown(seen.calls[-1])


def test_a_planner_that_cannot_join_leaves_the_answers_under_their_questions():
    verdict, _ = dispatched(unsplit(), planned('{"questions": ["x?", "y?"]}', DECLINES))
    assert verdict.text == "1. x?\n   answer to x?\n\n2. y?\n   answer to y?"


@pytest.mark.parametrize("split", [DECLINES, "no", '{"questions": []}', '{"questions": ["x?"]}', "[1, 2]"])
def test_what_cannot_be_taken_apart_is_put_to_one_student(split: str):
    verdict, seen = dispatched(unsplit(), lambda call: split if call.part is Part.SPLIT else "4")
    assert seen.asked == ["b", "a"]
    assert verdict.winner is not None and verdict.winner.text == "4"
    assert "not_split" in verdict.flags


def test_a_planners_list_is_read_also_where_it_is_no_json_and_never_without_bound():
    assert read_split("Sure:\n1. What is x?\n2) What is y?\n- And z?") == (
        "What is x?",
        "What is y?",
        "And z?",
    )
    assert read_split("\n".join(f"{n}. q{n}?" for n in range(1, 14))) == ()
    assert read_split('{"questions": ["' + "x" * 2000 + '", "y"]}') == ()
