"""The Ollama-shaped routes, as bytes on the wire. The official client is in tests/journeys."""

import json

from studium.errors import EngineDied
from studium.records.answers import Delta

HELLO = [{"role": "user", "content": "hello"}]


async def lines(caller, path, body):
    async with caller.post(path, body) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "application/x-ndjson"
        return [json.loads(line) async for line in response.content]


async def post(caller, path, body):
    async with caller.post(path, body) as response:
        return response.status, await response.json()


async def test_chat_streams_unless_told_otherwise(caller):
    got = await lines(caller, "/api/chat", {"model": "adder", "messages": HELLO})
    assert "".join(line["message"]["content"] for line in got) == "The answer is 105."
    assert [line["done"] for line in got] == [False, False, True]
    assert (got[-1]["done_reason"], got[-1]["eval_count"], got[-1]["total_duration"]) == (
        "stop",
        3,
        250_000_000,
    )


async def test_chat_whole_carries_what_the_ensemble_did(caller):
    _, body = await post(caller, "/api/chat", {"model": "auto", "messages": HELLO, "stream": False})
    assert body["message"]["content"] == "The answer is 105." and body["done"]
    assert body["studium"]["chosen_model"] == "adder"


async def test_generate_puts_the_system_prompt_first_and_reads_options(caller, house):
    options = {"temperature": 0, "num_predict": 5, "stop": ["x"], "num_ctx": 99}
    body = {
        "model": "adder:latest",
        "prompt": "hi",
        "system": "be brief",
        "options": options,
        "stream": False,
    }
    _, answer = await post(caller, "/api/generate", body)
    query = house.ensemble.queries[0]
    assert answer["response"] == "The answer is 105."
    assert [message.role for message in query.messages] == ["system", "user"]
    assert (query.model, query.sampling.max_tokens, query.sampling.stop) == ("adder", 5, ("x",))


async def test_raw_prompts_are_continued_and_formats_become_schemas(caller, house):
    await post(
        caller,
        "/api/generate",
        {"model": "adder", "prompt": "1+", "raw": True, "format": "json", "stream": False},
    )
    query = house.ensemble.queries[0]
    assert query.prompt == "1+" and query.json_schema == {"type": "object"}


async def test_an_error_in_mid_stream_is_the_last_line(caller, house):
    house.ensemble.plays(Delta("The"), EngineDied("gone"))
    got = await lines(caller, "/api/chat", {"model": "adder", "messages": HELLO})
    assert got[-1] == {"error": "gone"}


async def test_a_body_without_a_question_loads_and_unloads(caller, house):
    status, body = await post(caller, "/api/generate", {"model": "adder"})
    assert (status, body["done_reason"], house.fleet.loaded) == (200, "load", ["adder-model"])
    async with caller.get("/api/ps") as response:
        (entry,) = (await response.json())["models"]
    assert (entry["name"], entry["size"]) == ("adder-model", 10_000_000)
    status, body = await post(caller, "/api/chat", {"model": "adder", "messages": [], "keep_alive": 0})
    assert (status, body["done_reason"], house.fleet.loaded) == (200, "unload", [])
    assert not house.ensemble.queries


async def test_a_model_that_is_answering_is_not_unloaded(caller, house):
    house.fleet.busy = True
    status, body = await post(caller, "/api/generate", {"model": "adder", "keep_alive": "0s"})
    assert status == 409 and "answering" in body["error"]


async def test_a_team_is_not_loaded_and_a_stranger_not_found(caller):
    assert (await post(caller, "/api/generate", {"model": "auto"}))[0] == 400
    assert (await post(caller, "/api/generate", {"model": "../../etc/passwd"}))[0] == 404
    assert (await post(caller, "/api/show", {"model": "nobody"}))[0] == 404
    assert (await post(caller, "/api/generate", {"model": "adder", "keep_alive": "soon"}))[0] == 400


async def test_tags_show_and_version_describe_what_there_is(caller):
    async with caller.get("/api/tags") as response:
        names = [model["name"] for model in (await response.json())["models"]]
    assert names == ["auto", "simple", "medium", "complex", "expert", "courier", "master", "adder", "sorter"]
    status, body = await post(caller, "/api/show", {"model": "adder"})
    assert status == 200 and body["model_info"]["studium.speciality"] == "adder things"
    assert (await post(caller, "/api/show", {"model": "auto"}))[0] == 200
    async with caller.get("/api/version") as response:
        assert (await response.json())["version"]


async def test_embed_gives_one_vector_per_text(caller, house):
    house.ensemble.vectors = [[1.0], [2.0]]
    status, body = await post(caller, "/api/embed", {"model": "adder", "input": ["a", "b"]})
    assert (status, body["embeddings"]) == (200, [[1.0], [2.0]])
