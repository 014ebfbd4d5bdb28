"""What only the llama.cpp engine promises: processes that end, memory that comes back, files that are broken."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import aiohttp
import psutil
import pytest
from tests.fixtures import llama_server
from tests.fixtures.tiny_gguf import Shape, write_adapter, write_model

from studium.engines.llamacpp.engine import LlamaCppEngine
from studium.engines.protocol import complete
from studium.errors import (
    BadRequest,
    ConfigurationError,
    DoesNotFit,
    EngineDied,
    EngineMissing,
    EngineRefused,
    EngineTimeout,
    ModelBroken,
    OperatorError,
    PromptTooLong,
    UnknownModel,
    Unsupported,
)
from studium.records.messages import Ask, Finish, Message, Piece, Reply, Sampling
from studium.records.models import ModelSpec

LOAD_S = 60.0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
async def engine() -> AsyncGenerator[LlamaCppEngine, None]:
    engine = LlamaCppEngine()
    yield engine
    await engine.close()


def spec(path: Path, name: str = "tiny", **more: object) -> ModelSpec:
    shape: dict[str, object] = {"context_tokens": 1024, **more}
    return ModelSpec(name=name, engine="llamacpp", source=str(path), **shape)  # type: ignore[arg-type]


def ask(text: str = "Hello", *, max_tokens: int = 16, timeout_s: float = 60.0) -> Ask:
    sampling = Sampling(max_tokens=max_tokens, seed=1)
    return Ask(messages=(Message("user", text),), sampling=sampling, timeout_s=timeout_s)


def content(path: Path) -> bytes:
    return path.read_bytes()


async def until(true: Callable[[], bool], limit_s: float = 30.0) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, "it did not come about in time"
        await asyncio.sleep(0.01)


async def test_a_worker_of_a_million_parameters_is_small_and_its_memory_comes_back(
    engine: LlamaCppEngine, tiny: Path
) -> None:
    model = spec(tiny)
    residence = await engine.load(model, timeout_s=LOAD_S)
    assert residence.pid is not None
    assert residence.load_seconds is not None
    await complete(engine, model, ask("x" * 700, max_tokens=200))
    (now,) = await engine.residences()
    assert now.resident_bytes is not None
    assert now.peak_bytes is not None
    assert 20e6 < now.resident_bytes <= now.peak_bytes < 60e6
    await engine.unload(model)
    assert not psutil.pid_exists(residence.pid)  # ended and reaped: nothing of it is left


async def test_a_worker_killed_in_mid_stream_is_named_dead_and_harms_nobody(
    engine: LlamaCppEngine, tiny: Path
) -> None:
    victim, neighbour = spec(tiny, "victim"), spec(tiny, "neighbour")
    pid = (await engine.load(victim, timeout_s=LOAD_S)).pid
    await engine.load(neighbour, timeout_s=LOAD_S)
    assert pid is not None
    async with aclosing(engine.generate(victim, ask(max_tokens=900))) as stream:
        assert isinstance(await anext(stream), Piece)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineDied, match="SIGKILL"):
            async for _ in stream:
                pass
    assert [residence.model for residence in await engine.residences()] == ["neighbour"]
    assert (await complete(engine, neighbour, ask())).text
    with pytest.raises(EngineDied):
        await complete(engine, victim, ask())
    reborn = await engine.load(victim, timeout_s=LOAD_S)
    assert reborn.pid != pid
    assert (await complete(engine, victim, ask())).text


async def test_an_idle_worker_that_was_killed_is_no_residence_and_is_loaded_anew(
    engine: LlamaCppEngine, tiny: Path
) -> None:
    first = await engine.load(spec(tiny), timeout_s=LOAD_S)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    await until(lambda: not psutil.pid_exists(first.pid or 0))
    assert await engine.residences() == []
    assert (await engine.load(spec(tiny), timeout_s=LOAD_S)).pid != first.pid


PARENT = """
import asyncio, sys
from studium.engines.llamacpp.engine import LlamaCppEngine
from studium.records.models import ModelSpec

