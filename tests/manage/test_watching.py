"""A challenger meets the traffic of a running Studium: its own store, registry and routes; students by script."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from studium.app import Studium, open_studium
from studium.config import load_config
from studium.engines.scripted import Fault, FaultKind, ModelScript, ScriptedEngine, says
from studium.errors import BadRequest, SpendingLimit
from studium.manage import rolling, watching
from studium.records.adapters import AdapterKind, Phase
from studium.records.answers import Answer, Query
from studium.records.grades import Feedback, Rating
from studium.records.messages import Message
from studium.records.rollouts import Rollout
from studium.registry import EMBEDDED

CONFIG = """
models: [{name: alpha, engine: scripted, source: alpha}, {name: beta, engine: scripted, source: beta}]
students: [{name: alpha}, {name: beta}]
cache: {enabled: no}
rollout: {steps: [0.5], autopromote: yes}
"""
QUESTION = "What is 2 + 2?"


@asynccontextmanager
async def house(folder: Path, champion: ModelScript, challenger: ModelScript) -> AsyncIterator[Studium]:
    """Open alpha, with an adapter `tuned` registered for its role."""
    file = folder / "studium.yaml"
    file.write_text(CONFIG)
    config = load_config(file, environment={}, overrides={"workspace": folder / "workspace"})
    served = str(config.workspace / "adapters/alpha/tuned/model.gguf")
    engine = ScriptedEngine({"alpha": champion, "beta": says("?"), served: challenger})
    (folder / "made").mkdir()
    shutil.copy(EMBEDDED / "sprout.gguf", folder / "made" / "model.gguf")
    async with open_studium(config, {"scripted": engine}) as studium:
        studium.registry.register(
            folder / "made",
            "alpha",
            name="tuned",
            base="",
            base_sha256="",
            kind=AdapterKind.MODEL,
            lineage={},
        )
        yield studium


async def begin(studium: Studium, *, share: float = 0.0, steps: tuple[float, ...] = ()) -> None:
    rolling.begin(
        studium.store, studium.registry, "alpha", "tuned",
        share=share, steps=steps, quality=("verifier",), actor="test", at=0.0,
    )  # fmt: skip
    await studium.watch.look()
    await studium.routing.refresh()


async def ask(studium: Studium, number: int, key: str = "") -> Answer:
    opening = (Message("user", f"Hello {number}"), Message("assistant", "Hello."))
    query = Query(messages=(*opening, Message("user", QUESTION)), model="alpha", api_key_name=key)
    return await studium.ensemble.answer(query)


async def until_withdrawn(studium: Studium) -> None:
    """Ask on until the challenger is taken away."""
    async with asyncio.timeout(60):
        number = 0
        while studium.registry.route("alpha").phase is not Phase.NONE:
            number += 1
            await ask(studium, number)
            await studium.watch.catch_up()
            await studium.watch.look()


async def test_a_better_challenger_goes_from_the_shadow_through_a_share_to_champion(tmp_path: Path):
    async with house(tmp_path, says("Answer: 5"), says("Answer: 4")) as studium:
        await begin(studium, steps=(0.5,))
        first = await ask(studium, 0)
        assert (first.text, first.adapter) == ("Answer: 5", "")
        async with asyncio.timeout(60):
            number = 0
            while studium.registry.route("alpha").champion == "":
                number += 1
                await ask(studium, number)
                if number % 10 == 0:
                    await studium.watch.catch_up()
                    await studium.watch.look()
        actions = [one.action.value for one in studium.registry.history("alpha")]
        assert actions == ["register", "challenge", "shift", "promote"]
        assert (await ask(studium, 0)).text == "Answer: 4"
        (over,) = studium.store.rollouts.rollouts(role="alpha")
        assert over.ended_at is not None
        assert studium.registry.evidence(over.evidence).body["form"] == "live"


async def test_a_worse_challenger_is_withdrawn_and_one_that_breaks_costs_nobody_an_answer(tmp_path: Path):
    broken = ModelScript(default=("Answer: 4",), fault=Fault(FaultKind.REFUSE))
    async with house(tmp_path, says("Answer: 4"), broken) as studium:
        await begin(studium, share=0.5)
        async with asyncio.timeout(60):
            number = 0
            while studium.registry.route("alpha").phase is not Phase.NONE:
                number += 1
                assert (await ask(studium, number)).text == "Answer: 4"
                await studium.watch.catch_up()
                await studium.watch.look()
        assert "errors" in studium.registry.history("alpha")[-1].reason


async def test_in_the_shadow_nobody_is_given_the_challengers_words_and_what_is_refused_is_not_asked(
    tmp_path: Path,
):
    async with house(tmp_path, says("Answer: 5"), says("Answer: 4")) as studium:
        await begin(studium)
        for number in range(5):
            assert (await ask(studium, number)).adapter == ""
        await studium.watch.catch_up()
        async with asyncio.timeout(60):
            while studium.watch.counts["exposed"] < 5:
                await asyncio.sleep(0.01)

        class Refuses:
            def allow(self, *_: object, **__: object) -> None:
                raise SpendingLimit("the cap is reached")

        answer = await ask(studium, 6)
        studium.fleet.purse = Refuses()  # type: ignore[assignment]
        async with asyncio.timeout(60):
            while not studium.watch.counts["refused"]:
                await asyncio.sleep(0.01)
        assert answer.text == "Answer: 5" and studium.watch.counts["exposed"] == 5


async def test_feedback_on_an_answer_of_the_shift_counts_for_the_side_that_gave_it(tmp_path: Path):
    async with house(tmp_path, says("Answer: 5"), says("Answer: 4")) as studium:
        await begin(studium, share=0.5)
        answers = [await ask(studium, number) for number in range(12)]
        await studium.watch.catch_up()
        async with asyncio.timeout(60):
            while studium.watch.counts["exposed"] < 12:
                await asyncio.sleep(0.01)
        await studium.history.catch_up()
        for one in answers:
            rating = Rating.GOOD if one.adapter else Rating.BAD
            await asyncio.to_thread(studium.history.rate, Feedback(one.request_id, 1.0, rating, ""))
        (going,) = studium.store.rollouts.rollouts(only_going=True)
        await studium.watch.look()
        told = [
            one for one in studium.store.rollouts.exposures(going.number)
            if "feedback" in {**one.champion, **one.challenger}
        ]  # fmt: skip
        assert len(told) == 12
        assert {one.challenger["feedback"] for one in told if one.challenger} == {1.0}
        assert {one.champion["feedback"] for one in told if one.champion} == {0.0}
        await studium.watch.look()
        assert len(list(studium.store.rollouts.exposures(going.number))) == 24  # each counted once


async def test_a_roll_out_begun_again_after_an_abort_is_the_one_that_is_watched(tmp_path: Path):
    """The command line ends and begins them in another process."""
    async with house(tmp_path, says("Answer: 4"), says("Answer: 5")) as studium:
        await begin(studium)
        rolling.abort(studium.store, studium.registry, "alpha", reason="too slow", actor="test", at=0.0)
        await begin(studium, share=0.5)
        await until_withdrawn(studium)
        assert "worse by its replies" in studium.registry.history("alpha")[-1].reason


async def test_a_challenger_that_never_gets_its_turn_has_made_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(watching, "SEAT_S", 0.2)
    async with house(tmp_path, says("Answer: 5"), says("Answer: 4")) as studium:
        await begin(studium)
        (place,) = studium.routing.challenged
        assert place.challenger is not None
        async with studium.fleet.seat(place.challenger, timeout_s=10.0):
            await ask(studium, 1)
            async with asyncio.timeout(60):
                while not studium.watch.counts["dropped"]:
                    await asyncio.sleep(0.01)
        await ask(studium, 2)
        async with asyncio.timeout(60):
            while not studium.watch.counts["exposed"]:
                await asyncio.sleep(0.01)
        (going,) = studium.store.rollouts.rollouts(only_going=True)
        (one,) = studium.store.rollouts.exposures(going.number)
        assert one.challenger["errors"] == 1.0


async def test_a_roll_out_that_cannot_go_on_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async with house(tmp_path, says("Answer: 4"), says("Answer: 5")) as studium:
        await begin(studium, share=0.5)
        read = studium.watch._read  # type: ignore[reportPrivateUsage]
        older = Rollout(0, "beta", "", "gone", 0.0)
        going = studium.store.rollouts.rollouts

        def broken(watched: watching.Watched) -> None:
            if watched.rollout is older:
                raise BadRequest("its file is gone")
            read(watched)

        monkeypatch.setattr(studium.watch, "_read", broken)
        monkeypatch.setattr(studium.store.rollouts, "rollouts", lambda **which: [older, *going(**which)])
        await until_withdrawn(studium)
        said = [one.message for one in caplog.records if "cannot go on" in one.message]
        assert len(said) == 1 and "beta" in said[0]


async def test_a_question_that_goes_wrong_in_the_shadow_does_not_hold_up_those_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with house(tmp_path, says("Answer: 5"), says("Answer: 4")) as studium:
        await begin(studium)
        watch, taken = studium.watch, list[tuple[Any, ...]]()

        async def the_second_breaks(*heard: Any) -> None:
            taken.append(heard)
            if len(taken) == 2:
                raise RuntimeError("a bug")

        monkeypatch.setattr(watch, "_take", the_second_breaks)
        await ask(studium, 0)
        async with asyncio.timeout(60):
            while not taken:
                await asyncio.sleep(0.01)
            for _ in range(3):  # at once, as answers of one moment are
                watch.answered(*taken[0][:3])
            while len(taken) < 4:
                await asyncio.sleep(0.01)
