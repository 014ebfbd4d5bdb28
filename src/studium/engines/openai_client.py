"""The client's half of the OpenAI protocol, for every engine whose server speaks it.

`stream_chat` posts one request and yields pieces and a reply; `fetch_json` posts one that is answered at
once. Both bound time and size and turn whatever goes wrong into our errors. What goes into a request
beyond `chat_body` and `completion_body`, retries and prices are the engine's affair.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, NamedTuple

import aiohttp
import orjson

from studium.engines.http_errors import MAX_ERROR_BYTES, http_error, reported_error
from studium.engines.sse import EventTooLong, SseDecoder
from studium.errors import BadReply, EngineDied, EngineFailure, EngineRefused, EngineTimeout, StudiumError
from studium.records.messages import Ask, Embeddings, Finish, Piece, Reply, TokenLogprob

MAX_BODY_BYTES = 64 * 1024 * 1024
_READ_BYTES = 64 * 1024
_DRAIN_S = 0.1
# The total time is bounded by our own deadline; aiohttp's default of 300 s would cut a long answer.
_NO_LIMIT = aiohttp.ClientTimeout(total=None)


_NO_USAGE: Mapping[str, Any] = {}


class _Chunk(NamedTuple):
    """What one event of a stream adds."""

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: str | None = None
    usage: Mapping[str, Any] = _NO_USAGE


def chat_body(model_id: str, ask: Ask) -> dict[str, Any]:
    """Return the body for `/chat/completions`: the messages and every choice the standard knows.

    `top_k`, `repeat_penalty`, `json_schema` and `grammar` are not in the standard in one agreed form:
    the engine adds them in its server's words, or refuses them.
    """
    body: dict[str, Any] = {"model": model_id, **_sampling(ask)}
    body["messages"] = [{"role": message.role, "content": message.content} for message in ask.messages]
    if ask.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": ask.top_logprobs}
    return body


def completion_body(model_id: str, ask: Ask) -> dict[str, Any]:
    """Return the body for `/completions`, which continues `ask.prompt` as it stands."""
    body: dict[str, Any] = {"model": model_id, "prompt": ask.prompt, **_sampling(ask)}
    if ask.top_logprobs is not None:
        body["logprobs"] = ask.top_logprobs
    return body


def _sampling(ask: Ask) -> dict[str, Any]:
    chosen = {
        "temperature": ask.sampling.temperature,
        "top_p": ask.sampling.top_p,
        "seed": ask.sampling.seed,
        "max_tokens": ask.sampling.max_tokens,
        "stop": list(ask.sampling.stop) or None,
    }
    return {name: value for name, value in chosen.items() if value is not None}


async def stream_chat(
    session: aiohttp.ClientSession,
    url: str,
    body: Mapping[str, Any],
    *,
    model: str,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    stream: bool = True,
    ask_usage: bool = True,
) -> AsyncGenerator[Piece | Reply, None]:
    """Post `body` to a chat or completions URL as a stream; yield its pieces, then one Reply.

    What one read brings is one piece, however many tokens it holds. Without `stream` the server is asked
    for the whole answer at once, which costs both sides less.

    `model` names the model in errors; `timeout_s` bounds everything from connecting to the last byte.
    `ask_usage` asks the server to count tokens (`stream_options`), which a few servers refuse to hear.
    Raises PromptTooLong, UnknownModel (404), Unsupported (501), EngineRefused (`HttpRefusal` with
    `status` and `retry_after_s`), EngineDied (not reachable, or ended without saying that it was done),
    EngineTimeout, BadReply. Closing the generator closes the connection, which stops a server that watches it.
    """
    started = time.monotonic()
    payload = {**body, "stream": stream}
    if stream and ask_usage:
        payload["stream_options"] = {"include_usage": True}
    assembly = _Assembly(started)
    async with _Posted(session, url, payload, headers, model, timeout_s) as answer:
        if answer.comes_at_once:
            assembly.take(await answer.body(), model)
            if piece := assembly.piece():
                yield piece
        else:
            async with aclosing(answer.events()) as batches:
                async for batch in batches:
                    try:
                        for event in batch:
                            assembly.take(event, model)
                    finally:  # what came before a broken event is passed on before the error
                        if piece := assembly.piece():
                            yield piece
                    if assembly.done:
                        break
            await answer.drain()
    if assembly.finish is None:
        raise EngineDied(
            f"{model}: the stream ended after {len(assembly.text)} characters without saying it was done",
            expected="a finish_reason or [DONE]",
            try_next="see the server's log",
        )
    if assembly.finish == "content_filter":
        raise EngineRefused(f"{model}: the server's content filter stopped the answer")
    yield assembly.reply()


async def fetch_json(
    session: aiohttp.ClientSession,
    url: str,
    body: Mapping[str, Any] | None = None,
    *,
    model: str,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Post `body` (or get, where it is None) and return the JSON answered. Raises as `stream_chat` does."""
    async with _Posted(session, url, body, headers, model, timeout_s) as answer:
        return _json(await answer.body(), model)


