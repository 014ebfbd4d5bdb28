"""Another Studium, spoken to over HTTP by a command that outlasts bad connections.

What cannot be reached is tried again, more and more slowly, for `PATIENCE_S` after the last byte that came; that nobody
is there at all is told at once. The key is that of `STUDIUM_API_KEY`; no redirect is followed with it.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from studium.config.running import headers, refusal
from studium.errors import BadReply, BadRequest, EngineMissing

REACH_S = 60.0
PATIENCE_S = 300.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0
MOST_REPLY_BYTES = 16 << 20
Json = dict[str, Any]
_T = TypeVar("_T")


class Lost(EngineMissing):
    """The connection broke, or the box was not there; it may be soon."""


class _Stay(HTTPRedirectHandler):
    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> None:
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class Box:
    """A Studium elsewhere. Every call blocks, with a limit. Raises what it refuses with, Lost after a long silence."""

    def __init__(
        self,
        url: str,
        tell: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise BadRequest(
                f"{url[:80]!r} is no address of a Studium", expected="one such as http://box:8377"
            )
        self.url = url.rstrip("/")
        self._tell, self._clock, self._sleep = tell, clock, sleep
        self._heard_at: float | None = None
        self._opener = build_opener(_Stay)

    def get(self, path: str) -> Json:
        """Return the JSON object at a path."""
        return self.until_done(lambda: self._json(Request(self.url + path)))

    def post(self, path: str, body: Mapping[str, Any]) -> Json:
        """Post an object that may be posted twice; return the reply's."""
        data = json.dumps(body).encode()
        return self.until_done(lambda: self._json(Request(self.url + path, data)))

    def put(self, path: str, file: Path) -> Json:
        """Send a file."""

        def send() -> Json:
            with file.open("rb") as data:
                return self._json(_put(self.url + path, data, file.stat().st_size))

        return self.until_done(send)

    def pieces(self, path: str, start: int) -> Iterator[bytes]:
        """Yield a file's bytes from `start` on. Raises Lost where the connection breaks; what was yielded stands."""
        request = Request(self.url + path, headers={"Range": f"bytes={start}-"} if start else {})
        with self._opened(request) as reply:
            here = 0 if reply.status == 206 else start  # somebody in between may not know of ranges
            while piece := reply.read(1 << 18):
                self._heard_at = self._clock()
                yield piece[here:]
                here = max(0, here - len(piece))

    def until_done(self, do: Callable[[], _T]) -> _T:
        """Do something until it does not raise Lost. Raises Lost once the box was silent for too long."""
        pause_s, silent_since = FIRST_PAUSE_S, float("-inf")
        while True:
            try:
                result = do()
            except Lost as error:
                if self._heard_at is None:
                    raise
                if silent_since < self._heard_at:
                    pause_s, silent_since = FIRST_PAUSE_S, self._clock()
                    self._tell(f"{error.happened}; trying again for {PATIENCE_S:.0f} s")
                if self._clock() - silent_since >= PATIENCE_S:
                    raise
                self._sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                self._heard_at = self._clock()
                return result

    def _json(self, request: Request) -> Json:
        with self._opened(request) as reply:
            body = reply.read(MOST_REPLY_BYTES)
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return found
        raise BadReply(f"{self.url} sent {body[:60]!r}", expected="a JSON object, as a Studium sends")

    @contextmanager
    def _opened(self, request: Request) -> Iterator[HTTPResponse]:
        for name, value in headers().items():
            request.add_header(name, value)
        try:
            with self._opener.open(request, timeout=REACH_S) as reply:
                yield reply
        except HTTPError as error:
            told = refusal(error.code, error.read(65536))
            if error.code in (429, 502, 503, 504) and error.headers.get("x-should-retry") != "false":
                raise self.lost(told.happened) from error
            raise told from error
        except (OSError, HTTPException) as error:
            raise self.lost(str(getattr(error, "reason", None) or error)) from error

    def lost(self, why: str) -> Lost:
        """Return the error that says that the box cannot be reached."""
        return Lost(
            f"no Studium answers at {self.url} ({why})",
            expected="the address of a running Studium, and a way to it",
            try_next="start it there with: studium up",
        )


def _put(url: str, data: IO[bytes], num_bytes: int) -> Request:
    return Request(url, data, {"Content-Length": str(num_bytes)}, method="PUT")
