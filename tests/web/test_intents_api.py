"""Channels over HTTP, on a real socket, with an ensemble that answers when it is let."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from studium.intents.channels import keep_channels

NPC = {"question": "{observation}", "students": ["adder"], "hz": 4, "fallback": "stay"}


@pytest.fixture
def keeping(tmp_path, house, serving):
    @asynccontextmanager
    async def keep() -> AsyncIterator[Any]:
        async with keep_channels(tmp_path, house.ensemble.answer) as intents:
            async with serving(house, intents=intents) as caller:
                yield caller

    return keep


async def send(caller: Any, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with caller.session.request(method, f"{caller.url}/api/intents{path}", json=body) as response:
        return response.status, await response.json() if response.status != 204 else None


async def test_a_channel_is_made_told_read_changed_and_removed(house, keeping):
    house.ensemble.says("run")
    async with keeping() as caller:
        status, made = await send(caller, "PUT", "/npc-1", NPC)
        assert (status, made["intent"]["state"], made["intent"]["text"]) == (201, "empty", "stay")
        assert await send(caller, "POST", "/npc-1/observation", {"text": "a wolf"}) == (204, None)
        async with asyncio.timeout(60):
            while (shown := (await send(caller, "GET", "/npc-1"))[1])["intent"]["state"] != "fresh":
                await asyncio.sleep(0.01)
        assert (shown["intent"]["text"], shown["intent"]["confidence"]) == ("run", 0.9)
        assert (shown["refresh"]["published"], shown["refresh"]["chosen_model"]) == (1, "adder")
        status, changed = await send(caller, "PUT", "/npc-1", NPC | {"horizon_s": 5})
        assert (status, changed["settings"]["horizon_s"], changed["intent"]["text"]) == (200, 5.0, "run")
        assert [one["name"] for one in (await send(caller, "GET", ""))[1]["channels"]] == ["npc-1"]
        assert await send(caller, "DELETE", "/npc-1") == (204, None)
        status, refused = await send(caller, "GET", "/npc-1")
        assert status == 404 and "npc-1" in refused["error"]
    query = house.ensemble.queries[0]
    assert (query.question, query.students) == ("a wolf", ("adder",))


async def test_the_last_intent_is_served_at_once_while_a_model_is_at_work(house, keeping):
    house.ensemble.plays(asyncio.Event())
    async with keeping() as caller:
        await send(caller, "PUT", "/npc-1", NPC)
        await send(caller, "POST", "/npc-1/observation", {"text": "a wolf"})
        await house.ensemble.has_been_asked(1)
        status, shown = await send(caller, "GET", "/npc-1")
        assert (status, shown["refresh"]["asking"], shown["intent"]["text"]) == (200, True, "stay")


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("PUT", "/..%2Fnpc", NPC, "cannot name a channel"),
        ("PUT", "/%2e%2e", NPC, ""),
        ("PUT", "/npc-2", {"students": ["nobody"]}, "no student 'nobody'"),
        ("PUT", "/npc-2", {"model": "nobody"}, "no student 'nobody'"),
        ("PUT", "/npc-2", {"hertz": 1}, "no 'hertz'"),
        ("PUT", "/npc-2", {"hz": 1e9}, "0.1 to 4"),
        ("PUT", "/npc-2", {"api_key_name": "somebody else"}, "api_key_name"),
        ("PUT", "/npc-2", [], "JSON list"),
        ("POST", "/npc-1/observation", {"text": "x" * 4097}, "4,097 bytes"),
        ("POST", "/npc-1/observation", {"text": " "}, "empty"),
        ("POST", "/npc-1/observation", {"text": 7}, "a string"),
        ("POST", "/nobody/observation", {"text": "x"}, "no channel 'nobody'"),
        ("DELETE", "/nobody", None, "no channel 'nobody'"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_reason(keeping, tmp_path, method, path, body, told):
    async with keeping() as caller:
        await send(caller, "PUT", "/npc-1", NPC)
        status, refused = await send(caller, method, path, body)
        assert 400 <= status < 500, refused
        assert told in refused["error"]
        assert (await send(caller, "GET", ""))[1]["channels"][0]["name"] == "npc-1"
    assert {path.name for path in tmp_path.iterdir()} == {"intents"}


async def test_a_server_without_a_workspace_of_its_own_says_so(caller):
    status, refused = await send(caller, "GET", "")
    assert status == 501 and "studium up" in refused["error"]
