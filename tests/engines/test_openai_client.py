"""The client's half of the OpenAI protocol against a server that misbehaves in every way on request."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from studium.engines.http_errors import HttpRefusal
from studium.engines.openai_client import chat_body, completion_body, fetch_embeddings, stream_chat
from studium.errors import (
    BadReply,
    EngineDied,
    EngineRefused,
    EngineTimeout,
    PromptTooLong,
    StudiumError,
    UnknownModel,
    Unsupported,
)
from studium.records.messages import Ask, Finish, Message, Piece, Reply, Sampling, TokenLogprob

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
ASK = Ask(messages=(Message("user", "hi"),), sampling=Sampling(max_tokens=5, stop=("x",)))


class Server:
    """Answers every request as `answer` says, keeps the bodies, and knows when a listener has left."""

    def __init__(self) -> None:
        self.answer: Answer = whole
        self.bodies: list[Any] = []
        self.left = asyncio.Event()
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(orjson.loads(await request.read()))
        try:
            return await self.answer(request)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise


@pytest.fixture
async def server() -> AsyncGenerator[Server, None]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.serve)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield server
    await runner.cleanup()


def event(**fields: Any) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def delta(text: str | None = None, **more: Any) -> bytes:
    return event(choices=[{"delta": {"content": text}, "finish_reason": None, **more}])


def finish(reason: str = "stop") -> bytes:
    return event(choices=[{"delta": {}, "finish_reason": reason}])


USAGE = event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2})
DONE = b"data: [DONE]\n\n"


def streamed(*parts: bytes, abrupt: bool = False, pause_s: float = 0.0) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(pause_s)
        if abrupt:
            assert request.transport is not None
            request.transport.abort()
        return response

    return answer


def refused(status: int, body: bytes, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return answer


whole = streamed(delta(None), delta("hé"), b": heartbeat\n\n", delta("llo"), finish(), USAGE, DONE)


async def heard(server: Server, ask: Ask = ASK, *, timeout_s: float = 5.0) -> list[Piece | Reply]:
    make_body = chat_body if ask.prompt is None else completion_body
    async with aiohttp.ClientSession() as session:
        stream = stream_chat(session, f"{server.url}/x", make_body("m", ask), model="m", timeout_s=timeout_s)
        async with aclosing(stream):
            return [part async for part in stream]


async def test_pieces_then_a_reply_with_the_servers_own_counts(server: Server) -> None:
    *pieces, reply = await heard(server)
    assert pieces == [Piece("hé"), Piece("llo")]
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish) == ("héllo", Finish.STOP)
    assert (reply.prompt_tokens, reply.completion_tokens) == (3, 2)
    (body,) = server.bodies
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 5,
        "stop": ["x"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_connection_is_used_again_after_a_whole_answer(server: Server) -> None:
    peers = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return await whole(request)

    server.answer = answer
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            stream = stream_chat(session, server.url, chat_body("m", ASK), model="m", timeout_s=30.0)
            assert [part async for part in stream]
    assert len(peers) == 1


async def test_both_shapes_of_log_probabilities_are_read(server: Server) -> None:
    tops = [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": None}]
    chat = {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": tops}]}
    older = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5, "b": -3.0}]}
    server.answer = streamed(
        delta("a", logprobs=chat), event(choices=[{"text": "a", "logprobs": older}]), finish()
    )
    *pieces, reply = await heard(server)
    assert isinstance(reply, Reply)
    assert reply.logprobs == (
        TokenLogprob("a", -0.5, (("a", -0.5), ("b", float("-inf")))),
        TokenLogprob("a", -0.5, (("a", -0.5), ("b", -3.0))),
    )
    assert reply.logprobs == tuple(logprob for piece in pieces for logprob in piece.logprobs)


async def test_what_one_read_brings_is_one_piece(server: Server) -> None:
    server.answer = streamed(delta("one ") + delta("two ") + delta("three"), finish())
    piece, reply = await heard(server)
    assert isinstance(reply, Reply)
    assert (piece.text, reply.text) == ("one two three", "one two three")


async def test_what_came_before_a_broken_event_is_passed_on(server: Server) -> None:
    server.answer = streamed(delta("one "), event(error={"message": "out of luck"}))
    texts: list[str] = []
    async with aiohttp.ClientSession() as session:
        stream = stream_chat(session, f"{server.url}/x", chat_body("m", ASK), model="m", timeout_s=30.0)
        with pytest.raises(EngineRefused, match="out of luck"):
            async for part in stream:
                texts.append(part.text)
    assert texts == ["one "]


async def test_an_answer_given_at_once_is_one_piece(server: Server) -> None:
    said = {
        "choices": [{"message": {"content": "all"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 1},
    }
    server.answer = refused(200, orjson.dumps(said), **{"Content-Type": "application/json"})
    piece, reply = await heard(server)
    assert piece == Piece("all")
    assert isinstance(reply, Reply)
    assert (reply.finish, reply.prompt_tokens, reply.completion_tokens) == (Finish.LENGTH, 1, None)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(streamed(delta("half")), EngineDied, id="ends without saying so"),
        pytest.param(streamed(delta("half"), abrupt=True), EngineDied, id="connection torn"),
        pytest.param(streamed(), EngineDied, id="nothing at all"),
        pytest.param(streamed(b"data: {oops\n\n"), BadReply, id="no JSON"),
        pytest.param(streamed(b"data: \xff\xfe\n\n"), BadReply, id="no UTF-8"),
        pytest.param(streamed(b"data: [1, 2]\n\n"), BadReply, id="no object"),
        pytest.param(streamed(event(choices=7)), BadReply, id="choices of another shape"),
        pytest.param(
            streamed(event(choices=[{"delta": {"content": 7}}])), BadReply, id="text of another type"
        ),
        pytest.param(
            streamed(delta("a", logprobs={"content": [{}]})), BadReply, id="broken log-probabilities"
        ),
        pytest.param(streamed(*[b"x" * 1_000_000] * 6), BadReply, id="endless line"),
        pytest.param(streamed(delta("a"), event(error={"message": "boom"})), EngineRefused, id="error event"),
        pytest.param(streamed(delta("a"), finish("content_filter")), EngineRefused, id="content filter"),
        pytest.param(streamed(delta("a"), pause_s=30), EngineTimeout, id="falls silent"),
        pytest.param(streamed(*[delta("a")] * 1000, pause_s=0.01), EngineTimeout, id="slow drip"),
        pytest.param(refused(301, b"", Location="http://127.0.0.1:9/"), EngineRefused, id="redirect"),
    ],
)
async def test_every_misbehaviour_has_its_error(
    server: Server, answer: Answer, error: type[StudiumError]
) -> None:
    server.answer = answer
    with pytest.raises(error, match="^m: "):
        await heard(server, timeout_s=0.5)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, b'{"error": {"message": "too long", "code": "context_length_exceeded"}}', PromptTooLong),
        (400, b'{"error": {"message": "n", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}}',
         PromptTooLong),
        (400, b'{"object": "error", "message": "This model\'s maximum context length is 8 tokens."}', PromptTooLong),
        (400, b'{"error": "model does not like that"}', HttpRefusal),
        (401, b"who are you?", HttpRefusal),
        (404, b'{"error": {"message": "no such model"}}', UnknownModel),
        (500, b"\xff" * 200_000, HttpRefusal),
        (500, b'{"error": {"code": {"not": "hashable"}}}', HttpRefusal),
        (501, b'{"error": {"message": "no"}}', Unsupported),
        (502, b"<html>Bad gateway</html>", HttpRefusal),
    ],
)  # fmt: skip
async def test_http_errors_are_named(
    server: Server, status: int, body: bytes, error: type[StudiumError]
) -> None:
    server.answer = refused(status, body)
    with pytest.raises(error) as caught:
        await heard(server)
    assert len(str(caught.value)) < 800
    if isinstance(caught.value, HttpRefusal):
        assert caught.value.status == status


@pytest.mark.parametrize(
    ("header", "wait_s"), [("7", 7.0), ("nan", None), ("-1", None), ("Fri, 1 Jan", None)]
)
async def test_the_wait_a_server_asks_for_is_kept(server: Server, header: str, wait_s: float | None) -> None:
    server.answer = refused(429, b'{"error": {"message": "slow down"}}', **{"Retry-After": header})
    with pytest.raises(HttpRefusal, match="slow down") as caught:
        await heard(server)
    assert (caught.value.status, caught.value.retry_after_s) == (429, wait_s)


async def test_nobody_at_the_address_is_a_dead_engine(server: Server) -> None:
    server.url = "http://127.0.0.1:9"
    with pytest.raises(EngineDied, match="connection"):
        await heard(server)


async def test_a_server_that_never_answers_is_a_timeout(server: Server) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    server.answer = answer
    with pytest.raises(EngineTimeout, match=r"0\.2 s"):
        await heard(server, timeout_s=0.2)


async def test_closing_the_stream_is_noticed_by_the_server(server: Server) -> None:
    server.answer = streamed(*[delta("a")] * 1000, pause_s=0.01)
    async with aiohttp.ClientSession() as session:
        stream = stream_chat(session, server.url, chat_body("m", ASK), model="m", timeout_s=30.0)
        await anext(stream)
        await stream.aclose()
        await asyncio.wait_for(server.left.wait(), 20.0)


async def test_a_slow_consumer_is_not_cancelled_where_it_works(server: Server) -> None:
    server.answer = streamed(delta("a"), pause_s=30)
    worked = []
    with pytest.raises(EngineTimeout):
        async with aiohttp.ClientSession() as session:
            async for _ in stream_chat(session, server.url, chat_body("m", ASK), model="m", timeout_s=0.1):
                await asyncio.sleep(0.3)
                worked.append("whole")
    assert worked == ["whole"]


async def test_embeddings_come_in_the_order_of_the_texts(server: Server) -> None:
    rows = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1]}]
    server.answer = refused(200, orjson.dumps({"data": rows, "usage": {"prompt_tokens": 4}}))
    async with aiohttp.ClientSession() as session:
        found = await fetch_embeddings(
            session, server.url, ["a", "b"], model_id="m", model="m", timeout_s=5.0
        )
        assert (found.vectors, found.prompt_tokens) == ([[1.0], [2.0]], 4)
        with pytest.raises(BadReply, match="2 vectors for 3"):
            await fetch_embeddings(session, server.url, ["a"] * 3, model_id="m", model="m", timeout_s=30.0)
