"""Answers given again by an ensemble of scripted students over a real store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.serve.cards import CardsOnly

from studium.config.schema import CacheConfig, ComplexityLimits
from studium.engines.scripted import Fault, FaultKind, ModelScript, ScriptedEngine, says
from studium.errors import EngineTimeout, StudiumError
from studium.fleet import Fleet
from studium.fleet.residency import Limits
from studium.records.answers import Complexity, Delta, Query
from studium.records.messages import Message, Sampling
from studium.records.models import ModelSpec, Student
from studium.serve.cache.cache import ResponseCache
from studium.serve.cache.keys import similarity
from studium.serve.cache.nearness import NEVER, PROBES, least_cosine, means_the_same
from studium.serve.ensemble import Ensemble
from studium.serve.team.routing import Routing
from studium.store.cache import AnswerShelf
from studium.store.database import open_database

LIMITS = {one: ComplexityLimits(1, 2, 5.0, 5.0) for one in Complexity}
CONFIG = CacheConfig()


class House:
    """An ensemble, its cache, and a count of what its students were asked."""

    def __init__(self, team: Ensemble, cache: ResponseCache, runs: list[Any]) -> None:
        self.team, self.cache, self.runs, self.now = team, cache, runs, 1000.0


@asynccontextmanager
async def house(folder: Path, script: ModelScript, **choices: Any) -> AsyncIterator[House]:
    runs: list[Any] = []
    fleet = Fleet(
        {"scripted": ScriptedEngine({"a": script})},
        Limits(2**40),
        known={},
        save_profile=lambda profile: None,
        record_run=runs.append,
    )
    greedy = Student("a", ModelSpec("a", "scripted", "a"), sampling=Sampling(temperature=0.0))
    students = {"a": replace(greedy, system_prompt=choices.pop("prompt", ""))}
    database = open_database(folder / "state.db")
    shelf = AnswerShelf(database, CONFIG)
    cache = ResponseCache(shelf, CONFIG, clock=lambda: found.now, **choices)
    found = House(Ensemble(fleet, Routing(students), LIMITS, CardsOnly(), cache=cache), cache, runs)
    fleet.start()
    try:
        yield found
    finally:
        await cache.close()
        await fleet.close()
        database.dispose()


def ask(question: str = "What is 47 + 58?", **choices: Any) -> Query:
    return Query(messages=(Message("user", question),), **choices)


async def test_the_second_time_nobody_is_asked_and_the_answer_says_so(tmp_path):
    async with house(tmp_path, says("105")) as one:
        first = await one.team.answer(ask())
        one.now += 60.0
        second = await one.team.answer(ask(request_id="mine"))
    assert first.notes["cache"] == {"hit": None, "kept": True} and "cached" not in first.flags
    assert len(one.runs) == 1
    assert (second.text, second.chosen_model, second.request_id) == ("105", "a", "mine")
    assert (second.members, second.moves, second.completion_tokens, second.cost_usd) == ((), (), 0, 0.0)
    assert "cached" in second.flags
    note = second.notes["cache"]
    assert (note["hit"], note["age_s"], note["asked"], note["of"]) == ("exact", 60.0, ["a"], first.request_id)
    assert note["completion_tokens"] == first.completion_tokens > 0


async def test_a_stream_gives_a_kept_answer_at_once(tmp_path):
    async with house(tmp_path, says("one two three")) as one:
        await one.team.answer(ask())
        events = [event async for event in one.team.stream(ask())]
    assert events[0] == Delta("one two three") and len(events) == 2


async def test_keys_of_callers_do_not_see_each_others_answers(tmp_path):
    async with house(tmp_path, says("105")) as one:
        for name in ("key-1", "key-2", "key-1"):
            await one.team.answer(ask(api_key_name=name))
    assert len(one.runs) == 2


async def test_an_answer_expires(tmp_path):
    async with house(tmp_path, says("105")) as one:
        await one.team.answer(ask())
        one.now += CONFIG.expiry_s
        await one.team.answer(ask())
    assert len(one.runs) == 2


async def test_the_caller_may_want_it_anew_or_kept_though_it_is_random(tmp_path):
    random = Sampling(temperature=0.7)
    async with house(tmp_path, says("105")) as one:
        for cache in (None, False, None):
            await one.team.answer(ask(cache=cache))
        assert len(one.runs) == 2
        for cache in (None, None, True, True):
            await one.team.answer(ask(sampling=random, cache=cache))
    assert len(one.runs) == 5


async def test_kept_answers_survive_a_restart_but_not_a_change_of_the_roster(tmp_path):
    async with house(tmp_path, says("105")) as one:
        await one.team.answer(ask())
    async with house(tmp_path, says("106")) as same:
        assert (await same.team.answer(ask())).text == "105"
    async with house(tmp_path, says("106"), prompt="Be brief.") as changed:
        assert (await changed.team.answer(ask())).text == "106"
    async with house(tmp_path, says("107"), circumstances="other limits") as changed:
        assert (await changed.team.answer(ask())).text == "107"


async def test_the_switch_takes_effect_at_once(tmp_path):
    async with house(tmp_path, says("105")) as one:
        await one.team.answer(ask())
        one.cache.shelf.switch(False, by="me", at=1.0)
        assert (await one.team.answer(ask())).notes == {}
        one.cache.shelf.switch(True, by="me", at=2.0)
        assert (await one.team.answer(ask())).notes["cache"]["hit"] == "exact"


async def test_what_is_not_an_answer_is_not_kept(tmp_path):
    async with house(tmp_path, says("I cannot answer that.")) as one:
        for _ in range(2):
            await one.team.answer(ask())
    assert len(one.runs) == 2 and one.cache.counts["exact"] == 0


async def test_equal_questions_at_once_are_answered_once(tmp_path):
    async with house(tmp_path, ModelScript(default=("one two three",), token_s=0.02)) as one:
        answers = await asyncio.gather(*(one.team.answer(ask()) for _ in range(20)))
    assert len(one.runs) == 1
    assert {answer.text for answer in answers} == {"one two three"}
    assert sorted("cached" in answer.flags for answer in answers) == [False, *[True] * 19]


async def test_where_the_first_is_cancelled_the_next_computes(tmp_path):
    async with house(tmp_path, ModelScript(default=("one two three",), token_s=0.05)) as one:
        tasks = [asyncio.create_task(one.team.answer(ask())) for _ in range(4)]
        await asyncio.sleep(0.03)
        tasks[0].cancel()
        answers = await asyncio.gather(*tasks[1:])
    assert {answer.text for answer in answers} == {"one two three"}
    assert sum("cached" not in answer.flags for answer in answers) == 1


async def test_where_the_first_fails_the_others_do_not_hang(tmp_path):
    dying = ModelScript(default=("x y z",), fault=Fault(FaultKind.CRASH, after_tokens=1))
    async with house(tmp_path, dying) as one, asyncio.timeout(60):
        ended = await asyncio.gather(*(one.team.answer(ask()) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, StudiumError) for one in ended)


async def test_who_waits_for_the_first_waits_no_longer_than_its_own_limit(tmp_path):
    async with house(tmp_path, ModelScript(default=("one two three",), token_s=0.2)) as one:
        first = asyncio.create_task(one.team.answer(ask()))
        await asyncio.sleep(0.02)
        with pytest.raises(EngineTimeout, match="already"):
            await one.team.answer(ask(timeout_s=0.05))
        assert (await first).text == "one two three"


async def near_anything(question: str) -> list[float]:
    """An embedding that tells probes apart, and nothing else."""
    for number, pair in enumerate(PROBES):
        if question in pair:
            return [float(number + 1), 1.0 if question == pair[0] else -9.0 * number - 9.0]
    return [1.0, 0.5]


async def test_what_means_the_same_is_given_again_but_never_across_other_numbers(tmp_path):
    async with house(tmp_path, says("105"), embed=near_anything) as one:
        await one.team.answer(ask("Which room is 47 + 58?"))
        again = await one.team.answer(ask("Hello! Which room is 47 + 58, please?"))
        assert again.notes["cache"]["hit"] == "meaning" and again.notes["cache"]["similarity"] >= 0.999
        assert again.notes["cache"]["question"] == "Which room is 47 + 58?"
        others = ("47 + 59", "58 + 47", "not 47 + 58", "now 47 + 58", "5 + 47 + 58")
        for other in (f"Which room is {text}?" for text in others):
            assert (await one.team.answer(ask(other))).notes["cache"]["hit"] is None
        theirs = await one.team.answer(ask("Which room is 47 + 58, thanks?", api_key_name="k"))
        assert theirs.notes["cache"]["hit"] is None


async def test_a_question_of_a_domain_is_the_same_only_to_the_letter(tmp_path):
    """With a small model's embeddings "I hated the soup" was near enough to be answered as "I loved the soup"."""
    review = "Is this review positive, negative or mixed? I {} the soup."
    async with house(tmp_path, says("Answer: positive"), embed=near_anything) as one:
        await one.team.answer(ask(review.format("loved")))
        assert (await one.team.answer(ask(review.format("loved")))).notes["cache"]["hit"] == "exact"
        assert (await one.team.answer(ask(review.format("hated")))).notes["cache"]["hit"] is None