async def fetch_embeddings(
    session: aiohttp.ClientSession,
    url: str,
    texts: Sequence[str],
    *,
    model_id: str,
    model: str,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> Embeddings:
    """Post texts to an `/embeddings` URL; return one vector each, in the order given."""
    body = {"model": model_id, "input": list(texts), "encoding_format": "float"}
    answer = await fetch_json(session, url, body, model=model, timeout_s=timeout_s, headers=headers)
    try:
        rows = sorted(answer["data"], key=lambda row: row["index"])
        vectors = [[float(value) for value in row["embedding"]] for row in rows]
        tokens = int((answer.get("usage") or {}).get("prompt_tokens") or 0)
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise _bad_reply(model, "embeddings of another shape", answer) from cause
    if len(vectors) != len(texts):
        raise _bad_reply(model, f"{len(vectors)} vectors for {len(texts)} texts", answer)
    return Embeddings(vectors, tokens)


class _Assembly:
    """Gathers the chunks of one stream into its reply."""

    def __init__(self, started: float) -> None:
        self.finish: str | None = None
        self.done = False
        self._started = started
        self._passed_texts = 0
        self._passed_logprobs = 0
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._usage: Mapping[str, Any] = {}
        self._first_s: float | None = None
        self._last_s: float | None = None

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def take(self, event: bytes, model: str) -> None:
        """Take one event in. Raises what it says, or BadReply."""
        if event == b"[DONE]":
            self.finish, self.done = self.finish or "stop", True
            return
        text, logprobs, finish, usage = _parse(event, model)
        self.finish = finish or self.finish
        self._usage = usage or self._usage
        if (
            text or logprobs or finish
        ):  # servers hold unfinished characters back: the last token may show as the end
            self._last_s = time.monotonic() - self._started
        if text or logprobs:
            self._first_s = self._last_s if self._first_s is None else self._first_s
            self._texts.append(text)
            self._logprobs += logprobs

    def piece(self) -> Piece | None:
        """Return what was said since the last piece, or None."""
        texts, logprobs = self._texts[self._passed_texts :], self._logprobs[self._passed_logprobs :]
        if not texts:
            return None
        self._passed_texts, self._passed_logprobs = len(self._texts), len(self._logprobs)
        return Piece("".join(texts), tuple(logprobs))

    def reply(self) -> Reply:
        return Reply(
            text=self.text,
            finish=Finish.LENGTH if self.finish == "length" else Finish.STOP,
            seconds=time.monotonic() - self._started if self._last_s is None else self._last_s,
            prompt_tokens=_count(self._usage.get("prompt_tokens")),
            completion_tokens=_count(self._usage.get("completion_tokens")),
            first_token_s=self._first_s,
            logprobs=tuple(self._logprobs),
        )


class _Answer:
    """One HTTP answer as it is read: its network errors named, its time bounded by `_Posted`."""

    def __init__(self, response: aiohttp.ClientResponse, model: str, named: "_ErrorsNamed") -> None:
        self.response = response
        self._model = model
        self._named = named

    @property
    def comes_at_once(self) -> bool:
        """Whether this is one JSON object and no stream: not asked for, or not known to the server."""
        return self.response.content_type == "application/json"

    async def read(self) -> bytes:
        """Return the next bytes as they come, or none at the end."""
        with self._named:
            return await self.response.content.read(_READ_BYTES)

    async def body(self, most_bytes: int = MAX_BODY_BYTES) -> bytes:
        """Return the whole body. Raises BadReply when it is longer."""
        body = bytearray()
        while chunk := await self.read():
            body += chunk
            if len(body) > most_bytes:
                raise BadReply(f"{self._model}: an answer of more than {most_bytes:,} bytes")
        return bytes(body)

    async def error(self) -> StudiumError:
        """Return what an answer with an error status means."""
        body = bytearray()
        while len(body) < MAX_ERROR_BYTES and (chunk := await self.read()):
            body += chunk
        return http_error(self._model, self.response.status, bytes(body), self.response.headers)

    async def events(self) -> AsyncGenerator[list[bytes], None]:
        """Yield the data of the events each read completes; `[DONE]`, if it comes, is the last one."""
        decoder = SseDecoder()
        try:
            while chunk := await self.read():
                if events := decoder.feed(chunk):
                    yield events
            if events := decoder.end():
                yield events
        except EventTooLong as cause:
            raise BadReply(f"{self._model}: {cause}", expected="a stream of small events") from cause

    async def drain(self) -> None:
        """Read what follows the last event, usually nothing, so that the connection can be used again."""
        with suppress(TimeoutError, EngineFailure):
            async with asyncio.timeout(None if self.response.content.is_eof() else _DRAIN_S):
                while await self.read():
                    pass


class _Posted:
    """Sends a request, raises what its status says, and closes the connection unless it was read to its end.

    A class, as `_ErrorsNamed` is: generators would cost more, at every call.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        model: str,
        timeout_s: float,
    ) -> None:
        self._session, self._url, self._body, self._model = session, url, body, model
        self._headers = {**(headers or {}), "Content-Type": "application/json"}
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._named = _ErrorsNamed(model, timeout_s)

    async def __aenter__(self) -> _Answer:
        body = self._body
        with self._named:
            async with asyncio.timeout_at(self._deadline):
                # No redirects: the headers may carry a key that belongs to this host alone.
                self._response = response = await self._session.request(
                    "GET" if body is None else "POST",
                    self._url,
                    data=None if body is None else orjson.dumps(body),
                    headers=self._headers,
                    timeout=_NO_LIMIT,
                    allow_redirects=False,
                )
        # One timer for the whole answer: a timeout around every read costs as much as the read, and one
        # around a yield would cancel whoever consumes the pieces.
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_at(self._deadline, response.content.set_exception, TimeoutError())
        answer = _Answer(response, self._model, self._named)
        if response.status < 300:
            return answer
        try:
            raise await answer.error()
        finally:
            self._end()

    async def __aexit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._alarm.cancel()
        # A response read to its end has already given its connection back; closing any other tells
        # the server that nobody listens any more.
        self._response.close()


class _ErrorsNamed:
    """Within it, what goes wrong on the network is raised as an error of the model's engine."""

    def __init__(self, model: str, timeout_s: float) -> None:
        self._model = model
        self._timeout_s = timeout_s

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, cause: BaseException | None, _trace: object) -> None:
        if isinstance(cause, TimeoutError):
            raise EngineTimeout(
                f"{self._model}: no whole answer within {self._timeout_s:g} s",
                try_next="raise the limit or ask for fewer tokens",
            ) from cause
        if isinstance(cause, aiohttp.ClientError | OSError):
            raise EngineDied(
                f"{self._model}: the connection to its server failed: {cause or type(cause).__name__}",
                expected="a server that answers",
                try_next="see whether it still runs",
            ) from cause


