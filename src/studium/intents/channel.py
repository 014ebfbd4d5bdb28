"""The caller's side of a channel: read the intent at frame rate, tell what is observed.

Imports nothing of the server, and starts nothing. One `Channel` belongs to one thread.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from studium.errors import BadRequest, StudiumError
from studium.intents.layout import COUNT_AND_STATE, COUNT_AT, REMOVED, Frame, checked_name, checked_text
from studium.intents.moment import NS, Intent, View, seen, view_of
from studium.intents.ring import Ring, claimed, opened

FOLDER = "intents"
LOOK_AGAIN_NS = NS // 2
"""How often a reader of a removed channel looks whether there is a new one of its name."""


def intent_file(workspace: Path, name: str) -> Path:
    """Return where a channel's intents lie. Raises BadRequest for a name that is no file's."""
    return workspace / FOLDER / f"{checked_name(name)}.intent"


def observation_file(workspace: Path, name: str) -> Path:
    """Return where a channel's observations lie. Raises BadRequest for a name that is no file's."""
    return workspace / FOLDER / f"{checked_name(name)}.observation"


class Channel:
    """One channel of a workspace, mapped into memory. From `open_channel`."""

    def __init__(self, workspace: Path, name: str) -> None:
        self.name = name
        self._workspace = workspace
        self._ring = _opened(workspace, name)
        self._observations: Ring | None = None
        self._claim = ExitStack()
        self._count = -1
        self._view = View(Frame("", empty=True))
        self._removed = False
        self._looked_ns = 0
        self.read()  # what the first read has to do is done before the caller's first frame

    def read(self) -> Intent:
        """Return the intent as it is now. Takes no lock and makes no system call; never raises once opened."""
        count, state = COUNT_AND_STATE.unpack_from(self._ring.map, COUNT_AT)
        now_ns = time.monotonic_ns()
        if count != self._count or state == REMOVED:
            self._look(state == REMOVED, now_ns)
        return seen(self._view, now_ns, removed=self._removed)

    def observe(self, text: str) -> None:
        """Tell the server what is the case now; only the newest counts. Microseconds after the first time.

        One process observes a channel; others use the server's address. Raises BadRequest (too long, or the channel is
        no more), OperatorError (another process observes it).
        """
        checked_text(text, "observation")
        if self._observations is None or self._observations.is_retired:
            self._observations = self._claimed_observations()
        self._observations.publish(Frame(text, observed_ns=time.monotonic_ns()))

    def close(self) -> None:
        """Let go of the files."""
        self._claim.close()
        self._ring.close()

    def _look(self, removed: bool, now_ns: int) -> None:
        """Take in what is new. Leaves everything as it was where nothing whole can be read."""
        if removed and now_ns - self._looked_ns >= LOOK_AGAIN_NS:
            self._looked_ns = now_ns
            removed = not self._reopened()
        self._removed = removed
        frame = self._ring.newest()
        if frame is None or frame.sequence == self._count:
            return
        if not self._ring.is_of_this_boot():
            frame = Frame("", frame.sequence, fallback=frame.fallback, is_json=frame.is_json, empty=True)
        before = seen(self._view, now_ns) if self._count >= 0 else None
        if before is None and (earlier := self._ring.frame(frame.sequence - 1)) is not None:
            before = seen(view_of(earlier, None), frame.written_ns)
        self._view, self._count = view_of(frame, before), frame.sequence

    def _claimed_observations(self) -> Ring:
        self._observations = None
        self._claim.close()
        path = observation_file(self._workspace, self.name)
        with _explained(self._workspace, self.name), ExitStack() as stack:
            ring = opened(path, writable=True)
            stack.callback(ring.close)
            stack.enter_context(claimed(path, f"observations of {self.name}"))
            self._claim = stack.pop_all()
        return ring

    def _reopened(self) -> bool:
        """Take up a new channel of the same name, where there is one."""
        with suppress(StudiumError):
            ring = _opened(self._workspace, self.name)
            if ring.is_retired:  # its server was killed while it removed the channel
                ring.close()
                return False
            self._ring.close()
            self._ring, self._count = ring, -1
            return True
        return False


@contextmanager
def open_channel(workspace: Path | str, name: str) -> Iterator[Channel]:
    """Open a channel of a workspace until the block ends.

    The server may be running or not. Raises BadRequest (no such name, or nobody created it), OperatorError.
    """
    channel = Channel(Path(workspace).expanduser(), checked_name(name))
    try:
        yield channel
    finally:
        channel.close()


def _opened(workspace: Path, name: str) -> Ring:
    with _explained(workspace, name):
        return opened(intent_file(workspace, name))


@contextmanager
def _explained(workspace: Path, name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise BadRequest(
            f"there is no channel {name!r} in {workspace}",
            expected="a channel that a server of this workspace was asked to keep",
            try_next=f"studium intents create {name}",
        ) from error
