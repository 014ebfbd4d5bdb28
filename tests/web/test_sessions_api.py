"""Sessions by HTTP: begun, listed, shown, stopped and resumed, and refused before anything is written."""

import asyncio
import json

import aiohttp
import pytest

from studium.app import open_studium
from studium.config import load_config
from studium.web.server import serve

SCRIPT = "models: {adder: {resident_bytes: 6000000, first_token_s: 0.05, default: 'I cannot answer that.'}}"
CONFIG = """
workspace: {folder}/state
fleet: {{memory_budget: 100MB}}
server: {{port: 0, heartbeat: 1s}}
models: [{{name: adder, engine: scripted, source: "{folder}/script.yaml#adder"}}]
students: [{{name: adder}}]
"""
BOUND_S = 60


class Client:
    def __init__(self, url, session):
        self.url, self.session = url, session

    async def get(self, path):
        async with self.session.get(self.url + path) as response:
            return response.status, await response.json()

    async def post(self, path, **body):
        async with self.session.post(self.url + path, json=body) as response:
            return response.status, await response.json()

    async def reaches(self, name, state):
        async with asyncio.timeout(BOUND_S):
            while (await self.get(f"/api/sessions/{name}"))[1]["state"] != state:
                await asyncio.sleep(0.05)

    async def refuses_to_stop(self, name):
        """Its record is stopped a moment before who ran it has let go: until then stopping it again is no mistake."""
        async with asyncio.timeout(BOUND_S):
            while (answered := (await self.post(f"/api/sessions/{name}/stop"))[0]) == 200:
                await asyncio.sleep(0.05)
        assert answered == 400


@pytest.fixture
async def client(tmp_path):
    (tmp_path / "script.yaml").write_text(SCRIPT)
    (tmp_path / "studium.yaml").write_text(CONFIG.format(folder=tmp_path))
    config = load_config(tmp_path / "studium.yaml", environment={}, overrides={})
    async with (
        open_studium(config) as studium,
        serve(studium, drain_s=5.0) as url,
        aiohttp.ClientSession() as session,
    ):
        yield Client(url, session)


async def test_a_session_is_begun_shown_stopped_and_resumed(client):
    status, begun = await client.post("/api/sessions", name="demo", topic="arithmetic", duration_minutes=5)
    assert status == 200 and begun["state"] == "running" and begun["plan"]["duration_s"] == 300
    assert (await client.post("/api/sessions", name="demo", topic="arithmetic"))[0] == 503
    assert [one["name"] for one in (await client.get("/api/sessions"))[1]["sessions"]] == ["demo"]
    assert await client.post("/api/sessions/demo/stop") == (200, {"name": "demo", "state": "stopping"})
    await client.reaches("demo", "stopped")
    await client.refuses_to_stop("demo")
    status, told = await client.post("/api/sessions/demo/resume", cycles=1)
    assert status == 200, told
    await client.reaches("demo", "finished")
    _, shown = await client.get("/api/sessions/demo")
    assert shown["students"][0]["student"] == "adder" and shown["now"] is None


async def test_progress_comes_line_by_line_to_the_end(client):
    body = {"name": "demo", "topic": "arithmetic", "cycles": 1, "stream": True}
    async with client.session.post(client.url + "/api/sessions", json=body) as response:
        lines = [json.loads(line) async for line in response.content]
    assert lines[0] == {"kind": "begun", "name": "demo"}
    assert any(line.get("text", "").startswith("cycle 1: adder") for line in lines)
    assert lines[-1]["kind"] == "ended" and lines[-1]["reason"] == "1 cycle is done"


async def test_a_second_stop_withdraws_the_runs_at_work(client):
    await client.post("/api/sessions", name="demo", topic="arithmetic", duration_minutes=5)
    for _ in range(2):
        await client.post("/api/sessions/demo/stop")
    await client.reaches("demo", "stopped")


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("", {"topic": "arithmetic"}, 400, "cannot name a session"),
        ("", {"name": "../x", "topic": "arithmetic"}, 400, "cannot name a session"),
        ("", {"name": "x", "topic": "arithmetik"}, 400, "did you mean 'arithmetic'"),
        ("", {"name": "x", "topic": "arithmetic", "students": ["ader"]}, 404, "did you mean 'adder'"),
        ("", {"name": "x", "topic": "arithmetic", "students": []}, 400, "no students"),
        ("", {"name": "x", "topic": "arithmetic", "duration_minutes": -1}, 400, "duration_minutes"),
        ("", {"name": "x", "topic": "arithmetic", "duration_minutes": 0}, 400, "0 minutes"),
        ("", {"name": "x", "topic": "arithmetic", "cycles": 0}, 400, "cycles"),
        ("", {"name": "x", "topic": "arithmetic", "duration": 5}, 400, "'duration' is no field"),
        ("/nobody/resume", {}, 400, "there is no session 'nobody'"),
        ("/nobody/stop", {}, 400, "does not run in this server"),
        ("/..%2Fx/resume", {}, 400, "cannot name a session"),
    ],
)
async def test_what_cannot_be_begun_is_refused_and_leaves_nothing(client, path, body, status, told, tmp_path):
    answered, error = await client.post("/api/sessions" + path, **body)
    assert answered == status and told in error["error"]
    assert not (tmp_path / "state" / "sessions" / "x" / "scheduler_history").exists()
    assert (await client.get("/api/sessions/x"))[0] == 400


async def test_more_than_a_few_at_once_are_refused(client):
    for number in range(4):
        assert (await client.post("/api/sessions", name=f"s{number}", topic="arithmetic"))[0] == 200
    status, told = await client.post("/api/sessions", name="s5", topic="arithmetic")
    assert status == 503 and "at most 4" in told["error"]


async def test_a_session_that_fails_while_nobody_follows_it_is_told_in_the_log(client, tmp_path, caplog):
    caplog.set_level("WARNING")
    (tmp_path / "script.yaml").write_text("models: {}")  # its model is gone by the time it is asked
    await client.post("/api/sessions", name="demo", topic="arithmetic", duration_minutes=5)
    async with asyncio.timeout(BOUND_S):
        while "the session demo failed" not in caplog.text:
            await asyncio.sleep(0.05)
    assert (await client.get("/api/sessions/demo"))[1]["state"] == "stopped"
