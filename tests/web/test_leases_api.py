"""Leases by HTTP: the connection holds the memory, a question takes it, and nobody is told it twice."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest

from studium.app import open_studium
from studium.config import load_config
from studium.errors import EngineTimeout
from studium.web.server import serve

SCRIPT = "models: {adder: {resident_bytes: 60000000, default: 'Answer: 105'}}"
CONFIG = """
workspace: {folder}/state
fleet: {{memory_budget: 100MB, lease_leave: 5s, lease_quiet: 200ms}}
server: {{port: 0, heartbeat: 1s}}
models: [{{name: adder, engine: scripted, source: "{folder}/script.yaml#adder"}}]
students: [{{name: adder}}]
"""
BOUND_S = 60


class Holder:
    """A client that holds a lease and reads what it is told."""

    def __init__(self, response):
        self.response = response
        self.key = ""

    async def hears(self, kind):
        """Read on to the next line of a kind; return it."""
        async with asyncio.timeout(BOUND_S):
            while line := await self.response.content.readline():
                told = json.loads(line)
                self.key = told.get("lease") or self.key
                if told["kind"] == kind:
                    return told
        raise AssertionError(f"the stream ended without {kind}")


class Client:
    def __init__(self, url, session, studium):
        self.url, self.session, self.studium = url, session, studium

    @asynccontextmanager
    async def holding(self, name="sft", memory="80MB", **more):
        async with self.session.post(
            self.url + "/api/leases", json={"name": name, "memory": memory, **more}
        ) as response:
            assert response.status == 200, await response.text()
            yield Holder(response)

    async def pause(self, name, key):
        async with self.session.post(f"{self.url}/api/leases/{name}/pause", json={"lease": key}) as response:
            return response.status, await response.text()

    async def leases(self):
        async with self.session.get(self.url + "/api/leases") as response:
            return (await response.json())["leases"]

    async def released(self):
        async with asyncio.timeout(BOUND_S):
            while await self.leases() or self.studium.fleet.residency.reserved_bytes():
                await asyncio.sleep(0.01)


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
        yield Client(url, session, studium)


async def test_a_question_takes_the_memory_and_the_holder_gets_it_back(client):
    async with client.holding() as holder:
        assert (await holder.hears("granted"))["bytes"] == 80_000_000
        question = asyncio.create_task(client.studium.ask("What is 47 + 58?"))
        assert (await holder.hears("leave"))["within_s"] == 5.0
        assert [one["state"] for one in await client.leases()] == ["leaving"]
        assert not question.done()
        assert (await client.pause("sft", holder.key))[0] == 200
        assert (await question).text == "Answer: 105"
        await holder.hears("granted")
        assert client.studium.fleet.residency.reserved_bytes() == 80_000_000


async def test_readyz_shows_what_is_set_aside_of_every_device(client):
    async with client.holding() as holder:
        await holder.hears("granted")
        async with client.session.get(client.url + "/readyz") as response:
            (device,) = (await response.json())["devices"]
    assert (device["budget_bytes"], device["reserved_bytes"]) == (100_000_000, 80_000_000)


async def test_memory_can_be_given_back_without_being_asked_for(client):
    async with client.holding() as holder:
        await holder.hears("granted")
        assert (await client.pause("sft", holder.key))[0] == 200
        await holder.hears("waiting")
        await holder.hears("granted")


async def test_the_end_of_the_connection_gives_the_memory_back(client):
    async with client.holding() as holder:
        await holder.hears("granted")
        holder.response.close()
        await client.released()
    async with client.holding() as again:
        await again.hears("granted")


async def test_a_holder_that_leaves_while_it_is_asked_to_lets_the_question_in(client):
    async with client.holding() as holder:
        await holder.hears("granted")
        question = asyncio.create_task(client.studium.ask("What is 47 + 58?"))
        await holder.hears("leave")
        holder.response.close()
        assert (await question).text == "Answer: 105"


async def test_a_silent_lease_still_gives_signs_of_life(client):
    async with client.holding() as holder:
        await holder.hears("alive")


async def test_an_equal_waits_and_a_limit_ends_its_waiting(client):
    async with client.holding() as first, client.holding("second", timeout_s=0.8) as second:
        await first.hears("granted")
        assert "the run sft holds 76 MiB" in (await second.hears("waiting"))["in_the_way"]
        told = await second.hears("error")
        assert told["code"] == EngineTimeout.code and "the run sft holds" in told["happened"]
    await client.released()


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"memory": "1MB"}, 400, "a name of letters"),
        ({"name": "../x", "memory": "1MB"}, 400, "a name of letters"),
        ({"name": "sft"}, 400, "memory is missing"),
        ({"name": "sft", "memory": "much"}, 400, "512MiB"),
        ({"name": "sft", "memory": 0}, 400, "more than none"),
        ({"name": "sft", "memory": -5}, 400, "more than none"),
        ({"name": "sft", "memory": True}, 400, "more than none"),
        ({"name": "sft", "memory": "1MB", "priority": "interactive"}, 400, "one of training, campaign"),
        ({"name": "sft", "memory": "1MB", "timeout_s": 0}, 400, "timeout_s"),
        ({"name": "sft", "memory": "1MB", "on_gpu": True}, 400, "lends none of a GPU's memory"),
        (
            {"name": "sft", "memory": "200MB"},
            503,
            "the whole budget is 95 MiB; at most 95 MiB; ask for 95MiB",
        ),
    ],
)
async def test_what_cannot_be_lent_is_refused_at_once_with_what_can(client, body, status, told):
    async with client.session.post(client.url + "/api/leases", json=body) as response:
        assert response.status == status
        assert told in (await response.json())["error"]
    assert await client.leases() == []


async def test_main_memory_is_lent_where_no_gpu_is_and_it_will_do(client):
    async with client.holding(on_gpu=True, or_main_memory=True) as holder:
        assert (await holder.hears("granted"))["gpu"] is None


async def test_only_the_holder_lets_go_and_only_of_what_it_holds(client):
    async with client.holding() as holder, client.holding("second") as second:
        await holder.hears("granted")
        await second.hears("waiting")
        assert (await client.pause("nobody", holder.key))[0] == 404
        assert (await client.pause("sft", "0" * 16))[0] == 400
        status, told = await client.pause("second", second.key)
        assert status == 400 and "not held" in told
        async with client.session.post(
            client.url + "/api/leases", json={"name": "sft", "memory": 1}
        ) as response:
            assert response.status == 409


async def test_a_server_that_stops_tells_the_holder_and_does_not_wait_for_it(tmp_path):
    (tmp_path / "script.yaml").write_text(SCRIPT)
    (tmp_path / "studium.yaml").write_text(CONFIG.format(folder=tmp_path))
    config = load_config(tmp_path / "studium.yaml", environment={}, overrides={})
    async with open_studium(config) as studium, aiohttp.ClientSession() as session:
        async with serve(studium, drain_s=600.0) as url:
            response = await session.post(url + "/api/leases", json={"name": "sft", "memory": "80MB"})
            holder = Holder(response)
            await holder.hears("granted")
        assert "stopping" in (await holder.hears("closing"))["text"]
        assert studium.fleet.residency.reserved_bytes() == 0


async def test_a_lease_on_a_gpu_is_told_which_and_never_given_main_memory(tmp_path):
    (tmp_path / "script.yaml").write_text(SCRIPT)
    devices = "devices: [{name: card, kind: gpu, memory: 50MB}, {name: ram, memory: 900MB}]"
    text = CONFIG.format(folder=tmp_path).replace("memory_budget: 100MB", devices)
    (tmp_path / "studium.yaml").write_text(text)
    config = load_config(tmp_path / "studium.yaml", environment={}, overrides={})
    async with open_studium(config) as studium, serve(studium, drain_s=5.0) as url:
        async with aiohttp.ClientSession() as session:
            client = Client(url, session, studium)
            async with client.holding(memory="40MB", on_gpu=True) as holder:
                told = await holder.hears("granted")
                assert (told["device"], told["gpu"]) == ("card", 0)
                async with client.holding("second") as in_ram:
                    assert (await in_ram.hears("granted"))["gpu"] is None
            async with client.holding("third", memory="40MB", on_gpu=True, or_main_memory=True) as holder:
                assert (await holder.hears("granted"))["gpu"] == 0
            body = {"name": "big", "memory": "80MB", "on_gpu": True}
            async with session.post(url + "/api/leases", json=body) as response:
                assert response.status == 503, await response.text()
