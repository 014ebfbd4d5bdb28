"""The engine against the scripted server, which speaks Ollama's protocol over real HTTP."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from studium.engines import ollama_wire
from studium.engines.ollama import OllamaEngine
from studium.engines.ollama.derive import Outcome
from studium.engines.ollama.sizes import OVERHEAD_BYTES, estimate_bytes
from studium.engines.protocol import complete
from studium.engines.scripted import Fault, FaultKind, ModelScript, Script, says
from studium.engines.scripted.server import Running, serving
from studium.errors import (
    BadReply,
    ConfigurationError,
    DoesNotFit,
    EngineDied,
    EngineMissing,
    EngineRefused,
    EngineTimeout,
    ModelBroken,
    PromptTooLong,
    UnknownModel,
    Unsupported,
)
from studium.records.messages import Ask, Message, Sampling
from studium.records.models import ModelSpec, Student

ALPHA = ModelSpec(name="alpha", engine="ollama", source="mistral")
QUESTION = Ask(messages=(Message("user", "hi"),))
STUDENT = Student(
    name="alpha",
    model=ModelSpec(name="rh-alpha", engine="ollama", source="rh-alpha:latest", context_tokens=2048),
    system_prompt='You prove "lemmas".',
    sampling=Sampling(temperature=0.7, top_k=40, repeat_penalty=1.1, stop=("END", "two words")),
)


@asynccontextmanager
async def engine_on(
    model: ModelScript, *, ollama_version: str = "0.12.11", **choices
) -> AsyncGenerator[tuple[OllamaEngine, Running], None]:
    async with serving(Script({"mistral": model}), ollama_version=ollama_version) as running:
        engine = OllamaEngine(running.url, **choices)
        try:
            yield engine, running
        finally:
            await engine.close()


def breaks(kind: FaultKind, **choices) -> ModelScript:
    return replace(says("one two three"), fault=Fault(kind, **choices))


def bodies(running: Running, path: str) -> list:
    return [seen.body for seen in running.seen if seen.path == path]


async def test_loading_pins_a_model_and_unloading_waits_until_it_is_gone():
    async with engine_on(ModelScript(resident_bytes=5_000)) as (engine, running):
        residence = await engine.load(ALPHA, timeout_s=30)
        assert (residence.model, residence.resident_bytes, residence.vram_bytes) == ("alpha", 5_000, 5_000)
        assert [held.model for held in await engine.residences()] == ["alpha"]
        await engine.unload(ALPHA)
        assert await engine.residences() == []
        assert [body["keep_alive"] for body in bodies(running, "/api/generate")] == [-1, 0]


async def test_memory_that_ollama_keeps_is_reported_and_not_hidden():
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    model = ModelScript(fault=Fault(FaultKind.KEEPS_MEMORY, times=1))
    async with engine_on(model, clock=lambda: now[0], sleep=sleep) as (engine, _):
        await engine.load(ALPHA, timeout_s=30)
        with pytest.raises(EngineTimeout, match="still holds alpha 10 s.*ollama stop mistral"):
            await engine.unload(ALPHA)
        assert [held.model for held in await engine.residences()] == ["alpha"]
        await engine.unload(ALPHA)
        assert await engine.residences() == []


async def test_an_answer_is_streamed_with_the_choices_of_the_ask_and_never_a_cut_prompt():
    async with engine_on(replace(says("one two three"), json_answer='{"n":1}')) as (engine, running):
        await engine.load(ALPHA, timeout_s=30)
        ask = replace(QUESTION, sampling=Sampling(top_k=3, max_tokens=2, seed=0), top_logprobs=2)
        reply = await complete(engine, ALPHA, ask)
        body = bodies(running, "/api/chat")[-1]
        shaped = await complete(engine, ALPHA, replace(QUESTION, json_schema={"type": "object"}))
        with pytest.raises(PromptTooLong):
            await complete(engine, replace(ALPHA, context_tokens=3), Ask(prompt="a b c d"))
    assert (reply.text, reply.finish, reply.prompt_tokens, reply.completion_tokens) == (
        "one two",
        "length",
        1,
        2,
    )
    assert [len(entry.top) for entry in reply.logprobs] == [2, 2]
    assert body["options"] == {"num_ctx": 1024, "top_k": 3, "num_predict": 2, "seed": 0}
    assert (body["truncate"], body["shift"], body["keep_alive"]) == (False, False, -1)
    assert shaped.text == '{"n":1}'


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.CRASH, EngineDied),
        (FaultKind.HALF_STREAM, EngineDied),
        (FaultKind.GARBAGE, BadReply),
        (FaultKind.HANG, EngineTimeout),
    ],
)
async def test_a_stream_that_breaks_is_never_taken_for_an_answer(kind, error):
    async with engine_on(breaks(kind, after_tokens=2)) as (engine, _):
        await engine.load(ALPHA, timeout_s=30)
        heard = []
        with pytest.raises(error):
            async with aclosing(engine.generate(ALPHA, replace(QUESTION, timeout_s=0.5))) as parts:
                async for part in parts:
                    heard.append(part.text)
        assert "".join(heard) == "one two"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.OUT_OF_MEMORY, DoesNotFit),
        (FaultKind.CRASH_AT_LOAD, ModelBroken),
        (FaultKind.HANG_AT_LOAD, EngineTimeout),
    ],
)
async def test_a_load_that_fails_is_named_and_leaves_nothing(kind, error):
    async with engine_on(breaks(kind, times=1)) as (engine, _):
        with pytest.raises(error):
            await engine.load(ALPHA, timeout_s=0.3)
        assert await engine.residences() == []
        assert (await engine.load(ALPHA, timeout_s=30)).model == "alpha"


async def test_a_refusal_is_a_refusal():
    async with engine_on(breaks(FaultKind.REFUSE)) as (engine, _):
        await engine.load(ALPHA, timeout_s=30)
        with pytest.raises(EngineRefused, match="500"):
            await complete(engine, ALPHA, QUESTION)


async def test_a_missing_server_and_a_missing_model_name_the_command_that_helps():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        engine = OllamaEngine(f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(EngineMissing, match="`ollama serve`"):
            await engine.load(ALPHA, timeout_s=30)
        await engine.close()
    async with engine_on(says("x")) as (engine, _):
        for call in (
            engine.load(replace(ALPHA, source="llama2"), timeout_s=30),
            engine.estimate(STUDENT.model),
        ):
            with pytest.raises(UnknownModel, match="`studium students create`.*`ollama pull"):
                await call


async def test_a_server_that_dies_after_loading_is_an_engine_that_died():
    async with serving(Script({"mistral": says("x")})) as running:
        engine = OllamaEngine(running.url)
        await engine.load(ALPHA, timeout_s=30)
    with pytest.raises(EngineDied, match="ollama serve"):
        await complete(engine, ALPHA, QUESTION)
    assert await engine.residences() == []
    await engine.unload(ALPHA)
    await engine.close()


async def test_an_old_ollama_that_would_cut_is_not_given_what_may_not_fit():
    async with engine_on(says("fine"), ollama_version="0.9.0") as (engine, _):
        await engine.load(ALPHA, timeout_s=30)
        assert (await complete(engine, ALPHA, QUESTION)).text == "fine"
        with pytest.raises(PromptTooLong, match="upgrade Ollama"):
            await complete(engine, ALPHA, Ask(prompt="x" * 1000))


async def test_what_ollama_cannot_do_is_refused():
    async with engine_on(says("x")) as (engine, _):
        with pytest.raises(Unsupported, match="ADAPTER"):
            await engine.load(replace(ALPHA, adapters=("a",)), timeout_s=30)
        await engine.load(ALPHA, timeout_s=30)
        with pytest.raises(Unsupported, match="grammar"):
            await complete(engine, ALPHA, replace(QUESTION, grammar='root ::= "x"'))


async def test_estimates_add_the_cache_to_the_file():
    async with engine_on(ModelScript(resident_bytes=7_000)) as (engine, _):
        estimate = await engine.estimate(replace(ALPHA, context_tokens=100, slots=2))
    # 2 layers x 1 KV head x (16 + 16) x 100 tokens x 2 slots x 2 bytes, as the scripted server describes itself
    assert (estimate.weights_bytes, estimate.kv_cache_bytes) == (7_000, 25_600)
    assert estimate.overhead_bytes == OVERHEAD_BYTES


def test_estimates_read_heads_per_layer_and_declared_head_sizes():
    info = {
        "general.architecture": "hybrid",
        "hybrid.block_count": 3,
        "hybrid.attention.head_count": 8,
        "hybrid.attention.head_count_kv": [0, 2, 4],
        "hybrid.attention.key_length": 128,
        "hybrid.attention.value_length": 64,
        "hybrid.embedding_length": 512,
    }
    estimate = estimate_bytes("m", 10, info, context_tokens=10, slots=1)
    assert estimate.kv_cache_bytes == (2 + 4) * (128 + 64) * 10 * 2
    with pytest.raises(ModelBroken, match="block_count"):
        estimate_bytes("m", 10, {"general.architecture": "llama"}, context_tokens=10, slots=1)


async def test_a_dry_run_shows_the_model_and_makes_nothing():
    async with engine_on(says("x")) as (engine, running):
        made = await engine.create_student(STUDENT, "mistral", dry_run=True)
        assert await engine.models() == ["mistral:latest"]
        assert bodies(running, "/api/create") == []
    assert (made.tag, made.outcome) == ("rh-alpha:latest", Outcome.CREATED)
    assert made.modelfile.splitlines() == [
        "FROM mistral",
        "PARAMETER num_ctx 2048",
        "PARAMETER temperature 0.7",
        "PARAMETER top_k 40",
        "PARAMETER repeat_penalty 1.1",
        'PARAMETER stop "END"',
        'PARAMETER stop "two words"',
        'SYSTEM """You prove "lemmas"."""',
    ]


async def test_a_dry_run_needs_no_server_and_the_real_run_does():
    engine = OllamaEngine("http://127.0.0.1:9")
    made = await engine.create_student(STUDENT, "mistral", dry_run=True)
    assert made.outcome is Outcome.UNCHECKED
    assert made.modelfile == engine.modelfile(STUDENT, "mistral")
    with pytest.raises(EngineMissing, match="ollama serve"):
        await engine.create_student(STUDENT, "mistral")
    await engine.close()


async def test_creating_again_does_nothing_until_the_definition_changes():
    changed = [
        replace(STUDENT, system_prompt="Another."),
        replace(STUDENT, sampling=replace(STUDENT.sampling, temperature=0.8)),
        replace(STUDENT, sampling=replace(STUDENT.sampling, top_k=None)),
        replace(STUDENT, sampling=replace(STUDENT.sampling, stop=("END",))),
    ]
    async with engine_on(says("x")) as (engine, running):
        outcomes = [(await engine.create_student(STUDENT, "mistral")).outcome for _ in range(2)]
        assert outcomes == [Outcome.CREATED, Outcome.UNCHANGED]
        for student in changed:
            assert (await engine.create_student(student, "mistral")).outcome is Outcome.REPLACED
            assert (await engine.create_student(student, "mistral")).outcome is Outcome.UNCHANGED
        assert len(bodies(running, "/api/create")) == 1 + len(changed)
        grandchild = replace(STUDENT, model=replace(STUDENT.model, source="child"))
        for outcome in (Outcome.CREATED, Outcome.UNCHANGED):
            assert (await engine.create_student(grandchild, "rh-alpha")).outcome is outcome


async def test_a_student_speaks_with_its_own_prompt_once_created():
    async with engine_on(ModelScript(obeys=True)) as (engine, _):
        student = replace(STUDENT, system_prompt="Always say moo", sampling=Sampling())
        await engine.create_student(student, "mistral")
        await engine.load(student.model, timeout_s=30)
        assert (await complete(engine, student.model, QUESTION)).text == "moo"


async def test_a_missing_base_names_its_pull_and_a_student_cannot_overwrite_its_base():
    async with engine_on(says("x")) as (engine, _):
        with pytest.raises(UnknownModel, match="the base of alpha.*ollama pull codegemma"):
            await engine.create_student(STUDENT, "codegemma")
        with pytest.raises(ConfigurationError, match="is its base itself"):
            await engine.create_student(STUDENT, "rh-alpha")


async def test_a_pull_tells_its_progress_and_a_failed_one_says_why():
    async with engine_on(says("x")) as (engine, _):
        steps = [step async for step in engine.pull("echo")]
        assert (steps[0].status, steps[-1].status) == ("pulling manifest", "success")
        assert [step.completed_bytes for step in steps if step.total_bytes][-1] == steps[1].total_bytes
        with pytest.raises(UnknownModel, match="no model 'nowhere'.*file does not exist"):
            [step async for step in engine.pull("nowhere")]


@asynccontextmanager
async def engine_told(*lines: dict) -> AsyncGenerator[OllamaEngine, None]:
    """An engine whose server answers anything with these lines and closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"".join(ollama_wire.ndjson(line) for line in lines)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        engine = OllamaEngine(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield engine
        await engine.close()


async def test_a_pull_that_ends_without_success_is_not_one():
    async with engine_told(ollama_wire.progress("pulling manifest")) as engine:
        with pytest.raises(EngineDied, match="ended at 'pulling manifest'.*goes on with what it has"):
            [step async for step in engine.pull("mistral")]


async def test_a_full_disk_is_the_operators_affair():
    full = ollama_wire.error_body("write /root/.ollama/models/blobs/x-partial: no space left on device")
    async with engine_told(ollama_wire.progress("pulling manifest"), full) as engine:
        with pytest.raises(DoesNotFit, match="no room on Ollama's disk.*ollama rm"):
            [step async for step in engine.pull("mistral")]


async def test_sizes_that_are_no_sizes_count_as_unknown():
    odd = {"status": "pulling x", "completed": "half", "total": -1}
    async with engine_told(odd, ollama_wire.progress("success")) as engine:
        steps = [step async for step in engine.pull("mistral")]
    assert steps[0] == ("pulling x", None, None)


async def test_a_slow_pull_that_moves_is_waited_for():
    script = Script({}, {"mistral": ModelScript(part_s=0.2)})
    async with serving(script) as running:
        engine = OllamaEngine(running.url)
        steps = [step async for step in engine.pull("mistral", stall_s=0.5)]
        await engine.close()
    assert steps[-1].status == "success"
    assert [step.completed_bytes for step in steps if step.total_bytes] == [n * 2**18 for n in range(5)]


async def test_missing_models_are_found_each_once():
    async with engine_on(says("x")) as (engine, _):
        assert await engine.missing(["mistral:latest", "a", "mistral", "a", "b"]) == ["a", "b"]
