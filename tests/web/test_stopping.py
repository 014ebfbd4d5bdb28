"""Stopping: what is being answered is finished, what cannot be is told so, and nothing is left."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest

from studium.errors import OperatorError
from studium.records.answers import Delta
from studium.web.server import serve

QUESTION = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
BOUND_S = 60


@asynccontextmanager
async def stoppable(house, **options):
    """Serve `house`; yield its URL, a session, and a function that stops the server and waits for it."""
    stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def run():
        async with serve(house, **options) as address:
            url.set_result(address)
            await stop.wait()

    running = asyncio.create_task(run())

    async def stopped():
        stop.set()
        async with asyncio.timeout(BOUND_S):
            await running

    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=BOUND_S)) as session:
            yield await url, session, stopped
    finally:
        await stopped()


async def ask(session, url, **more):
    async with session.post(url + "/v1/chat/completions", json=QUESTION | more) as response:
        return response.status, await response.text()


async def test_an_open_question_is_answered_before_the_server_goes(house):
    release = asyncio.Event()
    house.ensemble.plays(release, *house.ensemble.steps)
    async with stoppable(house, drain_s=BOUND_S) as (url, session, stopped):
        asked = asyncio.create_task(ask(session, url))
        await house.ensemble.asked.wait()
        stopping = asyncio.create_task(stopped())
        with pytest.raises(aiohttp.ClientConnectorError):
            while True:
                async with session.get(url + "/healthz", headers={"Connection": "close"}):
                    pass
        assert not asked.done()
        release.set()
        assert (await asked)[0] == 200
        await stopping


async def test_new_questions_on_an_open_connection_are_turned_away(house):
    release = asyncio.Event()
    house.ensemble.plays(release, *house.ensemble.steps)
    async with stoppable(house, drain_s=BOUND_S) as (url, session, stopped):
        async with session.get(url + "/readyz") as response:
            assert response.status == 200
        async with aiohttp.ClientSession() as other:
            asked = asyncio.create_task(ask(other, url))
            await house.ensemble.asked.wait()
            stopping = asyncio.create_task(stopped())
            while (await ready(session, url)) == 200:
                pass
            async with session.post(url + "/v1/chat/completions", json=QUESTION) as response:
                assert response.status == 503 and response.headers["Retry-After"]
                assert (await response.json())["error"]["code"] == "server_stopping"
            release.set()
            assert (await asked)[0] == 200
        await stopping


async def ready(session, url) -> int:
    async with session.get(url + "/readyz") as response:
        return response.status


async def test_what_is_still_open_at_the_end_is_told_why(house):
    house.ensemble.plays(Delta("The"), asyncio.Event())
    async with stoppable(house, drain_s=0.05) as (url, session, stopped):
        async with session.post(url + "/v1/chat/completions", json=QUESTION | {"stream": True}) as response:
            await response.content.readuntil(b"The")
            stopping = asyncio.create_task(stopped())
            last = (await response.text()).strip().split("\n\n")[-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_stopping"
        await stopping
    assert house.ensemble.ended.is_set()


async def test_a_question_without_a_word_yet_gets_a_503_at_the_end(house):
    house.ensemble.plays(asyncio.Event())
    async with stoppable(house, drain_s=0.05) as (url, session, stopped):
        asked = asyncio.create_task(ask(session, url))
        await house.ensemble.asked.wait()
        stopping = asyncio.create_task(stopped())
        status, text = await asked
        assert (status, json.loads(text)["error"]["code"]) == (503, "server_stopping")
        await stopping


async def test_a_hurried_stop_does_not_wait_for_open_questions(house):
    house.ensemble.plays(asyncio.Event())
    hurry = asyncio.Event()
    async with stoppable(house, drain_s=3_600.0, hurry=hurry) as (url, session, stopped):
        asked = asyncio.create_task(ask(session, url))
        await house.ensemble.asked.wait()
        hurry.set()
        await stopped()
        assert (await asked)[0] == 503


async def test_a_taken_port_is_an_error_that_names_it_and_the_way_out(house):
    async with serve(house) as url:
        port = int(url.rsplit(":", 1)[1])
        house.limit(port=port)
        with pytest.raises(OperatorError, match=f"port {port} .*--port"):
            async with serve(house):
                raise AssertionError("it was served")


async def test_an_address_that_is_not_ours_is_an_error(house):
    house.limit(host="no-such-host.localhost.")
    with pytest.raises(OperatorError, match="cannot listen"):
        async with serve(house):
            raise AssertionError("it was served")
