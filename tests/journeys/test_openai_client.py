"""The unmodified `openai` client against the whole house on a real socket, with scripted students."""

import asyncio

import openai
import pytest
from sqlalchemy import select
from tests.fixtures.scripted_house import scripted_house

from studium.store import schema

QUESTION = [{"role": "user", "content": "What is 47 + 58?"}]
SUMS = {"studium": {"students": ["adder", "summer"]}}


@pytest.fixture
async def served(tmp_path):
    async with scripted_house(tmp_path) as served:
        yield served


@pytest.fixture
async def client(served):
    async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_a_committee_answers_and_tells_who_said_what(client):
    answer = await client.chat.completions.create(model="auto", messages=QUESTION, extra_body=SUMS)
    assert "105" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    evidence = answer.model_extra["studium"]
    assert evidence["strategy"] == "committee" and evidence["agreement"] == 1.0
    assert {member["student"] for member in evidence["members"]} <= {"adder", "summer"}


async def test_a_streamed_answer_is_the_whole_answer(client):
    stream = await client.chat.completions.create(
        model="adder", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == "47 + 58 = 105"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens > 0
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1


async def test_the_helper_that_gathers_a_stream_works(client):
    async with client.chat.completions.stream(model="adder", messages=QUESTION) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "47 + 58 = 105"


async def test_log_probabilities_and_json_come_where_asked_for(client):
    answer = await client.chat.completions.create(
        model="adder",
        messages=QUESTION,
        logprobs=True,
        top_logprobs=2,
        response_format={"type": "json_schema", "json_schema": {"name": "sum", "schema": {"type": "object"}}},
    )
    assert answer.choices[0].message.content == '{"sum": 105}'
    assert answer.choices[0].logprobs.content[0].logprob <= 0


async def test_a_loading_model_is_bridged_by_heartbeats_the_client_does_not_see(tmp_path):
    async with (
        scripted_house(tmp_path, heartbeat="100ms") as served,
        openai.AsyncOpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0, timeout=20) as client,
    ):
        stream = await client.chat.completions.create(model="slow", messages=QUESTION, stream=True)
        said = [chunk.choices[0].delta.content async for chunk in stream]
    assert "".join(text or "" for text in said) == "at last"


async def test_a_model_that_dies_in_mid_stream_raises_and_never_looks_like_success(client):
    stream = await client.chat.completions.create(model="dying", messages=QUESTION, stream=True)
    with pytest.raises(openai.APIError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "engine_died"


async def test_a_model_that_dies_before_an_answer_is_a_502(client):
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model="dying", messages=QUESTION)
    assert caught.value.status_code == 502


async def test_a_committee_outlives_a_student_that_dies(client):
    answer = await client.chat.completions.create(
        model="auto", messages=QUESTION, extra_body={"studium": {"students": ["dying", "adder", "summer"]}}
    )
    assert "105" in answer.choices[0].message.content


async def test_unknown_models_and_long_prompts_are_the_clients_own_errors(client):
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="../nobody", messages=QUESTION)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(
            model="adder", messages=[{"role": "user", "content": "word " * 1_500}]
        )
    assert caught.value.code == "context_length_exceeded"


async def test_models_are_listed_while_one_is_being_loaded(client):
    loading = asyncio.create_task(client.chat.completions.create(model="slow", messages=QUESTION))
    names = [model.id async for model in await client.models.list()]
    assert not loading.done()
    assert {"auto", "expert", "adder", "slow"} <= set(names)
    await loading


async def test_completions_and_embeddings(client):
    answer = await client.completions.create(model="adder", prompt="47 + 58 =")
    assert answer.choices[0].text
    vectors = await client.embeddings.create(model="vectors", input=["cat", "dog"])
    assert [entry.embedding for entry in vectors.data] == [[1.0, 0.0], [0.5, -0.5]]
    with pytest.raises(openai.BadRequestError):
        await client.embeddings.create(model="adder", input="cat")


async def test_every_request_is_in_the_store(client, served):
    await client.chat.completions.create(model="adder", messages=QUESTION)
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="nobody", messages=QUESTION)
    assert served.studium.store.flush()
    rows = served.studium.store.read(select(schema.requests))
    assert [(row["model"], row["status"]) for row in rows] == [("adder", 200), ("nobody", 404)]


async def test_progress_of_a_committee_is_there_for_who_looks_and_no_text_to_who_does_not(client):
    stream = await client.chat.completions.create(
        model="auto",
        messages=QUESTION,
        stream=True,
        extra_body={"studium": {**SUMS["studium"], "strategy": "debate"}},
    )
    chunks = [chunk async for chunk in stream]
    told = [
        extra["progress"]
        for chunk in chunks
        if "progress" in (extra := chunk.model_extra.get("studium") or {})
    ]
    assert {one.get("student") for one in told} >= {"adder", "summer"}
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said in ("47 + 58 = 105", "The answer is 105")
