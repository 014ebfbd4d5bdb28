"""Server-sent events, decoded as the bytes arrive.

Only what streaming model servers use: `data:` lines, comments, blank lines between events. Events come
out as bytes, so a character or a line split between two reads is never seen in half. What an event means
is left to the caller. Source: the WHATWG HTML standard, section "Server-sent events".
"""

MAX_EVENT_BYTES = 4 * 1024 * 1024


class EventTooLong(ValueError):
    """A line or an event is longer than `MAX_EVENT_BYTES`; the server cannot be trusted further."""


class SseDecoder:
    """Turns chunks of bytes into the data of whole events, in order."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = bytearray()
        self._searched = 0
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the events that `chunk` completes. Raises EventTooLong."""
        self._rest += chunk
        events: list[bytes] = []
        start = 0
        while (end := self._rest.find(b"\n", max(start, self._searched))) >= 0:
            self._line(bytes(self._rest[start:end]).removesuffix(b"\r"), events)
            start = end + 1
        del self._rest[:start]
        # The next search need not look again at what holds no line end: a long line in many small
        # chunks would cost the square of its length.
        self._searched = len(self._rest)
        self._check(self._searched)
        return events

    def end(self) -> list[bytes]:
        """Return the event that was complete but for its closing blank line, if there is one."""
        events: list[bytes] = []
        self._line(bytes(self._rest), events)
        self._line(b"", events)
        self._rest.clear()
        self._searched = 0
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data, self._data_bytes = [], 0
            return
        name, _, value = line.partition(b":")
        if name in (b"data", b"\xef\xbb\xbfdata"):
            self._data.append(value.removeprefix(b" "))
            self._data_bytes += len(value)
            self._check(self._data_bytes)

    def _check(self, size: int) -> None:
        if size > self._max_event_bytes:
            raise EventTooLong(f"an event of more than {self._max_event_bytes} bytes")
