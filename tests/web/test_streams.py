"""Streams that are never silent for long and never simply end."""

import asyncio
import json
from urllib.parse import urlsplit

from studium.errors import EngineTimeout
from studium.records.answers import Delta, Progress

BOUND_S = 60
CHAT = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": "x"}]}


async def test_a_slow_load_is_bridged_by_comments_and_the_answer_still_comes(house, serving):
    house.limit(heartbeat_s=0.1)
    loaded = asyncio.Event()
    house.ensemble.plays(Progress("loading adder"), loaded, *house.ensemble.steps)
    async with serving(house) as caller, caller.post("/v1/chat/completions", CHAT) as response:
        comments = 0
        async for line in response.content:
            comments += line.startswith(b": ")
            if comments == 4:
                loaded.set()
        assert comments >= 4
        assert line == b"\n" and loaded.is_set()


async def test_silence_between_words_is_bridged_too(house, serving):
    house.limit(heartbeat_s=0.1)
    more = asyncio.Event()
    house.ensemble.plays(Delta("The"), more, *house.ensemble.steps)
    async with serving(house) as caller, caller.post("/v1/chat/completions", CHAT) as response:
        text = b""
        async for line in response.content:
            text += line
            if line.startswith(b": still working"):
                more.set()
        assert text.index(b"The") < text.index(b": still working") < text.index(b"[DONE]")


async def test_ollama_heartbeats_are_lines_without_text(house, serving):
    house.limit(heartbeat_s=0.1)
    loaded = asyncio.Event()
    house.ensemble.plays(loaded, *house.ensemble.steps)
    body = {"model": "adder", "messages": [{"role": "user", "content": "x"}]}
    async with serving(house) as caller, caller.post("/api/chat", body) as response:
        lines = []
        async for line in response.content:
            lines.append(json.loads(line))
            loaded.set()
    assert lines[0]["message"]["content"] == "" and not lines[0]["done"]
    assert "".join(line["message"]["content"] for line in lines) == "The answer is 105."
    assert lines[-1]["done"] is True


async def test_an_error_after_a_heartbeat_is_an_event(house, serving):
    house.limit(heartbeat_s=0.1)
    fail = asyncio.Event()
    house.ensemble.plays(fail, EngineTimeout("nobody answered"))
    async with serving(house) as caller, caller.post("/v1/chat/completions", CHAT) as response:
        async for line in response.content:
            fail.set()
            if line.startswith(b"data: {"):
                last = json.loads(line.removeprefix(b"data: "))
    assert last["error"]["code"] == "timeout"
    assert house.store.records[-1].error_code == "timeout"


async def test_a_client_that_leaves_a_stream_ends_its_question(caller, house):
    house.ensemble.plays(Delta("The"), asyncio.Event())
    async with caller.post("/v1/chat/completions", CHAT) as response:
        await response.content.readline()
    await asyncio.wait_for(house.ensemble.ended.wait(), BOUND_S)
    await asyncio.wait_for(house.store.logged.wait(), BOUND_S)
    assert (house.store.records[-1].status, house.store.records[-1].error_code) == (499, "client_gone")


async def test_a_client_that_leaves_before_an_answer_ends_its_question(caller, house):
    house.ensemble.plays(asyncio.Event())
    at = urlsplit(caller.url)
    _, writer = await asyncio.open_connection(at.hostname, at.port)
    body = json.dumps(CHAT | {"stream": False})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write((head + body).encode())
    await asyncio.wait_for(house.ensemble.asked.wait(), BOUND_S)
    writer.close()
    await asyncio.wait_for(house.ensemble.ended.wait(), BOUND_S)


async def test_a_question_the_ensemble_forgets_is_ended_from_outside(house, serving, monkeypatch):
    monkeypatch.setattr("studium.web.delivery.GUARD_S", 0.05)
    house.limit(request_timeout_s=0.05)
    house.ensemble.plays(asyncio.Event())
    async with serving(house) as caller:
        status, body = await caller.chat()
        assert (status, body["error"]["code"]) == (504, "timeout")
        status, body = await caller.chat(stream=True)
        assert (status, body["error"]["code"]) == (504, "timeout")
