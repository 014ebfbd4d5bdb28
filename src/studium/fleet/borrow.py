"""Borrowing memory from the Studium that serves a workspace, for a program of its own such as a training run.

    with borrow(workspace, "sft", 2 << 30) as memory:
        for step in steps:
            if memory.asked_to_leave:
                save_and_free()
                memory.pause()  # returns when the memory is there again

Blocking, and without anything beyond the standard library. A thread listens to `POST /api/leases`
(`web.leases_api`); the memory is the borrower's while the connection lasts, so it ends with the process, also by
kill -9. Where no Studium serves the workspace all of its memory is the borrower's; one that starts later is asked
as soon as it is seen, and until it grants the memory the borrower is asked to leave.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from studium.config.running import headers, may_be_busy, refusal, running_server, told_error
from studium.errors import EngineTimeout, StudiumError

Json = dict[str, Any]
# A server that is there gives a sign of life every few seconds (`leases_api.LONGEST_BEAT_S`).
SILENCE_S = 30.0
LOOK_FOR_SERVER_S = 2.0
# A server whose process lives and that does not answer for so long is not there.
BUSY_S = 60.0
# A wait that is shorter is not worth a word.
TELL_AFTER_S = 1.0
GAVE_WAY = "it gave way to a question"
LONGEST_WAIT_S = 7 * 86_400.0


class Borrowed:
    """Memory that is borrowed, from `borrow`. Its methods are for one thread, `asked_to_leave` for any.

    `gpu` is the GPU it is on, by NVML's number; None in main memory, and where nobody lends it.
    """

    def __init__(self, workspace: Path, wanted: Json, *, wait_s: float, tell: Callable[[str], None]) -> None:
        self._workspace = workspace
        self._wanted = wanted
        self._wait_s = wait_s
        self._tell = tell
        self._changed = threading.Condition()
        self._lent = self._alone = self._holding = self._leave = self._ended = False
        self._error: StudiumError | None = None
        self._url: str | None = None
        self._key = ""
        self._why = GAVE_WAY
        self.gpu: int | None = None
        self._connection: HTTPConnection | None = None
        self._thread = threading.Thread(target=self._keep_in_touch, name="lease", daemon=True)

    @property
    def name(self) -> str:
        return str(self._wanted["name"])

    @property
    def num_bytes(self) -> int:
        return int(self._wanted["memory"])

    @property
    def served(self) -> bool:
        """Whether a Studium lends the memory; else nobody else in the workspace wants any."""
        return self._url is not None

    @property
    def asked_to_leave(self) -> bool:
        """Whether somebody more urgent needs the memory: save, free it, and call `pause`."""
        return self._leave

    def pause(self) -> None:
        """Say that the memory is free, and wait until it is there again. Nothing of it may be in use meanwhile.

        Returns at once where nobody asked for it and no Studium is there. Raises EngineTimeout when it is not there
        again within the limit, and what else the server refuses.
        """
        with self._changed:
            url, key, lent = self._url, self._key, self._lent
            self._lent = self._holding = self._leave = False
        if url is not None and lent:
            try:
                _post(url, f"/api/leases/{quote(self.name)}/pause", {"lease": key})
            except (OSError, HTTPException, StudiumError):
                self._hang_up()  # to end the lease gives the memory back as well; it is asked for anew
        self._wait()

    def _open(self) -> None:
        self._thread.start()
        self._wait()

    def _close(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._hang_up()
        self._thread.join(SILENCE_S)

    def _hang_up(self) -> None:
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _wait(self) -> None:
        with self._changed:
            there = self._changed.wait_for(self._is_settled, min(TELL_AFTER_S, self._wait_s))
            if not there:
                self._tell(f"waits for its memory; {self._why}")
                there = self._changed.wait_for(self._is_settled, self._wait_s - TELL_AFTER_S)
            if self._error is not None:
                raise self._error
            self._holding = there
        if not there:
            raise EngineTimeout(
                f"the lease {self.name} got no memory within {self._wait_s:g} s",
                expected="memory within the limit",
                try_next="see who holds it: GET /api/leases, or studium doctor",
            )

    def _is_settled(self) -> bool:
        return self._lent or self._alone or self._error is not None

    # --- in the thread ---------------------------------------------------------------------------

    def _keep_in_touch(self) -> None:
        """Find the Studium of the workspace, hold the lease with it, and look for the next when it is gone."""
        heard_of = time.monotonic()
        while not self._ended:
            url = running_server(self._workspace)
            if url is None:
                if time.monotonic() - heard_of > BUSY_S or not may_be_busy(self._workspace):
                    self._be_alone()
            else:
                heard_of = time.monotonic()
                try:
                    self._listen(url)
                except StudiumError as error:
                    self._fail(error)
                    return
                except (OSError, HTTPException, ValueError):
                    heard_of = time.monotonic()
                    if not self._ended:
                        self._tell(f"the Studium at {url} does not answer any more")
            with self._changed:
                self._url, self._lent = None, False
                self._changed.wait_for(lambda: self._ended, LOOK_FOR_SERVER_S)

    def _be_alone(self) -> None:
        with self._changed:
            if not self._alone:
                self._tell(f"no Studium serves {self._workspace}: its memory is all there")
            self._alone, self._leave = True, False
            self._changed.notify_all()

    def _listen(self, url: str) -> None:
        connection = _connect(url)
        with self._changed:
            self._url, self._connection = url, connection
        try:
            connection.request("POST", "/api/leases", json.dumps(self._wanted), headers())
            response = connection.getresponse()
            if response.status == 409 and self._key:
                return  # our own lease of before, whose end has not come through yet
            if response.getheader("Retry-After"):
                self._tell(str(refusal(response.status, response.read(65536))))
                return
            if response.status != 200:
                raise refusal(response.status, response.read(65536))
            while not self._ended and (line := response.readline()):
                self._hear(json.loads(line))
        finally:
            connection.close()

    def _hear(self, event: Any) -> None:
        """Take in one line. Raises the error it tells, ValueError for one that is none of ours."""
        if not isinstance(event, dict):
            raise ValueError("a line that is no JSON object")
        kind = event.get("kind")
        if kind == "error":
            raise told_error(event)
        with self._changed:
            self._key = str(event.get("lease") or self._key)
            if kind == "granted":
                self._lent, self._leave = True, False
                self.gpu = event.get("gpu")
            elif kind == "leave" or (kind == "alive" and self._holding and not self._lent):
                self._leave = True  # the latter: a Studium that came later and has no room for us yet
            if kind in ("waiting", "granted"):
                self._alone = False
            if kind == "waiting":
                self._why = str(event.get("in_the_way") or GAVE_WAY)
            self._changed.notify_all()
        if kind == "closing":
            self._tell(str(event.get("text", "the lease has ended")))

    def _fail(self, error: StudiumError) -> None:
        with self._changed:
            self._error, self._leave = error, True
            self._changed.notify_all()


@contextmanager
def borrow(
    workspace: Path,
    name: str,
    num_bytes: int,
    *,
    on_gpu: bool = False,
    or_main_memory: bool = False,
    wait_s: float = LONGEST_WAIT_S,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[Borrowed]:
    """Hold `num_bytes` of the memory that the workspace's Studium lends, until the block ends.

    Blocks until it is there, at most `wait_s`, as each `pause` does. `tell` is given lines for people, from a
    thread. `on_gpu`: of a GPU's memory; `or_main_memory`: of main memory where the Studium lends none of a GPU's.
    Raises EngineTimeout, DoesNotFit, CallerError (a name in use, or that is none).
    """
    wanted = {
        "name": name,
        "memory": num_bytes,
        "priority": "training",
        "on_gpu": on_gpu,
        "or_main_memory": or_main_memory,
        "timeout_s": wait_s,
    }
    borrowed = Borrowed(workspace, wanted, wait_s=wait_s, tell=tell)
    try:
        borrowed._open()
        yield borrowed
    finally:
        borrowed._close()


def _connect(url: str) -> HTTPConnection:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname or "127.0.0.1", parts.port, timeout=SILENCE_S)


def _post(url: str, path: str, body: Json) -> None:
    connection = _connect(url)
    try:
        connection.request("POST", path, json.dumps(body), headers())
        response = connection.getresponse()
        if response.status != 200:
            raise refusal(response.status, response.read(65536))
    finally:
        connection.close()
