"""Whatever is sent, the answer is an error in the protocol's own shape that names what was wrong."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest

HELLO = [{"role": "user", "content": "hello"}]


async def refusal(caller, body, path="/v1/chat/completions"):
    options = {"data": body} if isinstance(body, bytes) else {"json": body}
    async with caller.post(path, **options) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half an object"),
        pytest.param(b'{"model": NaN}', id="not a number"),
        pytest.param(b'{"model": "\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"model": "\xff"}', id="no UTF-8"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="deep nesting"),
        pytest.param(b'{"a":' * 100_000, id="deep and unclosed"),
        pytest.param(b'["a list"]', id="no object"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat", "/api/ask"])
async def test_a_body_that_is_no_json_object_is_refused(caller, house, body, path):
    status, answer = await refusal(caller, body, path)
    assert status == 400
    message = answer["error"] if path.startswith("/api") else answer["error"]["message"]
    assert "body" in message and len(message) < 500
    assert not house.ensemble.queries


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"model": None}, "model"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 10**18}, "max_tokens"),
        ({"max_tokens": 10**40}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"seed": "lucky"}, "seed"),
        ({"stop": [1]}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"studium": "please"}, "studium"),
        ({"studium": {"complexity": "impossible"}}, "complexity"),
        ({"studium": {"students": 5}}, "students"),
        ({"studium": {"timeout_s": 0}}, "timeout_s"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
    ],
)
async def test_a_wrong_field_is_named(caller, house, change, param):
    status, answer = await refusal(caller, {"model": "auto", "messages": HELLO} | change)
    assert (status, answer["error"]["param"]) == (400, param)
    assert param in answer["error"]["message"]
    assert not house.ensemble.queries


@pytest.mark.parametrize(
    "change",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"tool_choice": "required"},
        {"functions": [{"name": "f"}]},
        {"n": 2},
        {"frequency_penalty": 0.5},
        {"logit_bias": {"1": 5}},
        {"modalities": ["text", "audio"]},
        {"response_format": {"type": "grammar"}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_what_no_student_can_do_is_refused_by_name(caller, house, change):
    status, answer = await refusal(caller, {"model": "auto", "messages": HELLO} | change)
    assert (status, answer["error"]["code"]) == (400, "unsupported")
    assert not house.ensemble.queries


async def test_values_that_ask_for_nothing_are_taken(caller):
    nothing = {
        "n": 1,
        "tools": [],
        "tool_choice": "auto",
        "logit_bias": {},
        "presence_penalty": 0,
        "user": "me",
    }
    status, answer = await refusal(caller, {"model": "auto", "messages": HELLO} | nothing)
    assert status == 200 and "ignored_parameters" not in answer["studium"]


@pytest.mark.parametrize(
    "body",
    [
        {"model": "auto", "prompt": ["one", "two"]},
        {"model": "auto", "prompt": [1, 2, 3]},
        {"model": "auto", "prompt": ""},
        {"model": "auto", "prompt": "x", "echo": True},
        {"model": "auto", "prompt": "x", "best_of": 3},
    ],
)
async def test_completions_take_one_text(caller, body):
    status, answer = await refusal(caller, body, "/v1/completions")
    assert status == 400 and answer["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"model": "x", "input": []},
        {"model": "x", "input": ""},
        {"model": "x", "input": [1]},
        {"model": "x", "input": ["a"] * 2_049},
        {"model": "x", "input": "a", "encoding_format": "hex"},
        {"model": "x", "input": "a", "dimensions": 8},
    ],
)
async def test_embeddings_take_texts(caller, body):
    status, _ = await refusal(caller, body, "/v1/embeddings")
    assert status == 400


async def test_ollama_errors_are_a_text(caller):
    for body in (
        {"model": "auto", "messages": HELLO, "think": True},
        {"model": "auto", "prompt": 3},
        {"x": 1},
    ):
        path = "/api/generate" if "prompt" in body else "/api/chat"
        status, answer = await refusal(caller, body, path)
        assert status == 400 and isinstance(answer["error"], str)


async def test_unknown_routes_and_methods_answer_in_the_protocols_shape(caller):
    async with caller.get("/v1/nothing") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "unknown_route")
    async with caller.get("/api/chat") as response:
        assert response.status == 405 and response.headers["Allow"] == "POST"
        assert isinstance((await response.json())["error"], str)


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    ],
    ids=["TLS", "version", "length", "long header"],
)
async def test_what_is_no_http_gets_a_json_error_and_is_closed(caller, junk, caplog):
    at = urlsplit(caller.url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    writer.write(junk)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.") and b" 400 " in head.split(b"\r\n")[0]
    assert json.loads(body)["error"]["code"] == "bad_http"
    assert not caplog.records
