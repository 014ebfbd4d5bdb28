"""What a real llama-server must do besides the contract of all engines; skipped where there is none."""

import asyncio
import os
import signal
import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import aiohttp
import psutil
import pytest
from tests.fixtures.llama_server import real_llama_server
from tests.fixtures.tiny_gguf import write_model

from studium.engines.llamacpp.engine import EMBEDDED, LlamaCppEngine
from studium.engines.protocol import complete
from studium.errors import EngineDied, ModelBroken, PromptTooLong
from studium.records.messages import Ask, Finish, Message, Piece, Sampling
from studium.records.models import ModelSpec

LOAD_S = 60.0
SERVER = {"runner": "llama-server"}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncGenerator[LlamaCppEngine, None]:
    with real_llama_server(tmp_path):
        engine = LlamaCppEngine()
        yield engine
        await engine.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


def spec(source: object, name: str = "tiny", **more: object) -> ModelSpec:
    shape: dict[str, object] = {"context_tokens": 1024, "options": SERVER, **more}
    return ModelSpec(name=name, engine="llamacpp", source=str(source), **shape)  # type: ignore[arg-type]


def ask(text: str, max_tokens: int = 64) -> Ask:
    return Ask((Message("user", text),), sampling=Sampling(max_tokens=max_tokens, temperature=0.0, seed=1))


@pytest.mark.parametrize("student", ["abacus", "almanac", "clerk", "critic", "sprout", "tinker"])
async def test_an_embedded_student_says_the_same_in_a_worker_and_in_a_llama_server(
    engine: LlamaCppEngine, student: str
) -> None:
    source = EMBEDDED / f"{student}.gguf"
    here, there = spec(source, "here", options={}), spec(source, "there")
    for model in (here, there):
        await engine.load(model, timeout_s=LOAD_S)
    for question in ("What is 47 + 58?", "Sort: 7, 3, 9", "How many minutes are 2 hours?"):
        replies = [await complete(engine, model, ask(question)) for model in (here, there)]
        assert replies[0].text == replies[1].text
        assert replies[0].completion_tokens == replies[1].completion_tokens


async def test_it_answers_nobody_without_its_key_which_no_process_list_shows(
    engine: LlamaCppEngine, tiny: Path
) -> None:
    await engine.load(spec(tiny), timeout_s=LOAD_S)
    home = engine._homes["tiny"]
    assert home.worker is not None
    async with aiohttp.ClientSession() as session:
        for path, body in (("/v1/completions", {"prompt": "a"}), ("/slots", None)):
            method = "GET" if body is None else "POST"
            async with session.request(method, home.url + path, json=body) as response:
                assert response.status == 401
    assert home.worker.api_key not in " ".join(psutil.Process(home.worker.pid).cmdline())


async def test_killed_in_mid_stream_it_is_named_dead_and_can_be_loaded_again(
    engine: LlamaCppEngine, tiny: Path
) -> None:
    pid = (await engine.load(spec(tiny), timeout_s=LOAD_S)).pid
    assert pid is not None
    async with aclosing(engine.generate(spec(tiny), ask("x", max_tokens=900))) as stream:
        assert isinstance(await anext(stream), Piece)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineDied, match="SIGKILL"):
            async for _ in stream:
                pass
    assert await engine.residences() == []
    assert (await engine.load(spec(tiny), timeout_s=LOAD_S)).pid != pid
    assert (await complete(engine, spec(tiny), ask("x"))).text


async def test_unloading_ends_the_process(engine: LlamaCppEngine, tiny: Path) -> None:
    pid = (await engine.load(spec(tiny), timeout_s=LOAD_S)).pid
    await engine.unload(spec(tiny))
    assert pid is not None and not psutil.pid_exists(pid)


async def test_a_long_queue_keeps_within_the_estimate(engine: LlamaCppEngine, tiny: Path) -> None:
    await engine.load(spec(tiny), timeout_s=LOAD_S)
    one = Ask(prompt="x" * 300, sampling=Sampling(max_tokens=2))
    replies = await asyncio.gather(*(complete(engine, spec(tiny), one) for _ in range(400)))
    assert len(replies) == 400
    (residence,) = await engine.residences()
    assert residence.peak_bytes is not None
    assert residence.peak_bytes <= (await engine.estimate(spec(tiny))).total_bytes


async def test_neither_prompt_nor_answer_is_cut_even_where_the_environment_asks_for_it(
    engine: LlamaCppEngine, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_ARG_CONTEXT_SHIFT", "on")
    model = spec(tiny, context_tokens=256)
    await engine.load(model, timeout_s=LOAD_S)
    with pytest.raises(PromptTooLong, match=r"the prompt has [\d,]+ tokens"):
        await complete(engine, model, Ask(prompt="x" * 300, sampling=Sampling(max_tokens=4)))
    full = await complete(engine, model, Ask(prompt="x" * 200, sampling=Sampling(max_tokens=400, seed=3)))
    assert full.finish is Finish.LENGTH
    assert full.completion_tokens is not None and full.prompt_tokens is not None
    assert full.prompt_tokens + full.completion_tokens <= 256


@pytest.fixture
def strange(tiny: Path, tmp_path: Path) -> Path:
    """A whole file of an architecture that nobody knows: a letter of its name is changed, in keys too."""
    name = struct.pack("<Q", 5)
    content = tiny.read_bytes().replace(name + b"llama", name + b"llamb", 1).replace(b"llama.", b"llamb.")
    path = tmp_path / "strange.gguf"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("options", [{}, SERVER], ids=["worker", "llama-server"])
async def test_a_model_it_cannot_run_is_named_with_the_cause_and_not_only_that_it_failed(
    engine: LlamaCppEngine, strange: Path, options: dict[str, str]
) -> None:
    with pytest.raises(ModelBroken, match="unknown model architecture: 'llamb'"):
        await engine.load(spec(strange, options=options), timeout_s=LOAD_S)
    assert await engine.residences() == []


async def test_one_that_runs_already_is_used_by_its_address(
    engine: LlamaCppEngine, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.load(spec(tiny), timeout_s=LOAD_S)
    running = engine._homes["tiny"]
    assert running.worker is not None
    monkeypatch.setenv("TINY_KEY", running.worker.api_key)
    visitor = LlamaCppEngine()
    model = spec(tiny, options={"url": running.url, "api_key_env": "TINY_KEY"})
    await visitor.load(model, timeout_s=LOAD_S)
    there = await complete(visitor, model, ask("x"))
    await visitor.close()
    assert there.text == (await complete(engine, spec(tiny), ask("x"))).text
