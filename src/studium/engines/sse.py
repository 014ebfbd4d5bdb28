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
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the events that `chunk` completes. Raises EventTooLong."""
        if b"\n" not in chunk:  # gathered, not searched again: a long line in many chunks costs its length
            self._rest += chunk
            self._check(len(self._rest))
            return []
        lines = (bytes(self._rest) + chunk).split(b"\n") if self._rest else chunk.split(b"\n")
        self._rest = bytearray(lines.pop())
        self._check(len(self._rest))
        return self._events(lines)

    def end(self) -> list[bytes]:
        """Return the event that was complete but for its closing blank line, if there is one."""
        last, self._rest = bytes(self._rest), bytearray()
        return self._events([last, b""])

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        for ended in lines:
            line = ended[:-1] if ended.endswith(b"\r") else ended
            if not line:
                if self._data:
                    events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                    self._data, self._data_bytes = [], 0
                continue
            if line.startswith(b"data: "):  # as nearly all servers write it
                value = line[6:]
            elif line.startswith((b"data:", b"\xef\xbb\xbfdata:")):
                value = line.partition(b":")[2].removeprefix(b" ")
            else:
                continue
            self._data.append(value)
            self._data_bytes += len(value)
            if self._data_bytes > self._max_event_bytes:
                self._check(self._data_bytes)
        return events

    def _check(self, size: int) -> None:
        if size > self._max_event_bytes:
            raise EventTooLong(f"an event of more than {self._max_event_bytes} bytes")