async def test_an_embedding_that_is_far_or_fails_or_takes_long_is_a_miss(tmp_path):
    async def hangs(_question: str) -> list[float]:
        await asyncio.sleep(60)
        return []

    async def fails(_question: str) -> list[float]:
        raise RuntimeError("no")

    vectors = iter([[1.0, 0.0], [0.0, 1.0]])

    async def far(_question: str) -> list[float]:
        return next(vectors)

    for number, embed in enumerate((hangs, fails, far)):
        folder = tmp_path / str(number)
        async with house(folder, says("105"), embed=embed) as one:
            await one.team.answer(ask("Explain gravity."))
            assert (await one.team.answer(ask("Please explain gravity."))).notes["cache"]["hit"] is None


async def test_a_row_that_cannot_be_read_is_a_miss_and_is_replaced(tmp_path):
    async with house(tmp_path, says("105")) as one:
        await one.team.answer(ask())
        with one.cache.shelf._database.begin() as connection:
            connection.exec_driver_sql("UPDATE cached_answers SET body = x'00', digest = ''")
        await one.team.answer(ask())
        assert (await one.team.answer(ask())).notes["cache"]["hit"] == "exact"
    assert len(one.runs) == 2


async def test_a_model_that_holds_opposites_for_the_same_gives_nothing_by_meaning(tmp_path):
    async def all_alike(_question: str) -> list[float]:
        return [1.0, 0.5]

    assert await least_cosine(all_alike) == NEVER
    async with house(tmp_path, says("105"), embed=all_alike) as one:
        for text in ("Which room is free?", "Which room is taken?", "Which room is large?"):
            assert (await one.team.answer(ask(text))).notes["cache"]["hit"] is None


