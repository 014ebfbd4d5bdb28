"""The unmodified `ollama` client against the whole house on a real socket, with scripted students."""

import ollama
import pytest
from tests.fixtures.scripted_house import scripted_house

QUESTION = [{"role": "user", "content": "What is 47 + 58?"}]


@pytest.fixture
async def client(tmp_path):
    async with scripted_house(tmp_path) as served:
        yield ollama.AsyncClient(host=served.url)


async def test_chat_whole_and_streamed_say_the_same(client):
    whole = await client.chat("adder", QUESTION)
    assert whole.message.content == "47 + 58 = 105"
    assert whole.done and whole.done_reason == "stop" and whole.eval_count > 0
    pieces = [part async for part in await client.chat("adder", QUESTION, stream=True)]
    assert "".join(part.message.content for part in pieces) == whole.message.content
    assert pieces[-1].done and pieces[-1].total_duration > 0


async def test_generate_takes_options_and_formats(client):
    answer = await client.generate("adder", "What is 47 + 58?", options={"num_predict": 2})
    assert answer.done_reason == "length"
    answer = await client.generate("adder", "What is 47 + 58?", format="json")
    assert answer.response == '{"sum": 105}'


async def test_the_virtual_models_are_committees(client):
    answer = await client.chat("auto", QUESTION)
    assert "105" in answer.message.content


async def test_an_empty_request_loads_and_keep_alive_zero_unloads(client):
    assert (await client.generate("adder", "")).done_reason == "load"
    assert [model.name for model in (await client.ps()).models] == ["adder"]
    assert (await client.generate("adder", "", keep_alive=0)).done_reason == "unload"
    assert not (await client.ps()).models


async def test_list_and_show_describe_the_students(client):
    names = [model.model for model in (await client.list()).models]
    assert {"auto", "adder", "vectors"} <= set(names)
    assert (await client.show("adder")).modelinfo["studium.context_length"] == 1024


async def test_embeddings(client):
    assert (await client.embed("vectors", ["cat", "dog"])).embeddings == [[1.0, 0.0], [0.5, -0.5]]


async def test_errors_are_the_clients_own(client):
    with pytest.raises(ollama.ResponseError) as caught:
        await client.chat("nobody", QUESTION)
    assert caught.value.status_code == 404 and "nobody" in caught.value.error
    with pytest.raises(ollama.ResponseError):
        async for _ in await client.chat("dying", QUESTION, stream=True):
            pass
