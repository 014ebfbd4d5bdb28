"""The OpenAI-shaped routes, as bytes on the wire. The clients themselves are in tests/journeys."""

import base64
import json
import struct

from studium.errors import (
    DoesNotFit,
    EngineDied,
    EngineTimeout,
    PromptTooLong,
    StoreUnavailable,
    UnknownModel,
)
from studium.records.answers import Delta, Progress


def events(text: str) -> list:
    """The data of server-sent events, parsed, without comments."""
    data = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


async def stream(caller, path="/v1/chat/completions", **more) -> str:
    body = {"model": "auto", "stream": True, **more}
    if path.endswith("chat/completions"):
        body.setdefault("messages", [{"role": "user", "content": "What is 47 + 58?"}])
    async with caller.post(path, body) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        return await response.text()


async def test_a_chat_answer_counts_the_whole_committee_and_says_who_did_what(caller, house):
    status, body = await caller.chat()
    assert status == 200
    assert body["choices"][0]["message"] == {
        "role": "assistant",
        "content": "The answer is 105.",
        "refusal": None,
    }
    assert body["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert [member["fate"] for member in body["studium"]["members"]] == ["answered", "failed"]
    assert house.ensemble.queries[0].question == "What is 47 + 58?"


async def test_headers_say_in_brief_what_the_ensemble_did(caller):
    body = {"model": "auto", "messages": [{"role": "user", "content": "?"}]}
    async with caller.post("/v1/chat/completions", body, headers={"x-request-id": "mine-1"}) as response:
        assert response.headers["x-studium-strategy"] == "committee"
        assert response.headers["x-studium-chosen-model"] == "adder"
        assert response.headers["x-studium-request-id"] == "mine-1"


async def test_a_streamed_chat_keeps_the_order_of_chunks(caller):
    role, first, second, last, usage, done = events(
        await stream(caller, stream_options={"include_usage": True})
    )
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert first["choices"][0]["delta"]["content"] + second["choices"][0]["delta"]["content"] == (
        "The answer is 105."
    )
    assert last["choices"][0]["delta"] == {} and last["choices"][0]["finish_reason"] == "stop"
    assert last["studium"]["chosen_model"] == "adder"
    assert usage["choices"] == [] and usage["usage"]["total_tokens"] == 10
    assert done == "[DONE]"
    assert len({(chunk["id"], chunk["created"]) for chunk in (role, first, second, last, usage)}) == 1


async def test_usage_is_not_sent_unasked(caller):
    assert all("usage" not in chunk or chunk["usage"] is None for chunk in events(await stream(caller))[:-1])


async def test_progress_of_the_committee_travels_as_comments(caller, house):
    house.ensemble.plays(Progress("adder is being loaded"), Delta("105"), *house.ensemble.steps[-1:])
    text = await stream(caller)
    assert ": adder is being loaded\n\n" in text
    assert events(text)[2]["choices"][0]["delta"]["content"] == "105"


async def test_an_answer_without_pieces_is_streamed_all_the_same(caller, house):
    house.ensemble.plays(house.ensemble.steps[-1])
    assert events(await stream(caller))[1]["choices"][0]["delta"]["content"] == "The answer is 105."


async def test_an_error_before_the_first_word_has_a_status_of_its_own(caller, house):
    house.ensemble.plays(Progress("thinking"), PromptTooLong("2,000 tokens do not fit 1,024"))
    status, body = await caller.chat(stream=True)
    assert status == 400
    assert body["error"]["code"] == "context_length_exceeded"


async def test_an_error_inside_a_stream_is_an_event_and_no_done_follows(caller, house):
    house.ensemble.plays(Delta("The"), EngineDied("adder's worker is gone"))
    got = events(await stream(caller))
    assert got[-1]["error"]["code"] == "engine_died"
    assert "[DONE]" not in got


async def test_an_ensemble_that_breaks_its_promise_ends_in_an_error_event(caller, house):
    house.ensemble.plays(Delta("The"))
    assert events(await stream(caller))[-1]["error"]["code"] == "internal"


async def test_an_unforeseen_error_tells_the_client_nothing_of_our_insides(caller, house):
    house.ensemble.plays(KeyError("secret path"))
    status, body = await caller.chat()
    assert status == 500
    assert "secret" not in json.dumps(body)


async def test_each_family_of_errors_has_its_status_and_retry_advice(caller, house):
    expected = [
        (UnknownModel("?"), 404, "model_not_found", None),
        (PromptTooLong("?"), 400, "context_length_exceeded", None),
        (DoesNotFit("?"), 503, "does_not_fit", "false"),
        (EngineTimeout("?"), 504, "timeout", "false"),
        (EngineDied("?"), 502, "engine_died", None),
        (StoreUnavailable("?"), 503, "store_unavailable", None),
    ]
    for error, status, code, retry in expected:
        house.ensemble.plays(error)
        body = {"model": "auto", "messages": [{"role": "user", "content": "?"}]}
        async with caller.post("/v1/chat/completions", body) as response:
            assert (response.status, response.headers.get("x-should-retry")) == (status, retry)
            assert (await response.json())["error"]["code"] == code


async def test_the_extra_object_chooses_how_the_ensemble_works(caller, house):
    choices = {"complexity": "expert", "strategy": "single", "students": ["adder"], "timeout_s": 5}
    await caller.chat(studium=choices | {"explain": True}, temperature=0.5, max_tokens=9, stop="x")
    query = house.ensemble.queries[0]
    assert (query.complexity, query.strategy, query.students) == ("expert", "single", ("adder",))
    assert (query.timeout_s, query.sampling.temperature) == (5.0, 0.5)
    assert (query.sampling.max_tokens, query.sampling.stop) == (9, ("x",))


async def test_what_each_student_said_comes_only_when_explained(caller):
    _, plain = await caller.chat()
    _, explained = await caller.chat(studium={"explain": True})
    assert "text" not in plain["studium"]["members"][0]
    assert explained["studium"]["members"][0]["text"] == "The answer is 105."


async def test_an_unknown_parameter_is_let_through_and_named(caller):
    _, body = await caller.chat(temprature=0.1)
    assert body["studium"]["ignored_parameters"] == ["temprature"]


async def test_text_parts_are_joined(caller, house):
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "1 + 1?"}]
    await caller.chat(
        messages=[{"role": "developer", "content": "Be brief"}, {"role": "user", "content": parts}]
    )
    assert [(m.role, m.content) for m in house.ensemble.queries[0].messages] == [
        ("system", "Be brief"),
        ("user", "What is 1 + 1?"),
    ]


