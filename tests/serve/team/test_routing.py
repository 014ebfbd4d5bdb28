"""Who answers when routes change: at the next question, never in the middle of one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.serve.cards import CardsOnly

from studium.config.schema import ComplexityLimits
from studium.engines.scripted import Fault, FaultKind, ModelScript, ScriptedEngine, says
from studium.errors import ConfigurationError, EngineDied, EngineRefused, EngineTimeout
from studium.fleet import Fleet
from studium.fleet.limits import Limits
from studium.records.adapters import Adapter, AdapterKind, Phase, Route
from studium.records.answers import Answer, Complexity, Delta, Query
from studium.records.messages import Message
from studium.records.models import ModelSpec, Student
from studium.serve.ensemble import Ensemble
from studium.serve.history.reliability import MOST_FORMER_GRADES, Reliability
from studium.serve.team.routing import Routing, holders_of

LIMITS = {complexity: ComplexityLimits(2, 3, 20.0, 20.0) for complexity in Complexity}
OLD = Student("a", ModelSpec("a", "scripted", "a"), skills={"arithmetic": 0.9, "sorting": 0.8})
STUDENTS = {"a": OLD, "b": Student("b", ModelSpec("b", "scripted", "b"))}


@dataclass
class Book:
    """Routes as somebody else writes them; adapters of role a named after their files."""

    now: dict[str, Route] = field(default_factory=dict[str, Route])
    former: list[str] = field(default_factory=list[str])

    def routes(self) -> dict[str, Route]:
        return dict(self.now)

    def adapter(self, role: str, name_or_id: str) -> Adapter:
        lineage = {"scores": {"arithmetic": 0.5}}
        return Adapter(
            name_or_id,
            role,
            name_or_id,
            AdapterKind.MODEL,
            "a",
            "",
            "",
            f"{name_or_id}.gguf",
            lineage=lineage,
        )

    def nearest_predecessors(self, role: str) -> list[str]:
        return self.former


@dataclass
class House:
    team: Ensemble
    routing: Routing
    book: Book
    fleet: Fleet


@asynccontextmanager
async def house(folder: Path, scripts: dict[str, ModelScript], **choices: object) -> AsyncIterator[House]:
    """Open students a and b; adapters of `scripts` are files, of which the scripted engine knows what they say."""
    for name in scripts.keys() - STUDENTS.keys():
        (folder / f"{name}.gguf").touch()
    known = {name if name in STUDENTS else str(folder / f"{name}.gguf"): one for name, one in scripts.items()}
    fleet = Fleet(
        {"scripted": ScriptedEngine(known)},
        Limits(2**40),
        known={},
        save_profile=lambda profile: None,
        record_run=lambda run: None,
    )
    book = Book()
    routing = Routing(STUDENTS, book=book, workspace=folder, **choices)  # type: ignore[arg-type]
    fleet.start()
    try:
        yield House(Ensemble(fleet, routing, LIMITS, CardsOnly()), routing, book, fleet)
    finally:
        await routing.close()
        await fleet.close()


def ask(model: str = "a", question: str = "Who are you?", **choices: object) -> Query:
    return Query(messages=(Message("user", question),), model=model, **choices)  # type: ignore[arg-type]


async def test_a_champion_answers_at_the_next_question_and_says_its_name(tmp_path: Path):
    async with house(tmp_path, {"a": says("old"), "b": says("b"), "v2": says("new")}) as one:
        assert (await one.team.answer(ask())).text == "old"
        one.book.now["a"] = Route("a", "v2", number=1)
        await one.routing.refresh()
        after = await one.team.answer(ask())
        assert (after.text, after.chosen_model, after.adapter) == ("new", "a", "a/v2")
        assert after.members[0].adapter == "a/v2"
        one.book.now["a"] = Route("a", number=2)
        await one.routing.refresh()
        assert (await one.team.answer(ask())).adapter == ""


async def test_a_stream_in_flight_ends_on_the_old_one(tmp_path: Path):
    slow = ModelScript(default=("one two three four five six",), token_s=0.02)
    async with house(tmp_path, {"a": slow, "b": says("b"), "v2": says("new")}) as one:
        said: list[str] = []
        async with aclosing(one.team.stream(ask())) as events:
            async for event in events:
                if isinstance(event, Delta):
                    if not said:
                        one.book.now["a"] = Route("a", "v2", number=1)
                        await one.routing.refresh()
                        assert (await one.team.answer(ask())).text == "new"
                    said.append(event.text)
                elif isinstance(event, Answer):
                    assert event.adapter == ""
        assert "".join(said) == "one two three four five six"


async def test_who_cannot_be_made_ready_does_not_take_the_place(tmp_path: Path):
    async def never_ready(new: Student, old: Student) -> None:
        raise EngineTimeout(f"{new.model.name} was not loaded")

    async with house(
        tmp_path, {"a": says("old"), "b": says("b"), "v2": says("new")}, prepare=never_ready
    ) as one:
        one.book.now["a"] = Route("a", "v2", number=1)
        await one.routing.refresh()
        assert (await one.team.answer(ask())).text == "old"
        assert "a@v2 was not loaded" in one.routing.faults["a"]
        one.book.now["a"] = Route("a", "gone", number=2)
        await one.routing.refresh()
        assert "gone.gguf" in one.routing.faults["a"]
        assert (await one.team.answer(ask())).text == "old"


async def test_a_share_of_conversations_goes_to_the_challenger_and_stays_there(tmp_path: Path):
    async with house(tmp_path, {"a": says("old"), "b": says("b"), "v2": says("new")}) as one:

        async def exposed(share: float) -> set[int]:
            one.book.now["a"] = Route("a", "", "v2", Phase.SHIFT, share, number=1)
            await one.routing.refresh()
            teams = {number: one.routing.team_for(ask(question=f"Hello {number}")) for number in range(400)}
            return {number for number, team in teams.items() if team.exposed}

        few, half, nobody = await exposed(0.1), await exposed(0.5), await exposed(0.0)
        assert few < half and not nobody
        assert 15 <= len(few) <= 75 and 150 <= len(half) <= 250
        await exposed(0.5)
        opening = Message("user", f"Hello {min(few)}")
        later = Query(messages=(opening, Message("assistant", "new"), Message("user", "More?")), model="a")
        assert (await one.team.answer(later)).text == "new"


async def test_a_role_is_asked_by_its_name_and_changes_nobody_elses(tmp_path: Path):
    scripts = {"a": says("old"), "b": says("b"), "v2": says("new")}
    async with house(tmp_path, scripts, roles={"writer": "a"}) as one:
        assert (await one.team.answer(ask("writer"))).text == "old"
        one.book.now["writer"] = Route("writer", "v2", number=1)
        await one.routing.refresh()
        assert (await one.team.answer(ask("writer"))).chosen_model == "writer"
        assert (await one.team.answer(ask("a"))).text == "old"
        assert "writer" not in one.routing.team.students and "writer" in one.routing.team.named


@pytest.mark.parametrize("roles", [{"b": "a"}, {"auto": "a"}, {"writer": "nobody"}])
def test_a_role_that_cannot_be_is_the_authors_error(roles: dict[str, str]):
    with pytest.raises(ConfigurationError, match="roles"):
        holders_of(STUDENTS, roles)


async def test_of_a_champion_its_own_scores_count_and_the_card_of_the_former_model_little(tmp_path: Path):
    async with house(tmp_path, {"a": says("old"), "b": says("b"), "v2": says("new")}) as one:
        one.book.now["a"] = Route("a", "v2", number=1)
        await one.routing.refresh()
        new = one.routing.team.student("a")
        known = Reliability((), {"a": new}, {"a": "new"})
        assert (dict(new.skills), dict(new.former_skills)) == ({"arithmetic": 0.5}, {"sorting": 0.8})
        assert known.posterior(new, "sorting").card_grades == MOST_FORMER_GRADES
        assert known.mean(new, "sorting") < Reliability((), {"a": OLD}, {}).mean(OLD, "sorting")


async def test_a_swap_finds_none_of_the_former_models_kept_answers(tmp_path: Path):
    async with house(tmp_path, {"a": says("old"), "b": says("b"), "v2": says("new")}) as one:
        before = one.routing.team.identity
        one.book.now["a"] = Route("a", "v2", number=1)
        await one.routing.refresh()
        assert one.routing.team.identity != before
        one.book.now["a"] = replace(one.book.now["a"], champion="", number=2)
        await one.routing.refresh()
        assert one.routing.team.identity == before


async def test_routes_changed_elsewhere_are_seen_within_moments(tmp_path: Path):
    async with house(tmp_path, {"a": says("old"), "b": says("b"), "v2": says("new")}) as one:
        watching = asyncio.create_task(one.routing.work())
        one.book.now["a"] = Route("a", "v2", number=1)
        async with asyncio.timeout(60):
            while (await one.team.answer(ask())).text != "new":
                await asyncio.sleep(0.05)
        watching.cancel()


def loses(fault: Fault) -> ModelScript:
    return ModelScript(default=("new",), fault=fault)


async def test_a_lost_champion_is_answered_for_by_the_one_before_and_the_answer_says_so(tmp_path: Path):
    scripts = {
        "a": says("old"),
        "b": says("b"),
        "v1": says("one"),
        "v2": loses(Fault(FaultKind.REFUSE, times=99)),
    }
    async with house(tmp_path, scripts) as one:
        one.book.now["a"], one.book.former = Route("a", "v2", number=2), ["v1", ""]
        await one.routing.refresh()
        answer = await one.team.answer(ask())
        assert (answer.text, answer.adapter, answer.flags) == ("one", "a/v1", ("stood_in",))
        assert answer.members[0].instead_of == "a@v2"
        for _ in range(2):
            await one.team.answer(ask())
        assert not one.team.breakers.admits("a@v2")
        assert (await one.team.answer(ask())).text == "one"
        assert one.team.breakers.health()["a@v2"].errors == 3  # held back, it was not asked the fourth time


async def test_a_champion_that_cannot_be_loaded_any_more_is_answered_for(tmp_path: Path):
    unloadable = loses(Fault(FaultKind.CRASH_AT_LOAD))
    async with house(tmp_path, {"a": says("old"), "b": says("b"), "v2": unloadable}) as one:
        one.book.now["a"] = Route("a", "v2", number=2)
        one.routing.open()  # as at a start: nobody has tried to load it
        assert (await one.team.answer(ask())).text == "old"
        one.book.now["a"] = Route("a", "v3", number=3)
        await one.routing.refresh()
        assert (await one.team.answer(ask())).text == "old"


async def test_a_role_whose_holder_is_lost_is_answered_for_by_another_student(tmp_path: Path):
    scripts = {"a": loses(Fault(FaultKind.REFUSE, times=9)), "b": says("b")}
    async with house(tmp_path, scripts, roles={"clerk": "a"}) as one:
        answer = await one.team.answer(replace(ask(), model="clerk"))
        assert (answer.text, answer.chosen_model, answer.flags) == ("b", "b", ("stood_in",))


async def test_a_student_asked_by_its_name_answers_itself_or_not_at_all(tmp_path: Path):
    async with house(tmp_path, {"a": loses(Fault(FaultKind.REFUSE, times=9)), "b": says("b")}) as one:
        with pytest.raises(EngineRefused):
            await one.team.answer(ask())


async def test_what_was_passed_on_is_never_followed_by_anothers_words(tmp_path: Path):
    half = ModelScript(
        default=("one two three",), fault=Fault(FaultKind.HALF_STREAM, after_tokens=2, times=9)
    )
    async with house(tmp_path, {"a": half, "b": says("b")}, roles={"clerk": "a"}) as one:
        asked = replace(ask(), model="clerk")
        said: list[str] = []
        with pytest.raises(EngineDied):
            async with aclosing(one.team.stream(asked)) as events:
                async for event in events:
                    said += [event.text] if isinstance(event, Delta) else []
        assert "one" in "".join(said) and "b" not in "".join(said)
        assert (await one.team.answer(asked)).text == "b"  # unheard, what was said is no bar
