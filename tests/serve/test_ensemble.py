"""The one door, on scripted students: who was asked, what was said, and what is raised."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from tests.serve.cards import CardsOnly

from studium.config.schema import ComplexityLimits
from studium.engines.scripted import Fault, FaultKind, ModelScript, ScriptedEngine, says
from studium.errors import BadRequest, CallerError, EngineDied, PromptTooLong, UnknownModel, Unsupported
from studium.fleet import Fleet
from studium.fleet.residency import Limits
from studium.records.answers import Answer, AnswerStatus, Complexity, Delta, Fate, Progress, Query
from studium.records.messages import Message
from studium.records.models import ModelSpec, Student
from studium.serve.ensemble import Ensemble
from studium.serve.team.routing import Routing

LIMITS = {
    Complexity.SIMPLE: ComplexityLimits(2, 3, 5.0, 5.0),
    Complexity.MEDIUM: ComplexityLimits(4, 6, 5.0, 5.0),
    Complexity.COMPLEX: ComplexityLimits(8, 8, 5.0, 5.0),
    Complexity.EXPERT: ComplexityLimits(10, 12, 5.0, 5.0),
}
QUESTION = "Which planet is the largest?"


@asynccontextmanager
async def ensemble(
    models: dict[str, ModelScript], limits: dict[Complexity, ComplexityLimits] = LIMITS, **choices: Any
) -> AsyncIterator[Ensemble]:
    engine = ScriptedEngine(models)
    fleet = Fleet(
        {"scripted": engine},
        Limits(2**40),
        known={},
        save_profile=lambda profile: None,
        record_run=lambda run: None,
    )
    students = {name: Student(name, ModelSpec(name, "scripted", name)) for name in models}
    fleet.start()
    try:
        routing = Routing(students, choices.pop("parts", None))
        yield Ensemble(fleet, routing, limits, CardsOnly(), default_complexity=Complexity.MEDIUM, **choices)
    finally:
        await fleet.close()


def ask(question: str = QUESTION, **choices: object) -> Query:
    return Query(messages=(Message("user", question),), **choices)  # type: ignore[arg-type]


def everyone(names: str, answer: str) -> dict[str, ModelScript]:
    return {name: says(answer) for name in names}


async def test_a_committee_answers_with_its_evidence():
    models = {**everyone("abd", "Answer: Jupiter"), **everyone("ce", "Answer: Saturn")}
    async with ensemble(models) as team:
        answer = await team.answer(ask())
    assert answer.status is AnswerStatus.ANSWERED
    assert answer.text == "Answer: Jupiter"
    assert (answer.strategy, answer.complexity) == ("committee", Complexity.MEDIUM)
    assert answer.chosen_model in "abd"
    assert 0.5 < answer.agreement < 0.8
    spoken = [member for member in answer.members if member.fate is Fate.ANSWERED]
    assert answer.completion_tokens == sum(member.completion_tokens for member in spoken) > 0
    assert {move.model for move in answer.moves} >= {member.student for member in spoken}


async def test_agreement_saves_calls():
    async with ensemble(everyone("abcde", "Answer: Jupiter")) as team:
        answer = await team.answer(ask())
    assert len(answer.members) == 3
    assert (answer.agreement, answer.calls_saved) == (1.0, 2)


async def test_the_complexity_bounds_who_is_asked():
    async with ensemble(everyone("abcdefgh", "Answer: Jupiter")) as team:
        simple = await team.answer(ask(model="simple"))
        medium = await team.answer(ask(complexity=Complexity.MEDIUM))
        complex_ = await team.answer(ask(model="complex"))
    assert [len(answer.members) for answer in (simple, medium, complex_)] == [2, 4, 5]
    assert complex_.complexity is Complexity.COMPLEX


async def test_a_student_by_name_answers_alone_and_live():
    async with ensemble({**everyone("ab", "no"), "c": says("one two three")}) as team:
        async with aclosing(team.stream(ask(model="c"))) as stream:
            events = [event async for event in stream]
    deltas = [event.text for event in events if isinstance(event, Delta)]
    assert len(deltas) > 1 and "".join(deltas) == "one two three"
    assert isinstance(events[-1], Answer)
    assert (events[-1].strategy, events[-1].chosen_model) == ("single", "c")


async def test_a_streamed_committee_reports_progress_and_then_says_the_winning_text_once():
    async with ensemble(everyone("abc", "Answer: Jupiter")) as team:
        async with aclosing(team.stream(ask())) as stream:
            events = [event async for event in stream]
    assert any(isinstance(event, Progress) for event in events)
    assert [event.text for event in events if isinstance(event, Delta)] == ["Answer: Jupiter"]


async def test_failed_and_late_students_are_data():
    models = {
        "a": says("Answer: Jupiter"),
        "b": ModelScript(default=("x",), fault=Fault(FaultKind.CRASH, after_tokens=0)),
        "c": ModelScript(default=("x",), fault=Fault(FaultKind.HANG)),
        "d": ModelScript(default=("x",), fault=Fault(FaultKind.CRASH_AT_LOAD)),
        "e": says("Answer: Jupiter"),
    }
    limits = {**LIMITS, Complexity.MEDIUM: ComplexityLimits(4, 6, 2.0, 0.3)}
    async with ensemble(models, limits) as team:
        answer = await team.answer(ask())
    assert answer.text == "Answer: Jupiter"
    fates = {member.student: member.fate for member in answer.members}
    assert fates["b"] is Fate.FAILED and fates["c"] is Fate.LATE and fates["d"] is Fate.FAILED
    assert next(one.error_code for one in answer.members if one.student == "b") == "engine_died"


async def test_a_student_whose_process_was_gone_before_it_spoke_is_loaded_anew_once():
    gone = ModelScript(default=("Answer: Jupiter",), fault=Fault(FaultKind.CRASH, after_tokens=0, times=1))
    dying = ModelScript(default=("Answer: Jupiter",), fault=Fault(FaultKind.CRASH, after_tokens=1, times=1))
    async with ensemble({"a": gone, "b": dying}) as team:
        answer = await team.answer(ask())
    fates = {member.student: member.fate for member in answer.members}
    assert fates == {"a": Fate.ANSWERED, "b": Fate.FAILED}


async def test_when_nobody_can_answer_the_ensemble_says_so():
    async with ensemble(everyone("abc", "I cannot answer that.")) as team:
        answer = await team.answer(ask())
    assert answer.status is AnswerStatus.UNABLE
    assert answer.text.startswith("I cannot answer that: none of the students asked (a, b, c)")
    assert answer.agreement == 1.0  # in that nobody can
    assert 0.0 < answer.confidence < 0.9


async def test_a_partial_answer_is_better_than_none_and_says_that_it_is_partial():
    drip = ModelScript(default=("a long slow answer",), fault=Fault(FaultKind.SLOW_DRIP, seconds=0.05))
    limits = {**LIMITS, Complexity.MEDIUM: ComplexityLimits(4, 6, 0.4, 0.4)}
    async with ensemble({"a": drip}, limits) as team:
        answer = await team.answer(ask(strategy="committee"))
    assert answer.status is AnswerStatus.PARTIAL
    assert answer.text and "a long slow answer".startswith(answer.text)
    assert "partial" in answer.flags


async def test_an_error_is_the_last_resort():
    dead = ModelScript(default=("x",), fault=Fault(FaultKind.CRASH))
    async with ensemble({"a": dead, "b": dead}) as team:
        with pytest.raises(EngineDied):
            await team.answer(ask())


async def test_a_prompt_that_fits_nobody_is_the_callers_error():
    async with ensemble(everyone("abc", "Answer: 1")) as team:
        with pytest.raises(PromptTooLong):
            await team.answer(ask("word " * 5000))


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        (ask(model="../etc/passwd"), UnknownModel, "there is no model"),
        (ask(model="simpel"), UnknownModel, "did you mean 'simple'"),
        (ask(strategy="oracle"), BadRequest, "unknown strategy 'oracle'"),
        (ask(domain="arithmetik"), CallerError, "arithmetic"),
        (ask("   "), BadRequest, "empty"),
        (ask(students=("a", "nobody")), UnknownModel, "nobody"),
    ],
)
async def test_a_query_that_cannot_be_served_is_refused(query: Query, error: type[Exception], message: str):
    async with ensemble(everyone("abc", "Answer: 1")) as team:
        with pytest.raises(error, match=message):
            await team.answer(query)


async def test_the_caller_may_name_the_students():
    async with ensemble(everyone("abcde", "Answer: 1")) as team:
        answer = await team.answer(ask(students=("d", "e")))
    assert {member.student for member in answer.members} == {"d", "e"}
    assert "short_handed" in answer.flags


SLOW = ModelScript(default=("x " * 50,), first_token_s=30.0)


async def test_closing_the_stream_stops_the_students():
    async with ensemble(dict.fromkeys("abcd", SLOW)) as team:
        stream = team.stream(ask())
        await anext(stream)
        waiting = asyncio.create_task(anext(stream))
        await until(calls)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await stream.aclose()
        assert not calls()


async def test_a_question_to_one_student_that_is_cancelled_gives_its_seat_back():
    async with ensemble({"a": SLOW}) as team:
        asking = asyncio.create_task(team.answer(ask(model="a")))
        student, fleet = team.team.student("a"), team._fleet
        await until(lambda: fleet.wait_bound_s(student) > 0 and fleet.residency.resident())
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert fleet.wait_bound_s(student) == 0.0


def calls() -> list[Any]:
    return [task for task in asyncio.all_tasks() if "_tell_call" in repr(task)]


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.005)


async def test_embeddings_without_a_model_for_them_are_a_clear_error():
    async with ensemble(everyone("a", "x")) as team:
        with pytest.raises(Unsupported, match="embeddings: true"):
            await team.embed("auto", ["text"])
