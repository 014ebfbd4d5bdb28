"""The scripted models as a stand-alone HTTP server that speaks OpenAI's and Ollama's protocol.

    python -m studium.engines.scripted.server --script FILE --port 0

prints one line of JSON with its port, and serves 127.0.0.1 until it is ended. `serving` does the same inside a
test. Paths are looked up in a table rather than through aiohttp's router, and a script without waiting times is
answered in one write: this server is the upstream that gateways are measured against, so it must cost little.
"""

import argparse
import asyncio
import signal
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from studium.engines import ollama_wire, openai_wire
from studium.engines.scripted.delivery import json_response
from studium.engines.scripted.ollama_side import VERSION, OllamaSide
from studium.engines.scripted.openai_side import OpenAISide
from studium.engines.scripted.read import read_script
from studium.engines.scripted.script import Script
from studium.errors import BadRequest, PromptTooLong, StudiumError, UnknownModel, Unsupported

Handler = Callable[[web.BaseRequest, dict[str, Any]], Awaitable[web.StreamResponse]]

MAX_BODY_BYTES = 64 << 20
_REMEMBERED_REQUESTS = 1_000
_STATUS: Mapping[type[StudiumError], HTTPStatus] = {
    UnknownModel: HTTPStatus.NOT_FOUND,
    PromptTooLong: HTTPStatus.BAD_REQUEST,
    BadRequest: HTTPStatus.BAD_REQUEST,
    Unsupported: HTTPStatus.NOT_IMPLEMENTED,
}


class Seen(NamedTuple):
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens: its address, and the last requests it saw."""

    url: str
    port: int
    seen: deque[Seen]


class ScriptedServer:
    """Answers requests of both protocols. With `api_key`, whoever does not bring it gets status 401."""

    def __init__(self, script: Script, *, api_key: str | None = None, ollama_version: str = VERSION) -> None:
        self.seen: deque[Seen] = deque(maxlen=_REMEMBERED_REQUESTS)
        self._api_key = api_key
        openai, ollama = OpenAISide(script), OllamaSide(script, ollama_version)
        self._handlers: dict[tuple[str, str], Handler] = {
            **{(method, f"/v1{path}"): handler for (method, path), handler in openai.handlers().items()},
            **{(method, f"/api{path}"): handler for (method, path), handler in ollama.handlers().items()},
            ("GET", "/"): _root,
            ("HEAD", "/"): _root,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            if (
                self._api_key is not None
                and request.headers.get("Authorization") != f"Bearer {self._api_key}"
            ):
                return self._error(
                    request.path, HTTPStatus.UNAUTHORIZED, "this key is not known", "invalid_api_key"
                )
            handler = self._handlers.get((request.method, request.path))
            if handler is None:
                return self._error(request.path, HTTPStatus.NOT_FOUND, f"no {request.path} here", "not_found")
            body = await _body(request)
            self.seen.append(Seen(request.path, request.headers, body))
            return await handler(request, body)
        except StudiumError as error:
            status = _STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
            return self._error(request.path, status, str(error), error.code)

    def _error(self, path: str, status: HTTPStatus, message: str, code: str) -> web.Response:
        if path.startswith("/api/"):
            return json_response(ollama_wire.error_body(message), status=status)
        kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
        return json_response(openai_wire.error_body(message, type=kind, code=code), status=status)


@asynccontextmanager
async def serving(
    script: Script, *, port: int = 0, api_key: str | None = None, ollama_version: str = VERSION
) -> AsyncGenerator[Running, None]:
    """Serve `script` on 127.0.0.1 while the context lasts; port 0 takes a free one."""
    server = ScriptedServer(script, api_key=api_key, ollama_version=ollama_version)
    # Cancelling on disconnect is what makes a hanging answer end with its caller.
    answering = web.Server(server.handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(answering, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        taken: int = runner.addresses[0][1]
        yield Running(f"http://127.0.0.1:{taken}", taken, server.seen)
    finally:
        await runner.cleanup()


async def _root(request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
    return web.Response(text="Ollama is running")


async def _body(request: web.BaseRequest) -> dict[str, Any]:
    if not request.body_exists:
        return {}
    content = bytearray()
    async for chunk in request.content.iter_any():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise BadRequest(f"the body is longer than {MAX_BODY_BYTES:,} bytes")
    try:
        body = orjson.loads(content) if content else {}
    except orjson.JSONDecodeError as cause:
        raise BadRequest(f"the body is no JSON: {cause}") from cause
    if not isinstance(body, dict):
        raise BadRequest("the body is no JSON object")
    return body


async def _run(script: Script, port: int, api_key: str | None) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with serving(script, port=port, api_key=api_key) as running:
        print(orjson.dumps({"port": running.port, "url": running.url}).decode(), flush=True)
        await ended.wait()


def main() -> None:
    """Serve a script file until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m studium.engines.scripted.server", description=__doc__)
    parser.add_argument("--script", type=Path, required=True, help="YAML file of scripted models")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--api-key", help="refuse requests without this bearer token")
    arguments = parser.parse_args()
    try:
        script = read_script(arguments.script)
    except StudiumError as error:
        parser.exit(error.exit_code, f"{error}\n")
    asyncio.run(_run(script, arguments.port, arguments.api_key))


if __name__ == "__main__":
    main()
