"""The stand-alone server, driven by the official clients and, where it misbehaves, by plain HTTP."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import httpx
import ollama
import openai
import orjson
import pytest

from studium.engines.scripted import Fault, FaultKind, ModelScript, Rule, Script
from studium.engines.scripted.server import serving

SCRIPT = Script(
    {
        "alpha": ModelScript(
            rules=(Rule(("4 it is",), contains="2 + 2"),),
            default=("I do not know.",),
            json_answer='{"n": 4}',
            resident_bytes=4_000,
            context_tokens=20,
        )
    }
)
QUESTION = [{"role": "user", "content": "What is 2 + 2?"}]


@asynccontextmanager
async def openai_client(script: Script, **choices) -> AsyncGenerator[openai.AsyncOpenAI, None]:
    async with serving(script) as running:
        client = openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0, **choices)
        async with client:
            yield client


@asynccontextmanager
async def ollama_client(script: Script) -> AsyncGenerator[ollama.AsyncClient, None]:
    async with serving(script) as running:
        yield ollama.AsyncClient(host=running.url)


def faulty(kind: FaultKind, **choices) -> Script:
    return Script({"alpha": ModelScript(default=("one two three",), fault=Fault(kind, **choices))})


async def test_the_openai_client_gets_whole_answers_streams_and_logprobs():
    async with openai_client(SCRIPT) as client:
        whole = await client.chat.completions.create(
            model="alpha", messages=QUESTION, logprobs=True, top_logprobs=2
        )
        stream = await client.chat.completions.create(
            model="alpha", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = await client.completions.create(model="alpha", prompt="2 + 2", max_tokens=1)
    assert whole.choices[0].message.content == "4 it is"
    assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 2
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "4 it is"
    assert (chunks[-2].choices[0].finish_reason, chunks[-1].usage.completion_tokens) == ("stop", 3)
    assert (text.choices[0].text, text.choices[0].finish_reason) == ("4", "length")


async def test_the_openai_client_gets_models_embeddings_schemas_and_errors():
    schema = {"type": "object", "required": ["n"]}
    async with openai_client(SCRIPT) as client:
        assert [model.id async for model in client.models.list()] == ["alpha"]
        assert (await client.models.retrieve("alpha")).id == "alpha"
        vectors = await client.embeddings.create(model="alpha", input=["a", "b"], encoding_format="float")
        kept = await client.chat.completions.create(
            model="alpha",
            messages=QUESTION,
            response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        )
        with pytest.raises(openai.NotFoundError, match="beta"):
            await client.chat.completions.create(model="beta", messages=QUESTION)
        with pytest.raises(openai.BadRequestError) as long:
            await client.completions.create(model="alpha", prompt="word " * 20)
    assert [len(entry.embedding) for entry in vectors.data] == [16, 16]
    assert kept.choices[0].message.content == '{"n": 4}'
    assert long.value.code == "context_length_exceeded"


async def test_a_server_with_a_key_refuses_whoever_does_not_bring_it():
    async with serving(SCRIPT, api_key="secret") as running:
        for key, error in (("wrong", openai.AuthenticationError), ("secret", None)):
            async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0) as client:
                if error is None:
                    assert [model.id async for model in client.models.list()] == ["alpha"]
                    continue
                with pytest.raises(error):
                    await client.models.list()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.CRASH, openai.APIConnectionError),
        (FaultKind.REFUSE, openai.InternalServerError),
        (FaultKind.BUSY, openai.RateLimitError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_faults_before_the_first_byte_reach_the_openai_client(kind, error, stream):
    async with openai_client(faulty(kind, times=1)) as client:
        with pytest.raises(error) as raised:
            answer = await client.chat.completions.create(model="alpha", messages=QUESTION, stream=stream)
            if stream:
                [chunk async for chunk in answer]
        if kind is FaultKind.BUSY:
            assert raised.value.response.headers["Retry-After"] == "1"
        again = await client.chat.completions.create(model="alpha", messages=QUESTION)
        assert again.choices[0].message.content == "one two three"


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        (FaultKind.CRASH, aiohttp.ClientPayloadError),
        (FaultKind.HALF_STREAM, None),
        (FaultKind.GARBAGE, None),
    ],
)
async def test_a_stream_breaks_after_its_tokens_without_a_finish(kind, ending):
    async with serving(faulty(kind, after_tokens=2)) as running, aiohttp.ClientSession() as session:
        body = {"model": "alpha", "messages": QUESTION, "stream": True}
        heard = b""
        async with session.post(f"{running.url}/v1/chat/completions", json=body) as response:
            try:
                async for part in response.content.iter_any():
                    heard += part
                ended = None
            except aiohttp.ClientError as error:
                ended = type(error)
    assert ended is ending
    assert b" two" in heard and b"three" not in heard
    assert b"[DONE]" not in heard and b'"stop"' not in heard
    assert (b"\x00\xff{]" in heard) == (kind is FaultKind.GARBAGE)


async def test_a_slow_drip_sends_single_bytes_and_a_hang_ends_with_its_caller():
    body = {"model": "alpha", "messages": QUESTION}
    async with (
        serving(faulty(FaultKind.SLOW_DRIP, seconds=0.0)) as running,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(f"{running.url}/v1/chat/completions", json=body) as response:
            dripped = orjson.loads(await response.read())
    assert dripped["choices"][0]["message"]["content"] == "one two three"
    async with serving(faulty(FaultKind.HANG)) as running, aiohttp.ClientSession() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await session.post(f"{running.url}/v1/chat/completions", json=body)


async def test_the_ollama_client_chats_and_generates_whole_and_streamed():
    async with ollama_client(SCRIPT) as client:
        whole = await client.chat(model="alpha", messages=QUESTION, logprobs=True, top_logprobs=1)
        lines = [line async for line in await client.generate(model="alpha", prompt="2 + 2", stream=True)]
        shaped = await client.chat(model="alpha", messages=QUESTION, format={"type": "object"})
        with pytest.raises(ollama.ResponseError, match="'beta' not found"):
            await client.chat(model="beta", messages=QUESTION)
    assert (whole.message.content, whole.done_reason, whole.eval_count) == ("4 it is", "stop", 3)
    assert [entry.token for entry in whole.logprobs] == ["4", " it", " is"]
    assert "".join(line.response for line in lines) == "4 it is"
    assert [line.done for line in lines] == [False, False, False, True]
    assert shaped.message.content == '{"n": 4}'


async def test_a_prompt_too_long_is_cut_as_ollama_does_unless_that_is_forbidden():
    body = {"model": "alpha", "prompt": "2 + 2 " + "word " * 20, "stream": False}
    async with serving(SCRIPT) as running, aiohttp.ClientSession() as session:
        async with session.post(f"{running.url}/api/generate", json=body) as response:
            assert (await response.json())["response"] == "I do not know."
        async with session.post(f"{running.url}/api/generate", json=body | {"truncate": False}) as response:
            assert (response.status, await response.json()) == (
                400,
                {"error": "the input length exceeds the context length"},
            )


async def test_models_are_loaded_by_use_and_unloaded_by_keep_alive():
    async with ollama_client(SCRIPT) as client:
        assert (await client.ps()).models == []
        assert (await client.generate(model="alpha", keep_alive=-1)).done_reason == "load"
        (loaded,) = (await client.ps()).models
        assert (loaded.model, loaded.size, loaded.size_vram) == ("alpha:latest", 4_000, 4_000)
        assert (await client.generate(model="alpha", keep_alive=0)).done_reason == "unload"
        assert (await client.ps()).models == []
        await client.chat(model="alpha", messages=QUESTION, keep_alive=0)
        assert (await client.ps()).models == []


async def test_derived_models_are_created_shown_and_deleted():
    async with ollama_client(SCRIPT) as client:
        await client.create(
            model="rh-alpha", from_="alpha", system="Prove it.", parameters={"top_k": 5, "stop": ["x"]}
        )
        shown = await client.show("rh-alpha")
        assert shown.parameters.split() == ["top_k", "5", "stop", '"x"']
        assert shown.details.parent_model == "alpha:latest"
        assert shown.modelinfo["llama.block_count"] == 2
        assert {tag.model for tag in (await client.list()).models} == {"alpha:latest", "rh-alpha:latest"}
        await client.delete("rh-alpha")
        with pytest.raises(ollama.ResponseError, match="not found"):
            await client.show("rh-alpha")


async def test_a_pull_tells_its_progress():
    async with ollama_client(SCRIPT) as client:
        steps = [step async for step in await client.pull("echo", stream=True)]
        assert (steps[0].status, steps[-1].status) == ("pulling manifest", "success")
        sizes = [step.completed for step in steps if step.digest]
        assert sizes == sorted(sizes) and sizes[-1] == steps[1].total
        assert (await client.generate(model="echo", prompt="hello")).response == "hello"
        with pytest.raises(ollama.ResponseError, match="does not exist"):
            await client.pull("nowhere")
        with pytest.raises(ollama.ResponseError, match="does not exist"):
            [step async for step in await client.pull("nowhere", stream=True)]


async def test_a_pull_goes_on_where_the_last_one_was_left_and_begins_anew_after_a_delete():
    script = Script({}, {"mistral": ModelScript(resident_bytes=400, part_s=0.05)})
    async with ollama_client(script) as client:
        async for step in await client.pull("mistral", stream=True):
            if step.completed == 200:
                break
        with pytest.raises(ollama.ResponseError, match="not found"):
            await client.show("mistral")
        for expected in ([200, 300, 400], [400], [0, 100, 200, 300, 400]):
            steps = [step async for step in await client.pull("mistral", stream=True)]
            assert [step.completed for step in steps if step.digest][-len(expected) :] == expected
            if len(expected) == 1:
                await client.delete("mistral")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.REFUSE, ollama.ResponseError),
        (FaultKind.CRASH, httpx.HTTPError),
        (FaultKind.GARBAGE, ValueError),
    ],
)
async def test_a_pull_breaks_as_its_script_says_and_the_next_one_is_whole(kind, error):
    fault = Fault(kind, after_tokens=2, times=1)
    async with ollama_client(Script({}, {"mistral": ModelScript(pull_fault=fault)})) as client:
        with pytest.raises(error):
            [step async for step in await client.pull("mistral", stream=True)]
        assert (await client.pull("mistral")).status == "success"
        assert (await client.generate(model="mistral", prompt="x")).response


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [(FaultKind.OUT_OF_MEMORY, "requires more system memory"), (FaultKind.CRASH_AT_LOAD, "has terminated")],
)
async def test_a_load_that_fails_says_why(kind, complaint):
    async with ollama_client(faulty(kind)) as client:
        with pytest.raises(ollama.ResponseError, match=complaint):
            await client.generate(model="alpha")
        assert (await client.ps()).models == []


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"model": "alpha", "messages": "x"}',
        b'{"model": "alpha", "messages": [{}]}',
        b'{"model": "alpha", "messages": [{"content": "a"}], "seed": "x", "options": {"seed": "x"}}',
    ],
)
async def test_a_body_that_is_no_request_is_a_clear_error_in_either_shape(content):
    async with serving(SCRIPT) as running, aiohttp.ClientSession() as session:
        for path in ("/v1/chat/completions", "/api/generate" if b"messages" not in content else "/api/chat"):
            async with session.post(running.url + path, data=content) as response:
                assert response.status == 400
                error = (await response.json())["error"]
                assert error if path.startswith("/api") else error["message"]


async def test_the_command_prints_its_port_and_ends_when_told(tmp_path: Path):
    file = tmp_path / "script.yaml"
    file.write_text('models: {alpha: {default: "A"}}')
    command = (sys.executable, "-m", "studium.engines.scripted.server", "--script", str(file))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=os.environ)
    try:
        async with asyncio.timeout(60):
            said = orjson.loads(await process.stdout.readline())
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{said['url']}/v1/models") as response,
            ):
                assert [entry["id"] for entry in (await response.json())["data"]] == ["alpha"]
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
