"""Listening, and stopping so that nobody is left with half an answer.

Stopping: no new connections; requests on open ones are turned away; those being answered get `DRAIN_S`;
what is left then is cancelled and told so; last, every connection is closed.
"""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from studium.config.schema import ServerConfig
from studium.errors import OperatorError
from studium.intents.channels import Channels
from studium.telemetry import Metrics
from studium.web.application import make_web_app
from studium.web.connections import Connections
from studium.web.reception import RECEPTION, Reception

if TYPE_CHECKING:
    from studium.app import Studium

DRAIN_S = 20.0
CANCEL_S = 5.0
BACKLOG = 512


@asynccontextmanager
async def serve(
    studium: "Studium",
    *,
    metrics: Metrics | None = None,
    drain_s: float = DRAIN_S,
    hurry: asyncio.Event | None = None,
    intents: Channels | None = None,
) -> AsyncIterator[str]:
    """Serve `studium` while the block runs and yield the URL it listens on.

    `hurry`, once set, ends the waiting for open requests; `intents` are the channels it keeps, if any. Raises
    ConfigurationError where strangers would be let in without a key, OperatorError where the address cannot be
    listened on.
    """
    app = make_web_app(studium, metrics, intents)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=CANCEL_S)
    await runner.setup()
    try:
        listener = await _listen(app[RECEPTION], runner)
        try:
            yield _url(listener.sockets[0])
        finally:
            await _stop_listening(listener)
            await _finish(app[RECEPTION], drain_s, hurry or asyncio.Event())
    finally:
        await runner.cleanup()


async def _listen(reception: Reception, runner: web.AppRunner) -> asyncio.Server:
    config = reception.server
    assert runner.server is not None
    connections = Connections(
        runner.server,
        most=config.max_connections,
        header_timeout_s=config.header_timeout_s,
        stall_timeout_s=config.body_timeout_s,
        gauge=reception.meters.connections,
    )
    try:
        return await asyncio.get_running_loop().create_server(
            connections, config.host, config.port, backlog=BACKLOG
        )
    except (OSError, OverflowError) as error:
        raise _cannot_listen(config, error) from error


async def _stop_listening(listener: asyncio.Server) -> None:
    # CPython 3.11 forgets a connection whose listener is closed between its being accepted and, one turn of the
    # loop later, attached: it would hang. Found by test_an_open_question_is_answered_before_the_server_goes.
    loop = asyncio.get_running_loop()
    for listening in listener.sockets:
        loop.remove_reader(listening.fileno())
    await asyncio.sleep(0)
    listener.close()


async def _finish(reception: Reception, drain_s: float, hurry: asyncio.Event) -> None:
    hurried = asyncio.create_task(hurry.wait())
    drained = asyncio.create_task(reception.drain(drain_s))
    await asyncio.wait({hurried, drained}, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    drained.cancel()
    reception.end()
    await reception.drain(CANCEL_S)


def _cannot_listen(config: ServerConfig, error: Exception) -> OperatorError:
    where = f"{config.host}:{config.port}"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return OperatorError(
            f"port {config.port} of {config.host} is in use",
            expected="a free port",
            try_next=f"stop the other program, or choose another: studium up --port {config.port + 1}",
        )
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return OperatorError(
        f"cannot listen on {where}: {reason or error}",
        expected="an address of this machine and a port you may use",
        try_next="studium up --host 127.0.0.1 --port 8377",
    )


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
