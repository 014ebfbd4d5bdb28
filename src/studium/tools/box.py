"""One started sandbox, and the few that are kept for the next program.

A program in one that has started costs a twentieth of starting one (`python -m benchmarks.sandbox`). A box runs one
program at a time and none sees what another did; one whose work folder was written to is thrown away.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from selectors import EVENT_READ, DefaultSelector

from studium.tools.backends import Backend, Broken, environment
from studium.tools.outcome import Fate, Limits, Outcome
from studium.tools.walls import MEMORY_EXIT

START_S = 10.0
STOP_S = 5.0
MOST_IDLE = 2
_STOP = b"stop"
_MESSAGE_BYTES = 65536
_CHUNK_BYTES = 65536


class Box:
    """One started sandbox, for one program at a time. Raises Broken when it cannot start."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.usable = backend, True
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    backend.command(theirs.fileno()),
                    env=environment(),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except (OSError, Broken) as error:
            self._control.close()
            raise Broken(str(error)) from error
        if self._hear(START_S) != b"ready":
            raise Broken(f"did not start: {self.close()}")

    def run(self, program: str, stdin: str, limits: Limits) -> Outcome:
        """Run one program. Raises Broken when the sandbox dies, which a program cannot bring about."""
        began = time.monotonic()
        stdout, stderr = self._hand_over(program, stdin, limits)
        try:
            heard = _listen(self._control, (stdout, stderr), began, limits)
        finally:
            os.close(stdout)
            os.close(stderr)
        if heard.stopped and not heard.reply:
            heard.reply = self._stop()
        if not heard.reply:
            raise Broken(f"the sandbox is gone: {self.close()}")
        return self._outcome(json.loads(heard.reply), heard, limits, time.monotonic() - began)

    def close(self) -> str:
        """End the sandbox and whatever runs in it; returns the last it had to say."""
        self.usable = False
        self._control.close()  # who waits inside ends the program and itself
        try:
            _, said = self._process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            _, said = self._process.communicate()
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"status {self._process.returncode}"

    def _hand_over(self, program: str, stdin: str, limits: Limits) -> tuple[int, int]:
        """Send a program inside; returns where its stdout and stderr can be read."""
        inner = {"cpu_s": limits.cpu_s, "memory_bytes": limits.memory_bytes, "file_bytes": limits.file_bytes}
        out, err = os.pipe(), os.pipe()
        theirs = (_sealed(program), _sealed(stdin), out[1], err[1])
        try:
            socket.send_fds(self._control, [json.dumps(inner).encode()], theirs)
        except OSError as error:
            os.close(out[0])
            os.close(err[0])
            raise Broken(f"the sandbox is gone: {self.close()}") from error
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return out[0], err[0]

    def _stop(self) -> bytes:
        try:
            self._control.send(_STOP)
        except OSError:
            return b""
        return self._hear(STOP_S)

    def _hear(self, timeout_s: float) -> bytes:
        """Return the next message, or nothing when none comes or the other side is gone."""
        self._control.settimeout(timeout_s)
        try:
            return _received(self._control)
        finally:
            self._control.settimeout(None)

    def _outcome(self, reply: dict[str, object], heard: "_Heard", limits: Limits, wall_s: float) -> Outcome:
        if "refused" in reply:
            self.close()
            return Outcome(Fate.REFUSED, reason=str(reply["refused"]))
        self.usable = not reply["used"]
        exit_code, cpu_s = int(str(reply["exit_code"])), float(str(reply["cpu_s"]))
        stdout, stderr = (b"".join(parts).decode("utf-8", "replace") for parts in heard.parts)
        fate = heard.stopped or _fate(exit_code, cpu_s, limits)
        return Outcome(fate, stdout, stderr, exit_code, wall_s, cpu_s)


class Boxes:
    """The boxes that wait for a program. Safe between threads; after a fork the child starts with none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Box] = []
        os.register_at_fork(after_in_child=self._forget)

    @contextmanager
    def taken(self, backend: Backend) -> Iterator[Box]:
        """Lend a box, an idle one where there is one. Raises Broken.

        It is kept for the next program unless it was used up, enough wait, or the borrower was interrupted.
        """
        box = self._idle_one(backend) or Box(backend)
        try:
            yield box
        except BaseException:
            box.close()
            raise
        with self._lock:
            kept = box.usable and sum(one.backend == backend for one in self._idle) < MOST_IDLE
            if kept:
                self._idle.append(box)
        if not kept:
            box.close()

    def close(self) -> None:
        """End the boxes that wait; the next program starts a new one."""
        with self._lock:
            ended, self._idle = self._idle, []
        for box in ended:
            box.close()

    def _idle_one(self, backend: Backend) -> Box | None:
        with self._lock:
            for box in self._idle:
                if box.backend == backend:
                    self._idle.remove(box)
                    return box
        return None

    def _forget(self) -> None:
        self._lock, self._idle = threading.Lock(), []


@dataclass(slots=True)
class _Heard:
    """What came out of a program: the parts of stdout and stderr, the reply, and why it was stopped, if it was."""

    parts: tuple[list[bytes], list[bytes]]
    reply: bytes = b""
    stopped: Fate | None = None


def _listen(control: socket.socket, pipes: tuple[int, int], began: float, limits: Limits) -> _Heard:
    """Read until the program has ended and its pipes are empty, or until a limit is passed."""
    heard, left_bytes = _Heard(([], [])), limits.output_bytes
    with DefaultSelector() as waiting:
        for source in (*pipes, control):
            waiting.register(source, EVENT_READ)
        while waiting.get_map():
            left_s = 0.0 if heard.reply else max(began + limits.wall_s - time.monotonic(), 0.0)
            ready = [key.fileobj for key, _ in waiting.select(left_s)]
            if not ready:
                heard.stopped = None if heard.reply else Fate.TIME
                break
            for pipe, parts in zip(pipes, heard.parts, strict=True):
                if pipe in ready:
                    part = os.read(pipe, min(_CHUNK_BYTES, left_bytes + 1))
                    parts.append(part[:left_bytes])
                    left_bytes -= len(part)
                    if not part:
                        waiting.unregister(pipe)
                    if left_bytes < 0:
                        heard.stopped = Fate.OUTPUT
                        return heard
            if control in ready:
                waiting.unregister(control)
                heard.reply = _received(control)
                if not heard.reply:
                    break
    return heard


def _received(control: socket.socket) -> bytes:
    """Return the next message; nothing when the time is up or the other side is gone."""
    try:
        return control.recv(_MESSAGE_BYTES)
    except OSError:
        return b""


def _fate(exit_code: int, cpu_s: float, limits: Limits) -> Fate:
    killed = exit_code == -signal.SIGKILL and cpu_s >= limits.cpu_s
    if killed or exit_code == -signal.SIGXCPU:
        return Fate.TIME
    if exit_code == MEMORY_EXIT:
        return Fate.MEMORY
    return Fate.DONE if exit_code == 0 else Fate.FAILED


def _sealed(text: str) -> int:
    """Return a descriptor from which a text can be read and that nobody can write to, not even who holds it."""
    descriptor = os.memfd_create("text", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(text.encode("utf-8", "replace"))
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor
