"""Runs a command under a lease: begins it, tells it to give way, begins it again or lets it go on.

Told to leave, the command is ended and begun again later, because only what has ended has surely given its memory
back. A command that can free its memory and go on may be paused instead; what it holds then is measured.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import psutil

from studium.errors import OperatorError
from studium.fleet.borrow import Borrowed, borrow

INTERRUPTED = 130
LOOK_S = 0.05
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A paused command may keep this share of its lease, and at least so much: an interpreter and its libraries.
KEPT_SHARE = 0.1
KEPT_LEAST_BYTES = 32 * 2**20
_PR_SET_PDEATHSIG = 1


def run_leased(
    workspace: Path,
    name: str,
    command: Sequence[str],
    num_bytes: int,
    *,
    tell: Callable[[str], None],
    may_pause: bool = False,
    leave_s: float = 30.0,
    on_gpu: bool = False,
    or_main_memory: bool = False,
) -> int:
    """Run a command under a lease until it ends; return its exit status, 130 where the user ended it.

    Blocks; call it from the main thread, whose signals are passed on to the command meanwhile. `leave_s` is after how
    long a command that was told to leave is reported; `on_gpu` and `or_main_memory` as in `borrow`.
    Raises DoesNotFit, EngineTimeout, CallerError (the lease), OperatorError (the command).
    """
    under = _Command(command, may_pause, leave_s, tell)
    before = {one: signal.signal(one, under.on_signal) for one in SIGNALS}
    try:
        with borrow(
            workspace, name, num_bytes, on_gpu=on_gpu, or_main_memory=or_main_memory, tell=tell
        ) as memory:
            try:
                return under.to_its_end(memory)
            finally:
                under.end()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class _Command:
    """The command, from its beginning to its end, as often as it is begun again."""

    def __init__(
        self, command: Sequence[str], may_pause: bool, leave_s: float, tell: Callable[[str], None]
    ) -> None:
        self._command = command
        self._may_pause = may_pause
        self._leave_s = leave_s
        self._tell = tell
        self._child: subprocess.Popen[bytes] | None = None
        self._signals = 0
        self._idle = True

    def to_its_end(self, memory: Borrowed) -> int:
        """Run the command until it ends by itself or by the user; return its exit status."""
        while True:
            self._idle = False
            child = self._child = _begin(self._command, memory.gpu)
            self._tell(f"runs as process {child.pid}")
            if self._signals:  # it came while the command began
                self.end()
            gave_way = self._until_over(child, memory)
            if self._signals:
                return INTERRUPTED
            if not gave_way:
                return child.returncode if child.returncode >= 0 else 128 - child.returncode
            self._tell("has given way, and is begun again when the memory is back")
            self._wait_for(memory)

    def end(self) -> None:
        """End a command that is left."""
        child = self._child
        if child is None or child.poll() is not None:
            return
        _send(child, signal.SIGCONT)
        _send(child, signal.SIGTERM)
        try:
            child.wait(self._leave_s)
        except subprocess.TimeoutExpired:
            _send(child, signal.SIGKILL)
            child.wait()

    def _until_over(self, child: "subprocess.Popen[bytes]", memory: Borrowed) -> bool:
        """Wait for the command's end; True where it ended because it was told to give way."""
        while child.poll() is None:
            if memory.asked_to_leave and not self._signals:
                if self._may_pause and self._paused(child, memory):
                    continue
                if child.poll() is not None:
                    return False
                self._tell("somebody needs the memory: it is told to save and end")
                _send(child, signal.SIGTERM)
                self._patiently(lambda: child.poll() is not None, "has not ended")
                return True
            time.sleep(LOOK_S)
        return False

    def _paused(self, child: "subprocess.Popen[bytes]", memory: Borrowed) -> bool:
        """Have the command free its memory and stop; let it go on later. False where it ended or freed nothing."""
        self._tell("somebody needs the memory: it is told to free it and stop")
        _send(child, signal.SIGTSTP)
        self._patiently(lambda: child.poll() is not None or _is_stopped(child.pid), "has not stopped")
        if child.poll() is not None or self._signals:
            return False
        kept = _held_bytes(child.pid)
        if kept > max(KEPT_SHARE * memory.num_bytes, KEPT_LEAST_BYTES):
            self._tell(f"stopped, and still holds {kept / 2**20:,.0f} MiB, so it is not paused but ended")
            _send(child, signal.SIGCONT)
            return False
        self._tell(f"has stopped with {kept / 2**20:,.0f} MiB, and goes on when the memory is back")
        self._wait_for(memory)
        _send(child, signal.SIGCONT)
        self._tell("goes on")
        return True

    def _wait_for(self, memory: Borrowed) -> None:
        self._idle = True
        memory.pause()
        self._idle = False

    def _patiently(self, done: Callable[[], bool], what: str) -> None:
        """Wait for as long as the command takes, and report one that takes long."""
        began = reported = time.monotonic()
        while not done():
            now = time.monotonic()
            if now - reported >= self._leave_s:
                reported = now
                self._tell(f"{what} {now - began:.0f} s after it was told to; questions wait for it")
            time.sleep(LOOK_S)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on to the command, the second one as the end of it; while it does not run, end ourselves."""
        self._signals += 1
        if self._idle:
            raise KeyboardInterrupt
        if self._child is not None:
            _send(self._child, signal.Signals(number) if self._signals == 1 else signal.SIGKILL)


def _begin(command: Sequence[str], gpu: int | None) -> "subprocess.Popen[bytes]":
    """Start the command in a process group of its own, so that whatever it starts hears of its end.

    On a GPU that was lent it sees that one alone.
    """
    lent = {} if gpu is None else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(gpu)}
    try:
        return subprocess.Popen(
            command,
            env=os.environ | lent,
            process_group=0,
            preexec_fn=ending_with_parent(),  # noqa: PLW1509
        )
    except OSError as error:
        raise OperatorError(
            f"{command[0]!r} cannot be run: {error.strerror or error}",
            expected="a command of this machine after --",
            try_next="studium lease sft --memory 2GiB -- python train.py",
        ) from error


def ending_with_parent() -> Callable[[], None]:
    """Return what a process is to do before its program begins, to be told to end (SIGTERM) when its parent ends."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def ask_for_it() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask_for_it


def _send(child: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    if child.poll() is None:
        os.killpg(child.pid, number)


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def _held_bytes(pid: int) -> int:
    """Return what a process and those it started hold that is not shared with files."""
    held = 0
    try:
        for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            memory = one.memory_info()
            held += max(0, memory.rss - getattr(memory, "shared", 0))
    except psutil.Error:
        return held
    return held