async def main():
    engine = LlamaCppEngine()
    options = {{"runner": "llama-server"}} if {program} else {{}}
    model = ModelSpec("tiny", "llamacpp", sys.argv[1], options=options)
    residence = await engine.load(model, timeout_s=20)
    print(residence.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("program", ["", "stand-in", "real"], ids=["worker", "stand-in", "llama-server"])
async def test_no_worker_outlives_its_parent(
    tiny: Path, tmp_path: Path, how: signal.Signals, program: str
) -> None:
    folder = tmp_path
    if program == "real":
        with llama_server.real_llama_server(tmp_path) as link:
            folder = link.parent
    else:
        llama_server.install(tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["PATH"] = f"{folder}{os.pathsep}{environment['PATH']}"
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PARENT.format(program=bool(program)),
        str(tiny),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
    )
    try:
        assert parent.stdout is not None
        worker = psutil.Process(int(await asyncio.wait_for(parent.stdout.readline(), LOAD_S)))
        parent.send_signal(how)
    finally:
        await until(lambda: parent.returncode is not None)
    await until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


async def test_a_long_queue_keeps_within_the_estimate(engine: LlamaCppEngine, tiny: Path) -> None:
    """Asks that llama-server keeps waiting cost it memory: 400 of them once took 30 MB."""
    model = spec(tiny)
    await engine.load(model, timeout_s=LOAD_S)
    one = Ask(prompt="x" * 300, sampling=Sampling(max_tokens=2))
    await asyncio.gather(*(complete(engine, model, one) for _ in range(400)))
    (residence,) = await engine.residences()
    assert residence.peak_bytes is not None
    assert residence.peak_bytes <= (await engine.estimate(model)).total_bytes


async def test_waiting_for_a_slot_counts_against_the_limit(engine: LlamaCppEngine, tiny: Path) -> None:
    model = spec(tiny)
    await engine.load(model, timeout_s=LOAD_S)
    async with aclosing(engine.generate(model, ask(max_tokens=1000))) as holder:
        await anext(holder)
        with pytest.raises(EngineTimeout, match="slots"):
            await complete(engine, model, ask(timeout_s=0.1))
    assert (await complete(engine, model, ask())).text


@pytest.mark.parametrize("live", [True, False])
async def test_leaving_an_answer_frees_its_slot_in_the_worker(
    engine: LlamaCppEngine, tiny: Path, live: bool
) -> None:
    model = spec(tiny)
    await engine.load(model, timeout_s=LOAD_S)
    home = engine._homes["tiny"]

    async def busy(session: aiohttp.ClientSession) -> bool:
        async with session.get(f"{home.url}/slots", headers=home.headers) as response:
            return any(slot["is_processing"] for slot in await response.json())

    async def begun(session: aiohttp.ClientSession) -> asyncio.Task[Reply]:
        """Start answers until one is seen at work: on a busy machine one may be over before we look."""
        while True:
            answer = asyncio.create_task(complete(engine, model, replace(ask(max_tokens=900), live=live)))
            while not answer.done():
                if await busy(session):
                    return answer

    async def freed_early(session: aiohttp.ClientSession) -> bool:
        whole_s = (await complete(engine, model, ask(max_tokens=900))).seconds
        answer = await begun(session)
        left = time.monotonic()
        answer.cancel()
        while await busy(session):
            pass
        return time.monotonic() - left < whole_s / 2

    async with aiohttp.ClientSession() as session, asyncio.timeout(90.0):
        for _ in range(5):  # a busy machine can hold up our own looking
            if await freed_early(session):
                return
    pytest.fail("a slot was held for as long as its answer would have taken, five times of five")


async def test_a_worker_answers_nobody_without_its_key(engine: LlamaCppEngine, tiny: Path) -> None:
    await engine.load(spec(tiny), timeout_s=LOAD_S)
    home = engine._homes["tiny"]
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"Authorization": "Bearer guess"}):
            async with session.post(
                f"{home.url}/v1/completions", json={"prompt": "a"}, headers=headers
            ) as response:
                assert response.status == 401
    assert home.worker is not None
    command = " ".join(psutil.Process(home.worker.pid).cmdline())
    assert home.worker.api_key not in command


@pytest.mark.parametrize(
    ("written", "reason"),
    [(b"", "ends within"), (b"\x7fELF" + bytes(5000), "GGUF"), (b"GGUF" + b"\xff" * 400, "version")],
    ids=["empty", "another format", "garbage"],
)
async def test_a_broken_file_is_named_with_path_and_reason(
    engine: LlamaCppEngine, tmp_path: Path, written: bytes, reason: str
) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(written)
    for attempt in (engine.load(spec(path), timeout_s=LOAD_S), engine.estimate(spec(path))):
        with pytest.raises(ModelBroken, match=reason) as caught:
            await attempt
        assert str(path) in str(caught.value)


async def test_a_header_without_a_model_behind_it_is_broken_with_llamacpps_own_words(
    engine: LlamaCppEngine, tmp_path: Path, tiny: Path
) -> None:
    path = tmp_path / "renamed.gguf"
    path.write_bytes(content(tiny).replace(b"blk.0.attn_q.weight", b"blk.0.attn_z.weight"))
    with pytest.raises(ModelBroken, match="worker|init|load"):
        await engine.load(spec(path), timeout_s=LOAD_S)
    assert await engine.residences() == []


async def test_an_adapter_is_no_model(engine: LlamaCppEngine, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "lora.gguf")
    with pytest.raises(ModelBroken, match="adapter"):
        await engine.estimate(spec(path))


async def test_an_adapter_for_another_shape_is_refused(
    engine: LlamaCppEngine, tmp_path: Path, tiny: Path
) -> None:
    adapter = write_adapter(tmp_path / "lora.gguf", Shape(width=64))
    with pytest.raises(ModelBroken):
        await engine.load(spec(tiny, adapters=(str(adapter),)), timeout_s=LOAD_S)
    with pytest.raises(UnknownModel, match="absent"):
        await engine.load(spec(tiny, adapters=("absent.gguf",)), timeout_s=LOAD_S)


async def test_a_load_past_its_limit_is_a_timeout_and_leaves_nothing(
    engine: LlamaCppEngine, tiny: Path
) -> None:
    before = set(psutil.Process().children())
    with pytest.raises(EngineTimeout):
        await engine.load(spec(tiny), timeout_s=0.02)
    assert set(psutil.Process().children()) == before
    assert await engine.residences() == []


async def test_a_load_cancelled_while_the_process_starts_ends_the_process(
    engine: LlamaCppEngine, tiny: Path
) -> None:
    before = set(psutil.Process().children())
    load = asyncio.create_task(engine.load(spec(tiny), timeout_s=LOAD_S))
    await until(lambda: set(psutil.Process().children()) != before)
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert set(psutil.Process().children()) == before


async def test_one_impatient_caller_does_not_end_the_load_of_another(
    engine: LlamaCppEngine, tiny: Path
) -> None:
    patient = asyncio.create_task(engine.load(spec(tiny), timeout_s=LOAD_S))
    with pytest.raises(EngineTimeout):
        await engine.load(spec(tiny), timeout_s=0.01)
    assert (await patient).model == "tiny"


async def test_unloading_during_a_load_ends_it(engine: LlamaCppEngine, tiny: Path) -> None:
    load = asyncio.create_task(engine.load(spec(tiny), timeout_s=LOAD_S))
    await asyncio.sleep(0)
    await engine.unload(spec(tiny))
    with pytest.raises(EngineDied, match="unloaded"):
        await load
    assert await engine.residences() == []


async def test_too_long_a_prompt_is_refused_with_both_numbers(engine: LlamaCppEngine, tiny: Path) -> None:
    await engine.load(spec(tiny, slots=2), timeout_s=LOAD_S)
    with pytest.raises(PromptTooLong, match=r"1,500 tokens; fewer than 1,024"):
        await complete(engine, spec(tiny, slots=2), Ask(prompt="x" * 1500))


async def test_every_slot_has_the_whole_context(engine: LlamaCppEngine, tiny: Path) -> None:
    model = spec(tiny, slots=3)
    await engine.load(model, timeout_s=LOAD_S)
    sampling = Sampling(max_tokens=4)
    replies = await asyncio.gather(
        *(complete(engine, model, Ask(prompt="x" * 1000, sampling=sampling)) for _ in range(3))
    )
    assert [reply.prompt_tokens for reply in replies] == [1000] * 3


async def test_an_answer_that_fills_the_context_ends_with_length(engine: LlamaCppEngine, tiny: Path) -> None:
    await engine.load(spec(tiny), timeout_s=LOAD_S)
    reply = await complete(engine, spec(tiny), Ask(prompt="x" * 1000))
    assert reply.finish is Finish.LENGTH
    assert reply.completion_tokens == 24


async def test_a_text_too_long_to_embed_is_refused(engine: LlamaCppEngine, tiny: Path) -> None:
    model = spec(tiny, embeddings=True)
    await engine.load(model, timeout_s=LOAD_S)
    assert len((await engine.embed(model, ["x" * 1000])).vectors[0]) == 128
    with pytest.raises(PromptTooLong):
        await engine.embed(model, ["short", "x" * 3000])


async def test_a_broken_grammar_is_refused(engine: LlamaCppEngine, tiny: Path) -> None:
    await engine.load(spec(tiny), timeout_s=LOAD_S)
    with pytest.raises(EngineRefused, match="grammar"):
        await complete(engine, spec(tiny), replace(ask(), grammar="root ::= ("))
    assert (await complete(engine, spec(tiny), ask())).text


@pytest.mark.parametrize("given", [Ask(), Ask(prompt=""), Ask(messages=(Message("user", "a"),), prompt="b")])
async def test_an_ask_of_nothing_or_of_two_things_is_refused(
    engine: LlamaCppEngine, tiny: Path, given: Ask
) -> None:
    await engine.load(spec(tiny), timeout_s=LOAD_S)
    with pytest.raises(BadRequest):
        await complete(engine, spec(tiny), given)


async def test_one_name_has_one_shape(engine: LlamaCppEngine, tiny: Path) -> None:
    await engine.load(spec(tiny), timeout_s=LOAD_S)
    with pytest.raises(BadRequest, match="another shape"):
        await engine.load(spec(tiny, slots=4), timeout_s=LOAD_S)


async def test_a_bare_name_is_looked_up_in_the_folders_and_a_path_is_not(tiny: Path) -> None:
    engine = LlamaCppEngine(folders=(tiny.parent,))
    assert await engine.models() == ["tiny.gguf"]
    for source in ("tiny", "tiny.gguf"):
        assert (await engine.estimate(spec(Path(source)))).weights_bytes == len(content(tiny))
    with pytest.raises(UnknownModel):
        await engine.estimate(spec(Path("../models/tiny.gguf")))


async def test_the_parts_of_a_split_model_are_all_counted(tmp_path: Path, tiny: Path) -> None:
    for part in (1, 2, 3):
        (tmp_path / f"big-0000{part}-of-00003.gguf").write_bytes(content(tiny))
    estimate = await LlamaCppEngine().estimate(spec(tmp_path / "big-00001-of-00003.gguf"))
    assert estimate.weights_bytes == 3 * len(content(tiny))


async def test_context_slots_and_adapters_raise_the_estimate(tmp_path: Path, tiny: Path) -> None:
    engine = LlamaCppEngine()
    adapter = write_adapter(tmp_path / "lora.gguf")
    plain = await engine.estimate(spec(tiny))
    wide = await engine.estimate(spec(tiny, slots=4))
    adapted = await engine.estimate(spec(tiny, adapters=(str(adapter),)))
    # 5 layers, 2 heads of 32 for keys and for values, 1,024 tokens, 2 bytes each
    assert plain.kv_cache_bytes == 5 * 2 * 64 * 1024 * 2
    assert wide.kv_cache_bytes == 4 * plain.kv_cache_bytes
    assert adapted.weights_bytes == plain.weights_bytes + adapter.stat().st_size


async def test_a_llama_server_on_the_path_serves_the_same_role(
    engine: LlamaCppEngine, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = spec(tiny, options={"runner": "llama-server"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match="llama-server"):
        await engine.load(model, timeout_s=LOAD_S)
    llama_server.install(tmp_path)
    residence = await engine.load(model, timeout_s=LOAD_S)
    assert residence.resident_bytes is not None
    assert (await complete(engine, model, ask())).text
    with pytest.raises(PromptTooLong):
        await complete(engine, model, ask("x" * 2000))
    await engine.unload(model)
    assert not psutil.pid_exists(residence.pid or 0)


@pytest.mark.parametrize(
    ("script", "error", "reason"),
    [
        ("echo 'error: bad tensors' >&2; exit 3", ModelBroken, "code 3.*bad tensors"),
        ("echo 'failed to allocate buffer for kv cache'; exit 1", DoesNotFit, "failed to allocate"),
        ("kill -9 $$", DoesNotFit, "SIGKILL"),
        ("kill -SEGV $$", ModelBroken, "SIGSEGV"),
    ],
)
async def test_a_server_that_ends_while_it_loads_says_why(
    engine: LlamaCppEngine,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    error: type[OperatorError],
    reason: str,
) -> None:
    program = tmp_path / "llama-server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(error, match=reason):
        await engine.load(spec(tiny, options={"runner": "llama-server"}), timeout_s=LOAD_S)


async def test_a_server_by_url_is_used_and_neither_started_nor_ended(
    engine: LlamaCppEngine, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.load(spec(tiny), timeout_s=LOAD_S)
    running = engine._homes["tiny"]
    assert running.worker is not None
    monkeypatch.setenv("TINY_KEY", running.worker.api_key)
    visitor = LlamaCppEngine()
    model = spec(tiny, options={"url": running.url, "api_key_env": "TINY_KEY"})
    residence = await visitor.load(model, timeout_s=LOAD_S)
    assert residence.pid is residence.resident_bytes is None
    assert (await complete(visitor, model, ask())).text
    await visitor.close()
    assert (await complete(engine, spec(tiny), ask())).text
    with pytest.raises(Unsupported):
        await visitor.load(replace(model, adapters=("x.gguf",)), timeout_s=LOAD_S)
    with pytest.raises(EngineMissing, match="127.0.0.1:9"):
        await visitor.load(replace(model, options={"url": "http://127.0.0.1:9"}), timeout_s=LOAD_S)
    await visitor.close()


@pytest.mark.parametrize("options", [{"runer": "worker"}, {"runner": "docker"}])
async def test_options_that_mean_nothing_are_refused(
    engine: LlamaCppEngine, tiny: Path, options: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError):
        await engine.load(spec(tiny, options=options), timeout_s=LOAD_S)
