"""The registry over HTTP, by a Studium that serves what it promotes: with the server's own keys, errors in words."""

from contextlib import asynccontextmanager

import aiohttp
import pytest
from tests.registry.weights import adapter_folder, model_folder

from studium.app import open_studium
from studium.config import load_config
from studium.records.adapters import AdapterKind, Evidence, Verdict, content_sha256
from studium.web.server import serve

CONFIG = "workspace: {folder}/state\nserver: {{port: 0, api_keys_env: KEYS}}\n"
KEY = {"Authorization": "Bearer a-long-enough-key"}
PROMOTE, ROLLBACK = "/api/adapters/promote/sprout", "/api/adapters/rollback/sprout"


@asynccontextmanager
async def served(folder, monkeypatch, headers=KEY):
    monkeypatch.setenv("KEYS", "a-long-enough-key")
    (folder / "studium.yaml").write_text(CONFIG.format(folder=folder))
    async with (
        open_studium(load_config(folder / "studium.yaml", environment={})) as studium,
        serve(studium, drain_s=0.0) as url,
        aiohttp.ClientSession(url, headers=headers) as client,
    ):
        yield studium, client


def take_in(studium, folder, name, kind=AdapterKind.MODEL):
    made = model_folder if kind is AdapterKind.MODEL else adapter_folder
    return studium.registry.register(
        made(folder / name),
        "sprout",
        name=name,
        base="sprout",
        base_sha256="",
        kind=kind,
        lineage={"run": name},
    )


async def get(client, route, **query):
    async with client.get(route, params=query) as response:
        return response.status, await response.json()


async def post(client, route, body=None):
    async with client.post(route, json=body) as response:
        return response.status, await response.json()


async def test_a_role_is_promoted_served_shown_and_rolled_back(tmp_path, monkeypatch):
    async with served(tmp_path, monkeypatch) as (studium, client):
        adapter = take_in(studium, tmp_path, "whole")
        forced = {"name": "whole", "force": True, "reason": "by http"}
        _, would = await post(client, PROMOTE, {**forced, "dry_run": True})
        _, unchanged = await get(client, "/api/adapters/state")
        _, done = await post(client, PROMOTE, forced)
        _, state = await get(client, "/api/adapters/state")
        _, back = await post(client, ROLLBACK)
        _, history = await get(client, "/api/adapters/history", role="sprout")
        _, last = await get(client, "/api/adapters/history", limit=1)
        _, listed = await get(client, "/api/adapters", role="sprout")
        _, others = await get(client, "/api/adapters", role="abacus")
    assert would["dry_run"] and would["change"]["after"]["champion"] == adapter.id
    before, after = (
        next(one for one in told["roles"] if one["role"] == "sprout") for told in (unchanged, state)
    )
    assert (before["champion"], before["answers"]) == ("own-student", "sprout")
    assert (after["champion"], after["answers"], after["fault"]) == ("whole", "sprout@whole", None)
    assert after["back"] == ["own-student"] and done["answers"] == "sprout@whole"
    assert back["answers"] == "sprout" and back["change"]["action"] == "roll back"
    assert [one["action"] for one in history["changes"]] == ["register", "force", "roll back"]
    assert history["changes"][1]["actor"].startswith("key-") and history["changes"][1]["reason"] == "by http"
    assert last["of"] == 3 and last["changes"] == history["changes"][2:]
    assert [one["id"] for one in listed["adapters"]] == [adapter.id] and others["adapters"] == []


async def test_evidence_must_be_there_and_replay(tmp_path, monkeypatch):
    async with served(tmp_path, monkeypatch) as (studium, client):
        adapter = take_in(studium, tmp_path, "tiny", AdapterKind.ADAPTER)
        body = {"no": "pairs"}
        lie = Evidence(content_sha256(body), 1.0, "sprout", "", adapter.id, Verdict.PROMOTE, body)
        studium.registry.add_evidence(lie)
        unknown = await post(client, PROMOTE, {"name": "tiny", "evidence": "0" * 64})
        lied = await post(client, PROMOTE, {"name": "tiny", "evidence": lie.id})
        assert studium.registry.route("sprout").champion == ""
    assert unknown[0] == lied[0] == 400
    assert "no evidence" in unknown[1]["error"] and "cannot be read" in lied[1]["error"]


@pytest.mark.parametrize(
    ("route", "body", "said"),
    [
        (PROMOTE, {}, "needs name and evidence"),
        (PROMOTE, {"name": "tiny"}, "needs name and evidence"),
        (PROMOTE, {"name": "own-student", "force": True}, "needs a reason"),
        (PROMOTE, {"name": "tiny", "force": True, "evidence": "x"}, "both evidence and force"),
        (PROMOTE, {"name": 5, "evidence": "x"}, "name is 5"),
        (PROMOTE, {"name": "tinny", "force": True, "reason": "x"}, "there is no adapter 'tinny'"),
        (PROMOTE, {"nam": "tiny"}, "some of dry_run, evidence, force, name, reason"),
        (PROMOTE, [], "a JSON list"),
        (
            PROMOTE.replace("sprout", "sprot"),
            {"name": "x", "force": True, "reason": "x"},
            "did you mean 'sprout'?",
        ),
        (
            PROMOTE.replace("sprout", "..%2Fx"),
            {"name": "x", "force": True, "reason": "x"},
            "there is no role '../x'",
        ),
        (ROLLBACK, {"reason": "x" * 3000}, "a reason of 3,000 characters"),
        (ROLLBACK, None, "nothing before that"),
        (ROLLBACK, {"why": 1}, "some of dry_run, reason"),
    ],
)
async def test_what_is_wrong_is_a_400_and_changes_nothing(tmp_path, monkeypatch, route, body, said):
    async with served(tmp_path, monkeypatch) as (studium, client):
        status, told = await post(client, route, body)
        changes = studium.registry.history()
    assert status == 400 and said in told["error"] and not changes


async def test_without_a_key_nothing_is_told_or_changed(tmp_path, monkeypatch):
    async with served(tmp_path, monkeypatch, headers={}) as (studium, client):
        for route in ("/api/adapters", "/api/adapters/state", "/api/adapters/history"):
            assert (await get(client, route))[0] == 401
        for route in (PROMOTE, ROLLBACK):
            assert (await post(client, route, {}))[0] == 401
        assert studium.registry.history() == []
