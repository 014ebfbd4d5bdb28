"""The governor by HTTP: shown and changed with the server's own keys, wrong values refused in words."""

from contextlib import asynccontextmanager

import aiohttp
import pytest

from studium.app import open_studium
from studium.config import load_config
from studium.web.server import serve

CONFIG = """
workspace: {folder}/state
server: {{port: 0, api_keys_env: KEYS}}
models: [{{name: adder, engine: scripted, source: echo}}]
students: [{{name: adder}}]
governor: {{usd_per_day: 3}}
"""
KEY = {"Authorization": "Bearer a-long-enough-key"}
ROUTE = "/api/config/governor"


@asynccontextmanager
async def served(folder, monkeypatch, headers=KEY):
    monkeypatch.setenv("KEYS", "a-long-enough-key")
    (folder / "studium.yaml").write_text(CONFIG.format(folder=folder))
    async with (
        open_studium(load_config(folder / "studium.yaml", environment={})) as studium,
        serve(studium, drain_s=0.0) as url,
        aiohttp.ClientSession(url, headers=headers) as client,
    ):
        yield client


async def test_every_change_is_shown_with_its_source_and_who_made_it(tmp_path, monkeypatch):
    async with served(tmp_path, monkeypatch) as client:
        async with client.get(ROUTE) as response:
            before = await response.json()
        async with client.post(ROUTE, json={"usd_per_day": 0.5, "refinement": False}) as response:
            after = await response.json()
        async with client.post(ROUTE, json={"reset": ["usd_per_day"], "usd_per_hour": None}) as response:
            reset = await response.json()
    assert before["settings"]["usd_per_day"] == 3 and before["sources"]["usd_per_day"] == "configuration"
    assert after["settings"]["usd_per_day"] == 0.5 and after["settings"]["refinement"] is False
    assert after["sources"]["usd_per_day"] == "changed at run time"
    assert all(change["by"].startswith("key-") for change in after["changes"])
    assert reset["settings"]["usd_per_day"] == 3 and reset["sources"]["usd_per_hour"] == "changed at run time"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "nothing is to be changed"),
        ({"usd_per_day": -1}, "usd_per_day cannot be '-1'; a number from 0"),
        ({"usd_per_day": {"a": 1}}, "usd_per_day cannot be"),
        ({"refinment": True}, "did you mean 'refinement'?"),
        ({"reset": 5}, "reset is 5"),
        ({"reset": ["nothing"]}, "no setting 'nothing'"),
        ([], "a JSON list"),
    ],
)
async def test_a_wrong_body_is_refused_and_changes_nothing(tmp_path, monkeypatch, body, said):
    async with served(tmp_path, monkeypatch) as client:
        async with client.post(ROUTE, json=body) as response:
            assert response.status == 400
            assert said in (await response.json())["error"]
        async with client.get(ROUTE) as response:
            assert (await response.json())["changes"] == []


async def test_strangers_neither_see_nor_change_it(tmp_path, monkeypatch):
    async with served(tmp_path, monkeypatch, headers={}) as client:
        for asked in (client.get(ROUTE), client.post(ROUTE, json={"usd_per_day": 9})):
            async with asked as response:
                assert response.status == 401


async def test_switched_off_refinement_is_told_with_the_answer(tmp_path, monkeypatch):
    async with served(tmp_path, monkeypatch) as client:
        await (await client.post(ROUTE, json={"refinement": False})).read()
        async with client.post("/api/ask", json={"question": "hello", "model": "adder"}) as response:
            assert (await response.json())["notes"]["governor"] == {"refinement": False}
