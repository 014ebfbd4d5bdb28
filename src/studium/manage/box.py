"""Another Studium spoken to over HTTP by a command that outlasts bad connections: asked again until it answers.

What cannot be reached is tried again, more and more slowly, for `PATIENCE_S` after the last byte that came; the first
time nobody answers is told at once. The key is that of `STUDIUM_API_KEY`; no redirect is followed with it.
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from studium.config.running import headers, refusal
from studium.errors import BadReply, BadRequest, EngineMissing

REACH_S = 30.0
PATIENCE_S = 300.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0
MOST_REPLY_BYTES = 64 << 20
Json = dict[str, Any]
Tell = Callable[[str], None]
_T = TypeVar("_T")


class Lost(EngineMissing):
    """The connection broke, or the box was not there; it may be soon."""


class _Stay(urllib.request.HTTPRedirectHandler):
    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> None:
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class Box:
    """A Studium elsewhere. Every call blocks, with a limit. Raises what it refuses with, Lost after a long silence."""

    def __init__(
        self,
        url: str,
        tell: Tell,
        *,
        patience_s: float = PATIENCE_S,
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
        self._patience_s = patience_s
        self._heard_at: float | None = None
        self._opener = urllib.request.build_opener(_Stay)

    def get(self, path: str) -> Json:
        """Return the JSON object at a path."""
        return self.until_done(lambda: self._json("GET", path, None))

    def post(self, path: str, body: Mapping[str, Any]) -> Json:
        """Post an object that may be posted twice; return the reply's."""
        data = json.dumps(body).encode()
        return self.until_done(lambda: self._json("POST", path, data))

    def put(self, path: str, file: Path) -> Json:
        """Send a file."""
        return self.until_done(lambda: self._json("PUT", path, file))

    def until_done(self, do: Callable[[], _T]) -> _T:
        """Do something that may raise Lost until it does not. Raises Lost once the box was silent for too long."""
        pause_s, silent_since = FIRST_PAUSE_S, float("inf")
        while True:
            try:
                result = do()
            except Lost as error:
                if self._heard_at is None:
                    raise
                if not silent_since < float("inf") or self._heard_at > silent_since:
                    pause_s, silent_since = FIRST_PAUSE_S, self._clock()
                    self._tell(f"{error.happened}; trying again for {self._patience_s:.0f} s")
                if self._clock() - silent_since >= self._patience_s:
                    raise
                self._sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                self._heard_at = self._clock()
                return result

    def pieces(self, path: str, start: int) -> Iterator[tuple[int, bytes]]:
        """Yield a file's bytes from `start` on, or from 0 where the box begins there, each piece with its place.

        Raises Lost where the connection breaks; what was yielded stands.
        """
        extra = {"Range": f"bytes={start}-"} if start else {}
        with self._opened("GET", path, None, extra) as reply:
            at = start if reply.status == 206 else 0
            while piece := reply.read(1 << 18):
                yield at, piece
                at += len(piece)
                self._heard_at = self._clock()

    def _json(self, method: str, path: str, data: bytes | Path | None) -> Json:
        with self._opened(method, path, data, {}) as reply:
            body = reply.read(MOST_REPLY_BYTES)
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise BadReply(
                f"{self.url} sent {body[:60]!r}",
                expected="a JSON object",
                try_next="check that it is a Studium's",
            )
        return found

    @contextmanager
    def _opened(
        self, method: str, path: str, data: bytes | Path | None, extra: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        request = urllib.request.Request(self.url + path, method=method, headers=headers() | dict(extra))
        with ExitStack() as open_files:
            if isinstance(data, Path):
                request.add_header("Content-Length", str(data.stat().st_size))
                request.data = open_files.enter_context(data.open("rb"))
            else:
                request.data = data
            with self._told_apart(), self._opener.open(request, timeout=REACH_S) as reply:
                yield reply

    @contextmanager
    def _told_apart(self) -> Iterator[None]:
        """Raise what was refused as it was meant, Lost for what may be there soon."""
        try:
            yield
        except urllib.error.HTTPError as error:
            told = error.read(65536)
            if error.code in (429, 502, 503, 504) and error.headers.get("x-should-retry") != "false":
                raise self._lost(f"status {error.code}") from error
            raise refusal(error.code, told) from error
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            raise self._lost(str(getattr(error, "reason", None) or error)) from error

    def _lost(self, why: str) -> Lost:
        return Lost(
            f"no Studium answers at {self.url} ({why})",
            expected="the address of a running Studium, and a way to it",
            try_next="start it there with: studium up",
        )
