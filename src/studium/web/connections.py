"""Connections that may not dawdle: aiohttp's server protocol with limits on silence and on number.

A connection waits, works, waits again. It may wait `header_timeout_s` for its first request and for any
request whose first byte has come, `IDLE_S` between requests; a client that does not read what it asked for
is cut off after `stall_timeout_s`. When every place is taken the connection that has waited longest gives
way, so that half-open connections cannot keep a health check out.
"""

import asyncio
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from studium.telemetry import Gauge
from studium.web.failures import Dialect, Refused, error_json, error_response

IDLE_S = 75.0
LINGER_S = 2.0
"""How long the rest of a refused body is read and thrown away, so that the client sees the refusal."""

MAX_HEADERS = 64
MAX_LINE_BYTES = 8_190


class Connections:
    """Makes the protocol of each new connection and keeps their number bounded."""

    def __init__(
        self,
        server: web.Server,
        *,
        most: int,
        header_timeout_s: float,
        stall_timeout_s: float,
        gauge: Gauge | None = None,
    ) -> None:
        self.header_timeout_s = header_timeout_s
        self.stall_timeout_s = stall_timeout_s
        self._server = server
        self._most = most
        self._gauge = gauge
        self._open: set[GuardedConnection] = set()
        # Insertion order is waiting order: the first has waited longest.
        self._waiting: dict[GuardedConnection, None] = {}

    def __call__(self) -> "GuardedConnection":
        """Return the protocol for a connection just accepted, as `loop.create_server` wants it."""
        return GuardedConnection(self, self._server)

    def opened(self, connection: "GuardedConnection") -> bool:
        """Count a new connection; False where there is no place for it and none can be made."""
        if len(self._open) >= self._most:
            longest = next(iter(self._waiting), None)
            if longest is None:
                return False
            self.closed(longest)
            longest.force_close()
        self._open.add(connection)
        self._count()
        return True

    def waits(self, connection: "GuardedConnection") -> None:
        """Note that a connection has no complete request."""
        self._waiting[connection] = None

    def works(self, connection: "GuardedConnection") -> None:
        """Note that a connection has a request being answered."""
        self._waiting.pop(connection, None)

    def closed(self, connection: "GuardedConnection") -> None:
        self._open.discard(connection)
        self._waiting.pop(connection, None)
        self._count()

    def _count(self) -> None:
        if self._gauge is not None:
            self._gauge.set(len(self._open))


class GuardedConnection(web.RequestHandler):
    """One connection under the limits of its `Connections`."""

    def __init__(self, connections: Connections, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=IDLE_S,
            lingering_time=LINGER_S,
            max_headers=MAX_HEADERS,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            access_log=None,  # pyright: ignore[reportArgumentType]  (None is how aiohttp spells "no access log")
        )
        self._connections = connections
        self._waits = True
        self._header_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._connections.opened(self):
            self._wait()
            self._expect_headers()
        else:
            self._turn_away()

    def data_received(self, data: bytes) -> None:
        served = self._request_count
        super().data_received(data)
        if self._request_count != served:
            self._work()
        elif self._waits and self._header_timer is None and data:
            self._expect_headers()

    async def finish_response(self, request: web.BaseRequest, resp: Any, start_time: float | None) -> Any:
        result = await super().finish_response(request, resp, start_time)
        if not self._messages and not self._force_close:
            self._wait()
        return result

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self._loop.call_later(self._connections.stall_timeout_s, self._cut_off)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop(self._stall_timer)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop(self._header_timer)
        self._stop(self._stall_timer)
        self._connections.closed(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP in the protocol's shape; everything else is answered further in."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        text = str(message or exc).split("\n", 1)[0].rstrip(":")
        response = error_response(
            Dialect.OPENAI, Refused(status, "bad_http", f"this is no HTTP request: {text}")
        )
        response.force_close()
        return response

    def _wait(self) -> None:
        self._waits = True
        self._connections.waits(self)

    def _work(self) -> None:
        self._waits = False
        self._stop(self._header_timer)
        self._header_timer = None
        self._connections.works(self)

    def _expect_headers(self) -> None:
        self._header_timer = self._loop.call_later(self._connections.header_timeout_s, self.force_close)

    def _turn_away(self) -> None:
        error = Refused(503, "too_many_connections", "every connection of this server is in use")
        body = orjson.dumps(error_json(Dialect.OPENAI, error))
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        if self.transport is not None:
            self.transport.write(head.encode() + body)
        self.force_close()

    def _cut_off(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()
