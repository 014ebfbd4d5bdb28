"""Members see the others' answers without names and may change theirs; conformity is not taken for evidence."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.serve.briefs import World, brief, student
from tests.serve.plays import Play, play, shown

from studium.domains.open_question import OPEN_QUESTION
from studium.records.answers import AnswerStatus, Complexity, Fate, Part
from studium.records.messages import Message
from studium.serve.calls import Brief, Call, Stage, Verdict
from studium.serve.strategies.debate import MOST_ROUNDS, debate


def open_brief(names: str, reserves: str = "", **changes: Any) -> Brief:
    fields: dict[str, Any] = {
        "recognised": False,
        "same": OPEN_QUESTION.same,
        "extract": OPEN_QUESTION.extract,
        "stages": (Stage(Complexity.COMPLEX, 1, len(names), 1.0),),
    }
    return brief(names, reserves, **(fields | changes))


def table(first: dict[str, str], later: Callable[[Call], str | Fate]) -> Callable[[Call], str | Fate]:
    """Say what stands in a table first, and to what comes later what a function says."""
    return lambda call: first[call.student.name] if call.part is Part.MEMBER else later(call)


def debated(b: Brief, first: dict[str, Any], later: Callable[[Call], str | Fate]) -> tuple[Verdict, Play]:
    return play(b, debate(b), table(first, later))


def revisions(seen: Play) -> list[Call]:
    return [call for call in seen.calls if call.part is Part.REVISION]


def test_those_who_agree_from_the_start_do_not_debate():
    verdict, seen = debated(brief("abc"), dict.fromkeys("abc", "4"), lambda call: "9")
    assert seen.asked == ["a", "b", "c"]
    assert verdict.winner is not None and verdict.winner.answer == "4"


def test_members_see_each_other_answer_once_without_names_and_without_how_many_gave_it():
    says = {"a": "four it is", "b": "five it is", "c": "five it is"}
    _, seen = debated(open_brief("abc"), says, lambda call: "KEEP")
    to_a, to_b, _ = revisions(seen)
    assert shown(to_a).count("five it is") == 1 and "four it is" not in shown(to_a)
    assert shown(to_b).count("four it is") == 1 and "five it is" not in shown(to_b)
    assert to_a.ask is not None
    assert to_a.ask.messages[-2] == Message("assistant", "four it is")


def test_a_debate_ends_when_nobody_moves():
    verdict, seen = debated(brief("abc"), {"a": "4", "b": "5", "c": "5"}, lambda call: "KEEP")
    assert len(seen.batches) == 2
    assert verdict.winner is not None and verdict.winner.answer == "5"
    assert verdict.notes["debate"] == {"rounds": 1, "moved": [], "ended": "nobody moved"}


def test_a_member_that_is_convinced_moves_and_what_it_says_then_counts():
    says = {"a": "4", "b": "5", "c": "4"}
    verdict, _ = debated(brief("abc"), says, lambda call: "4" if call.student.name == "b" else "KEEP")
    assert verdict.winner is not None and verdict.winner.answer == "4"
    assert verdict.agreement == 1.0
    assert verdict.notes["debate"]["moved"] == ["b"]


def test_who_changes_sides_makes_nobody_surer():
    says = {"a": "4", "b": "5", "c": "4"}
    with_b, _ = debated(brief("abc"), says, lambda call: "4" if call.student.name == "b" else "KEEP")
    without_b, _ = debated(brief("ac"), says, lambda call: "KEEP")
    assert with_b.confidence == pytest.approx(without_b.confidence)


def test_endless_movers_are_stopped():
    moves = iter(range(100, 200))
    _, seen = debated(brief("ab"), {"a": "1", "b": "2"}, lambda call: str(next(moves)))
    assert len(seen.batches) == 1 + MOST_ROUNDS


@pytest.mark.parametrize("silent", [Fate.FAILED, Fate.LATE, "I cannot answer that."])
def test_a_member_that_falls_silent_keeps_its_answer(silent: str | Fate):
    verdict, seen = debated(brief("abc"), {"a": "4", "b": "5", "c": "5"}, lambda call: silent)
    assert len(seen.batches) == 2
    assert verdict.winner is not None and verdict.winner.text == "5"


def test_nobody_left_means_asking_those_in_reserve():
    verdict, seen = debated(
        brief("abc", "d"), dict.fromkeys("abc", Fate.FAILED) | {"d": "4"}, lambda call: ""
    )
    assert seen.asked[-1] == "d"
    assert verdict.flags[0] == "fallback"
    assert verdict.winner is not None and verdict.winner.answer == "4"


def test_where_most_decline_nobody_debates():
    says = {"a": "x", **dict.fromkeys("bc", "I cannot answer that.")}
    verdict, seen = debated(
        open_brief("abc", reliability=dict.fromkeys("abc", 0.1)), says, lambda call: "KEEP"
    )
    assert verdict.status is AnswerStatus.UNABLE and len(seen.batches) == 1


def test_no_round_begins_that_could_not_end_in_time():
    hurried = World(seconds=dict.fromkeys("abc", 5.0), room=1, left_s=10.0)
    verdict, seen = debated(brief("abc", world=hurried), {"a": "4", "b": "5", "c": "6"}, lambda call: "KEEP")
    assert len(seen.batches) == 1
    assert verdict.notes["debate"]["ended"] == "no time"


def test_long_answers_are_cut_and_a_member_without_room_is_left_in_peace():
    says = {"a": "x" * 9000, "b": "y"}
    _, seen = debated(open_brief("ab"), says, lambda call: "KEEP")
    (to_b,) = revisions(seen)
    assert to_b.student.name == "b"
    assert "[... cut here ...]" in shown(to_b) and len(shown(to_b)) < 2 * to_b.student.model.context_tokens


def test_where_a_form_is_asked_for_keeping_is_said_in_that_form():
    b = open_brief("ab")
    formed = replace(b, ask=replace(b.ask, json_schema={"type": "object"}))
    _, seen = debated(formed, {"a": '{"x": 1}', "b": '{"x": 2}'}, lambda call: '{"x": 3}')
    assert all("KEEP" not in shown(call) and call.ask and call.ask.json_schema for call in revisions(seen))


ESSAYS = {"a": "The sea is blue.", "b": "The sea is green because of algae.", "c": "Water."}


def verdicts_by_length(call: Call) -> str:
    if call.part is Part.REVISION:
        return "KEEP"
    first, second = (shown(call).split(f"<<answer {name}")[1].split("<</")[0] for name in "AB")
    return f"Verdict: {'A' if len(first) > len(second) else 'B'}"


def test_answers_nobody_can_compare_are_ranked_by_the_judge_and_the_winners_own_words_are_told():
    verdict, _ = debated(open_brief("abc", judge=student("j")), ESSAYS, verdicts_by_length)
    assert verdict.winner is not None and verdict.winner.text == ESSAYS["b"]
    assert verdict.text is None and "judge_cannot_tell" not in verdict.flags
    assert verdict.notes["judge"]["ranking"][0] == {"student": "b", "score": 1.0}


def test_where_the_judge_cannot_tell_it_merges_and_says_where_they_differ():
    merged = (
        '{"agreements": ["it is wet"], "differences": ["its colour"], "merged": "Wet, of unsure colour."}'
    )

    def says(call: Call) -> str:
        if call.part is Part.REVISION:
            return "KEEP"
        return merged if "answer C" in shown(call) else "Verdict: A"

    verdict, _ = debated(open_brief("abc", judge=student("j")), ESSAYS, says)
    assert verdict.text == "Wet, of unsure colour."
    assert set(verdict.flags) == {"judge_cannot_tell", "merged"}
    assert verdict.notes["judge"]["differences"] == ["its colour"]


def test_without_a_judge_the_weightiest_answer_is_taken_and_a_flag_says_so():
    verdict, _ = debated(open_brief("abc", reliability={"a": 0.6}), ESSAYS, lambda call: "KEEP")
    assert verdict.winner is not None and verdict.winner.student == "a"
    assert verdict.flags == ("no_judge",)


def test_what_most_members_say_word_for_word_needs_no_judge():
    says = {"a": "Answer: Jupiter", "b": "Answer: jupiter", "c": "Answer: Saturn"}
    verdict, seen = debated(open_brief("abc", judge=student("j")), says, lambda call: "KEEP")
    assert "j" not in seen.asked
    assert verdict.winner is not None and verdict.winner.answer == "jupiter"
