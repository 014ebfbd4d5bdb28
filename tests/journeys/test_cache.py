"""The cache as its users meet it: the openai client, plain HTTP and the command line, with the embedded students."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator

import aiohttp
import openai
import pytest

from studium.app import open_studium
from studium.config import load_config
from studium.web.server import serve

QUESTION = [{"role": "user", "content": "What is 47 + 58?"}]


@pytest.fixture
async def url(tmp_path) -> AsyncIterator[str]:
    config = load_config(
        None,
        environment={},
        overrides={
            "workspace": str(tmp_path / "workspace"),
            "fleet.memory_budget": "512MiB",
            "server.port": "0",
        },
    )
    async with open_studium(config) as studium, serve(studium, drain_s=0.0) as url:
        yield url


async def test_an_ordinary_client_is_given_the_answer_again_and_told_so(url):
    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=60) as client:
        create = client.chat.completions.with_raw_response.create
        first = await create(model="auto", messages=QUESTION)
        second = await create(model="auto", messages=QUESTION)
        anew = await create(model="auto", messages=QUESTION, extra_headers={"Cache-Control": "no-cache"})
        wished = await create(model="auto", messages=QUESTION, extra_body={"studium": {"cache": False}})
        stream = await client.chat.completions.create(model="auto", messages=QUESTION, stream=True)
        said = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert [one.headers.get("x-studium-cache") for one in (first, second, anew, wished)] == [
        None,
        "exact",
        None,
        None,
    ]
    text = first.parse().choices[0].message.content
    assert text == second.parse().choices[0].message.content == "".join(said)
    assert second.parse().usage.total_tokens == 0 < first.parse().usage.total_tokens


async def test_what_is_kept_is_shown_counted_cleared_and_switched(url):
    async with aiohttp.ClientSession(url) as session:

        async def call(path: str, body: object = None) -> dict:
            async with session.request("GET" if body is None else "POST", path, json=body) as response:
                assert response.status == 200, await response.text()
                return await response.json()

        question = {"question": "What is 47 + 58?"}
        await call("/api/ask", question)
        given = await call("/api/ask", question)
        assert (given["flags"], given["members"], given["moves"]) == (["cached"], [], [])
        shown = await call("/api/config/cache")
        assert shown["kept"]["entries"] == 1 and shown["since_start"] == {"exact": 1, "meaning": 0, "miss": 1}
        async with session.get("/metrics") as response:
            lines = (await response.text()).splitlines()
        assert 'studium_cache_total{result="exact"} 1.0' in lines
        assert (await call("/api/config/cache", {"clear": True}))["removed"] == 1
        assert not (await call("/api/config/cache", {"enabled": False}))["enabled"]
        assert (await call("/api/ask", question))["notes"] == {}
        for wrong in ({}, {"enable": True}, {"enabled": "yes"}):
            async with session.post("/api/config/cache", json=wrong) as response:
                assert response.status == 400


async def test_the_command_line_profits_without_a_server_and_switches(tmp_path):
    async def studium(*arguments: str) -> dict:
        environment = os.environ | {"STUDIUM_WORKSPACE": str(tmp_path)}
        command = (sys.executable, "-m", "studium.cli.main", *arguments, "--json")
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, env=environment
        )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        return json.loads(out)

    ask = ("ask", "What is 47 + 58?", "--memory-budget", "512MiB")
    first, second = await studium(*ask), await studium(*ask)
    assert second["text"] == first["text"] and second["notes"]["cache"]["hit"] == "exact"
    assert (await studium("cache", "show"))["kept"]["hits"] == 1
    assert not (await studium("cache", "off"))["enabled"]
    assert (await studium(*ask))["notes"] == {}
    assert (await studium("cache", "clear"))["removed"] == 1