async def test_a_completion_continues_raw_text(caller, house):
    async with caller.post("/v1/completions", {"model": "adder", "prompt": "1 + 1 ="}) as response:
        body = await response.json()
    assert body["object"] == "text_completion" and body["choices"][0]["text"] == "The answer is 105."
    assert (house.ensemble.queries[0].prompt, house.ensemble.queries[0].messages) == ("1 + 1 =", ())


async def test_a_streamed_completion_ends_with_a_reason_and_done(caller):
    got = events(await stream(caller, "/v1/completions", prompt="1 + 1 ="))
    assert "".join(chunk["choices"][0]["text"] for chunk in got[:-1]) == "The answer is 105."
    assert got[-2]["choices"][0]["finish_reason"] == "stop" and got[-1] == "[DONE]"


async def test_embeddings_come_as_numbers_or_as_base64(caller, house):
    house.ensemble.vectors = [[0.5, -1.0]]
    async with caller.post("/v1/embeddings", {"model": "auto", "input": "x"}) as response:
        assert (await response.json())["data"][0]["embedding"] == [0.5, -1.0]
    wish = {"model": "auto", "input": ["x"], "encoding_format": "base64"}
    async with caller.post("/v1/embeddings", wish) as response:
        packed = (await response.json())["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(packed)) == (0.5, -1.0)


async def test_embeddings_without_a_model_for_them_are_a_clear_error(caller):
    async with caller.post("/v1/embeddings", {"model": "auto", "input": "x"}) as response:
        assert response.status == 400
        assert (await response.json())["error"]["code"] == "unsupported"


async def test_models_lists_virtual_models_and_students(caller):
    async with caller.get("/v1/models") as response:
        names = [model["id"] for model in (await response.json())["data"]]
    assert names == ["auto", "simple", "medium", "complex", "expert", "courier", "master", "adder", "sorter"]
    async with caller.get("/v1/models/adder") as response:
        assert (await response.json())["id"] == "adder"
    async with caller.get("/v1/models/nobody") as response:
        assert response.status == 404
