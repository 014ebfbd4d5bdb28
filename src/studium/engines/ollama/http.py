"""Ollama's HTTP API: requests, NDJSON lines, and its errors in our own family.

Knows nothing of students or residence. Every call is bounded in time and size. A server that is not there is
EngineMissing with the command that starts it, a model that is not there UnknownModel with those that bring it.
"""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import orjson

from studium.engines.http_errors import MAX_ERROR_BYTES, http_error, reported_error
from studium.errors import BadReply, EngineDied, EngineMissing, EngineTimeout, StudiumError, UnknownModel

MAX_LINE_BYTES = 4 << 20
MAX_BODY_BYTES = 64 << 20
_READ_BYTES = 64 << 10
_NO_LIMIT = aiohttp.ClientTimeout(total=None)

Json = dict[str, Any]


class OllamaHttp:
    """One server at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, *, model: str, timeout_s: float) -> Json:
        """Return the answer of a GET. `model` names whom it is for in errors."""
        async with self._asked("GET", path, None, model, timeout_s) as answer:
            return await answer.whole()

    async def post(self, path: str, body: Json, *, model: str, timeout_s: float) -> Json:
        """Return the answer of a POST that is not streamed."""
        async with self._asked("POST", path, body | {"stream": False}, model, timeout_s) as answer:
            return await answer.whole()

    async def stream(
        self, path: str, body: Json, *, model: str, timeout_s: float
    ) -> AsyncGenerator[Json, None]:
        """Yield the lines of a streamed POST. An error line is raised. Closing it closes the connection."""
        async with (
            self._asked("POST", path, body | {"stream": True}, model, timeout_s) as answer,
            aclosing(answer.lines()) as lines,
        ):
            async for line in lines:
                yield line

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, body: Json | None, model: str, timeout_s: float
    ) -> AsyncGenerator["_Answer", None]:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        deadline = asyncio.get_running_loop().time() + timeout_s
        data = None if body is None else orjson.dumps(body)
        with _errors_named(model, self.url, timeout_s):
            async with asyncio.timeout_at(deadline):
                response = await self._session.request(
                    method, self.url + path, data=data, timeout=_NO_LIMIT, allow_redirects=False
                )
        answer = _Answer(response, model, self.url, timeout_s, deadline)
        try:
            if response.status >= 300:
                raise await answer.error()
            yield answer
        finally:
            # Given back already where it was read to its end; else this tells the server to stop.
            response.close()


class _Answer:
    """An answer as it is read, within its deadline."""

    def __init__(
        self, response: aiohttp.ClientResponse, model: str, url: str, timeout_s: float, deadline: float
    ) -> None:
        self._response = response
        self._model = model
        self._url = url
        self._timeout_s = timeout_s
        self._deadline = deadline

    async def whole(self) -> Json:
        body = await self._body(MAX_BODY_BYTES)
        if len(body) > MAX_BODY_BYTES:
            raise BadReply(f"{self._model}: an answer of more than {MAX_BODY_BYTES:,} bytes")
        return _parse(body, self._model) if body else {}

    async def lines(self) -> AsyncGenerator[Json, None]:
        rest = b""
        while chunk := await self._read():
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise BadReply(f"{self._model}: a line of more than {MAX_LINE_BYTES:,} bytes")
            for line in lines:
                if line.strip():
                    yield _parse(line, self._model)
        if rest.strip():
            yield _parse(rest, self._model)

    async def error(self) -> StudiumError:
        body = await self._body(MAX_ERROR_BYTES)
        error = http_error(self._model, self._response.status, body, self._response.headers)
        if not isinstance(error, UnknownModel):
            return error
        return UnknownModel(
            error.happened,
            expected="a model that Ollama has",
            try_next="create a student's model with `studium students create`, or fetch one with `ollama pull NAME`",
        )

    async def _body(self, most_bytes: int) -> bytes:
        body = bytearray()
        while len(body) <= most_bytes and (chunk := await self._read()):
            body += chunk
        return bytes(body)

    async def _read(self) -> bytes:
        with _errors_named(self._model, self._url, self._timeout_s):
            async with asyncio.timeout_at(self._deadline):
                return await self._response.content.read(_READ_BYTES)


@contextmanager
def _errors_named(model: str, url: str, timeout_s: float) -> Generator[None, None, None]:
    try:
        yield
    except TimeoutError as cause:
        raise EngineTimeout(
            f"{model}: Ollama did not finish within {timeout_s:g} s",
            try_next="raise the limit, ask for fewer tokens, or choose a smaller model",
        ) from cause
    except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as cause:
        raise EngineMissing(
            f"no Ollama answers at {url}",
            expected="a running Ollama server",
            try_next="start it with `ollama serve`, or correct the url under `engines`",
        ) from cause
    except (aiohttp.ClientError, OSError) as cause:
        raise EngineDied(
            f"{model}: the connection to Ollama at {url} broke: {cause or type(cause).__name__}",
            try_next="see Ollama's log; `ollama serve` starts it again",
        ) from cause


def _parse(line: bytes, model: str) -> Json:
    try:
        parsed = orjson.loads(line)
    except orjson.JSONDecodeError as cause:
        raise BadReply(
            f"{model}: Ollama sent no JSON: {line[:100]!r}", expected="one object per line"
        ) from cause
    if not isinstance(parsed, dict):
        raise BadReply(f"{model}: Ollama sent {line[:100]!r}", expected="an object")
    if error := parsed.get("error"):
        raise reported_error(model, error)
    return parsed
