"""Slow, large and many: raw sockets against limits set short. What is awaited is the closing, not a number of
seconds.
"""

import asyncio
import gzip
import json
from urllib.parse import urlsplit

import pytest

from studium.records.answers import Delta

HALF_A_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
BOUND_S = 60


@pytest.fixture
async def connect():
    """Open raw connections that are closed at the end of the test."""
    writers = []

    async def open_connection(caller):
        at = urlsplit(caller.url)
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        writers.append(writer)
        return reader, writer

    yield open_connection
    for writer in writers:
        writer.close()


async def rest(reader) -> bytes:
    """Everything until the server closes; a reset counts as closing."""
    try:
        return await asyncio.wait_for(reader.read(), BOUND_S)
    except ConnectionResetError:
        return b""


async def drip(writer, data=b"y"):
    """Send a little for ever, until the server has had enough."""
    while not writer.is_closing():
        writer.write(data)
        try:
            await writer.drain()
        except ConnectionError:
            return
        await asyncio.sleep(0.01)


async def test_headers_that_never_end_close_the_connection(house, serving, connect):
    house.limit(header_timeout_s=0.2)
    async with serving(house) as caller:
        reader, writer = await connect(caller)
        writer.write(HALF_A_HEAD + b"X: ")
        dripping = asyncio.create_task(drip(writer))
        await rest(reader)
        dripping.cancel()
        assert not house.ensemble.queries


async def test_a_silent_connection_is_closed(house, serving, connect):
    house.limit(header_timeout_s=0.2)
    async with serving(house) as caller:
        reader, _ = await connect(caller)
        assert await rest(reader) == b""


async def test_slow_headers_of_a_second_request_are_no_better_than_of_the_first(house, serving, connect):
    house.limit(header_timeout_s=0.2)
    async with serving(house) as caller:
        reader, writer = await connect(caller)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"ok"), BOUND_S)
        writer.write(HALF_A_HEAD + b"X: ")
        dripping = asyncio.create_task(drip(writer))
        await rest(reader)
        dripping.cancel()


async def test_the_header_limit_does_not_touch_a_request_being_answered(house, serving):
    """A chunk of the body that came while the request was being picked up once armed the header timer."""
    house.limit(header_timeout_s=0.1)
    slow = asyncio.Event()
    house.ensemble.plays(slow, *house.ensemble.steps)
    async with serving(house) as caller:
        asked = asyncio.create_task(caller.chat("x" * 300_000))
        await house.ensemble.asked.wait()
        asyncio.get_running_loop().call_later(0.4, slow.set)
        assert (await asked)[0] == 200


async def test_half_open_connections_do_not_keep_a_health_check_out(house, serving, connect):
    house.limit(max_connections=8, header_timeout_s=600.0)
    async with serving(house) as caller:
        half_open = [await connect(caller) for _ in range(40)]
        for _, writer in half_open:
            writer.write(HALF_A_HEAD)
        async with caller.get("/healthz") as response:
            assert response.status == 200
        closed = await asyncio.gather(*(rest(reader) for reader, _ in half_open[:30]))
        assert closed == [b""] * 30


async def test_when_every_connection_is_at_work_a_new_one_is_told_so(house, serving, connect):
    house.limit(max_connections=2)
    release = asyncio.Event()
    house.ensemble.plays(release, *house.ensemble.steps)
    async with serving(house) as caller:
        asked = [asyncio.create_task(caller.chat()) for _ in range(2)]
        await house.ensemble.has_been_asked(2)
        reader, _ = await connect(caller)
        told = await rest(reader)
        assert b" 503 " in told and b"too_many_connections" in told
        release.set()
        assert [status for status, _ in await asyncio.gather(*asked)] == [200, 200]


async def test_a_body_that_stalls_is_refused_and_the_connection_closed(house, serving, connect):
    house.limit(body_timeout_s=0.2)
    async with serving(house) as caller:
        reader, writer = await connect(caller)
        writer.write(HALF_A_HEAD + b"Content-Length: 1000\r\n\r\n{")
        dripping = asyncio.create_task(drip(writer, b" "))
        told = await asyncio.wait_for(reader.readuntil(b"}}"), BOUND_S)
        await rest(reader)
        dripping.cancel()
        assert b" 408 " in told and b"body_timeout" in told


async def test_150_megabytes_are_refused_before_they_are_sent(caller, house, connect):
    reader, writer = await connect(caller)
    writer.write(HALF_A_HEAD + b"Content-Length: 157286400\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_S)
    assert b" 413 " in head and b"Connection: close" in head


async def test_a_client_that_sends_all_150_megabytes_still_reads_the_refusal(caller, house):
    async with caller.post("/v1/chat/completions", data=b" " * 157_286_400) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == "body_too_large"


async def test_150_megabytes_in_chunks_are_refused_as_soon_as_they_are_too_many(house, serving, connect):
    house.limit(max_body_bytes=1_000_000)
    async with serving(house) as caller:
        reader, writer = await connect(caller)
        writer.write(HALF_A_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        dripping = asyncio.create_task(drip(writer, b"10000\r\n" + b" " * 65_536 + b"\r\n"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_S)
        dripping.cancel()
        assert b" 413 " in head


async def test_a_small_body_that_unpacks_to_a_large_one_is_refused(house, serving):
    house.limit(max_body_bytes=1_000_000)
    async with serving(house) as caller:
        packed = gzip.compress(b" " * 50_000_000)
        async with caller.post(
            "/v1/chat/completions", data=packed, headers={"Content-Encoding": "gzip"}
        ) as response:
            assert response.status == 413


async def test_a_client_that_does_not_read_is_cut_off_and_its_question_ended(house, serving, connect):
    house.limit(body_timeout_s=0.2)
    house.ensemble.plays(*(Delta("x" * 100_000) for _ in range(300)), asyncio.Event())
    async with serving(house) as caller:
        _, writer = await connect(caller)
        body = json.dumps({"model": "auto", "stream": True, "messages": [{"role": "user", "content": "x"}]})
        writer.write(HALF_A_HEAD + f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        await asyncio.wait_for(house.ensemble.ended.wait(), BOUND_S)


async def test_a_key_may_have_only_so_many_questions_open(house, serving):
    house.limit(concurrent_requests_per_key=2)
    release = asyncio.Event()
    house.ensemble.plays(release, *house.ensemble.steps)
    async with serving(house) as caller:
        asked = [asyncio.create_task(caller.chat()) for _ in range(2)]
        await house.ensemble.has_been_asked(2)
        status, body = await caller.chat()
        assert (status, body["error"]["code"]) == (429, "too_many_requests")
        async with caller.get("/v1/models") as response:
            assert response.status == 200
        release.set()
        assert [status for status, _ in await asyncio.gather(*asked)] == [200, 200]
        assert (await caller.chat())[0] == 200