def _parse(event: bytes, model: str) -> _Chunk:
    answer = _json(event, model)
    if not isinstance(answer, dict):
        raise _bad_reply(model, "an event that is not an object", answer)
    if error := answer.get("error"):
        raise reported_error(model, error)
    try:
        usage, choices = answer.get("usage"), answer.get("choices")
        usage = dict(usage) if usage else _NO_USAGE
        return _choice(choices[0], usage) if choices else _Chunk(usage=usage)
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise _bad_reply(model, "an event of another shape", answer) from cause


def _choice(choice: Mapping[str, Any], usage: Mapping[str, Any]) -> _Chunk:
    said = choice.get("delta") or choice.get("message")
    text = (said and said.get("content")) or choice.get("text") or ""
    if not isinstance(text, str):
        raise TypeError("content is not text")
    finish = choice.get("finish_reason")
    logprobs = choice.get("logprobs")
    return _Chunk(text, _logprobs(logprobs) if logprobs else (), finish and str(finish), usage)


def _logprobs(given: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
    """Read either shape: a list of tokens (chat), or parallel lists (the older completions)."""
    if given.get("content"):
        return tuple(
            TokenLogprob(entry["token"], _logprob(entry["logprob"]), _alternatives(entry.get("top_logprobs")))
            for entry in given["content"]
        )
    tokens = given.get("tokens") or []
    tops = given.get("top_logprobs") or [None] * len(tokens)
    return tuple(
        TokenLogprob(token, _logprob(logprob), tuple((top or {}).items()))
        for token, logprob, top in zip(tokens, given.get("token_logprobs") or [], tops, strict=True)
    )


def _alternatives(entries: Sequence[Mapping[str, Any]] | None) -> tuple[tuple[str, float], ...]:
    return tuple((entry["token"], _logprob(entry["logprob"])) for entry in entries or ())


def _logprob(value: float | None) -> float:
    """Return a log-probability; JSON has no minus infinity, so servers say null."""
    return float("-inf") if value is None else float(value)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _json(body: bytes, model: str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as cause:
        raise _bad_reply(model, "no JSON", body.decode(errors="replace")) from cause


def _bad_reply(model: str, what: str, given: Any) -> BadReply:
    return BadReply(
        f"{model}: the server sent {what}: {str(given)[:200]!r}",
        expected="the OpenAI protocol",
        try_next="check that the URL is that of an OpenAI-shaped server",
    )