async def test_how_near_is_near_enough_lies_between_a_models_opposites_and_the_same():
    async def close(word: str) -> list[float]:
        return [1.0, 0.3 if any(word == one for one, _ in PROBES) else -0.3]

    async def absent(_word: str) -> list[float]:
        return []

    least = await least_cosine(close)
    assert least is not None and similarity((1.0, 0.3), (1.0, -0.3)) < 2 * least - 1 + 1e-9 < least < 1
    assert await least_cosine(absent) is None


async def test_words_that_differ_are_judged_alone_and_the_model_has_the_last_word():
    vectors = {"fix": [1.0, 0.1], "repair": [1.0, 0.0], "paint": [0.0, 1.0]}

    async def embed(word: str) -> list[float]:
        return vectors.get(word, [])

    said = {verb: f"How to {verb} a bike?" for verb in (*vectors, "sell")}
    assert await means_the_same(embed, said["fix"], said["repair"], 0.9)
    assert not await means_the_same(embed, said["fix"], said["paint"], 0.9)
    assert not await means_the_same(embed, said["fix"], said["sell"], 0.9)  # no embedding
    assert not await means_the_same(embed, said["fix"], said["repair"], NEVER)
    assert await means_the_same(embed, said["sell"], "how to sell a bike", NEVER)
