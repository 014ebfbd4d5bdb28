"""What lies where in a channel's file, so that a reader in any language finds it. Little-endian throughout.

    offset  bytes  header
         0      8  magic "STUDINT1"
         8      4  version, 1
        12      4  size of a slot, 5184
        16      8  COUNT: frames published so far; the newest has this sequence number
        24      8  state: 1 in use, 2 removed (open the file anew)
        32     16  boot id of the machine the times below belong to, zeros where there is none
        64         four slots; the frame with sequence n is in slot n mod 4

    offset  bytes  slot
         0      8  sequence
         8      8  when it was published, nanoseconds of CLOCK_MONOTONIC
        16      8  when what it answers was observed, the same clock; 0: it answers nothing
        24      8  float64 horizon, seconds after the observation
        32      8  float64 blend, seconds that the transition to it should take
        40      8  float64 confidence 0 to 1, NaN: unknown
        48      4  flags: 1 the text is JSON, 2 there is no intent yet
        52      4  bytes of the text, at most 4096
        56      4  bytes of the fallback, at most 1024
        60      4  CRC-32 (zlib) of the 60 bytes before and of the text and fallback
        64         the text in UTF-8, then the fallback

To read: load COUNT, copy the slot, check that its sequence is COUNT and its sum is right, else begin again. A writer
fills the slot after the newest and only then raises COUNT, so a reader is disturbed only by three more frames being
published while it copies, and one killed at its work leaves what was there. It is a sequence lock (Lamport 1977,
"Concurrent Reading and Writing") over a ring; the sum makes it independent of the processor's order of stores.
"""

import math
import re
import struct
import zlib
from dataclasses import dataclass, replace

from studium.errors import BadRequest

MAGIC = b"STUDINT1"
VERSION = 1
SLOTS = 4
MOST_TEXT_BYTES = 4096
MOST_FALLBACK_BYTES = 1024
LIVE, REMOVED = 1, 2

HEADER = struct.Struct("<8sIIQQ16s")
COUNT = struct.Struct("<Q")
COUNT_AND_STATE = struct.Struct("<QQ")
COUNT_AT, STATE_AT, BOOT_AT, BOOT_BYTES = 16, 24, 32, 16
HEADER_BYTES = 64
_SLOT = struct.Struct("<QQQdddIII")
_SUM = struct.Struct("<I")
SLOT_HEAD_BYTES = _SLOT.size + _SUM.size
SLOT_BYTES = SLOT_HEAD_BYTES + MOST_TEXT_BYTES + MOST_FALLBACK_BYTES
FILE_BYTES = HEADER_BYTES + SLOTS * SLOT_BYTES
_JSON, _EMPTY = 1, 2

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Frame:
    """One thing published: an intent, or an observation. Times as in the file (see above)."""

    text: str
    sequence: int = 0
    written_ns: int = 0
    observed_ns: int = 0
    horizon_s: float = 0.0
    blend_s: float = 0.0
    confidence: float | None = None
    fallback: str = ""
    is_json: bool = False
    empty: bool = False


def checked_name(name: str) -> str:
    """Return a channel's name, which becomes a file's. Raises BadRequest for any other text."""
    if NAME.fullmatch(name):
        return name
    raise BadRequest(
        f"{name[:80]!r} cannot name a channel",
        expected="a-z, 0-9, '.', '_', '-', at most 64 characters, the first a letter or digit",
    )


def checked_text(text: str, what: str, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """Return a text that fits a slot. Raises BadRequest where it is longer or no Unicode."""
    try:
        length = len(text.encode())
    except UnicodeEncodeError as error:
        raise BadRequest(f"the {what} is not valid Unicode: {error.reason}", expected="UTF-8 text") from error
    if length > most_bytes:
        raise BadRequest(
            f"the {what} has {length:,} bytes", expected=f"at most {most_bytes:,} bytes in UTF-8"
        )
    return text


def slot_at(sequence: int) -> int:
    """Return where the slot of a frame begins."""
    return HEADER_BYTES + (sequence % SLOTS) * SLOT_BYTES


def pack(frame: Frame) -> bytes:
    """Return a slot's used bytes. Raises BadRequest where a text is too long."""
    text = checked_text(frame.text, "text").encode()
    fallback = checked_text(frame.fallback, "fallback", MOST_FALLBACK_BYTES).encode()
    head = _SLOT.pack(
        frame.sequence,
        frame.written_ns,
        frame.observed_ns,
        frame.horizon_s,
        frame.blend_s,
        math.nan if frame.confidence is None else frame.confidence,
        _JSON * frame.is_json | _EMPTY * frame.empty,
        len(text),
        len(fallback),
    )
    return b"".join((head, _SUM.pack(_sum(head, text + fallback)), text, fallback))


def unpack(slot: bytes, sequence: int) -> Frame | None:
    """Return the frame of that sequence in a copied slot; None where it is another, half written, or damaged."""
    head = slot[: _SLOT.size]
    found, written, observed, horizon_s, blend_s, confidence, flags, text, fallback = _SLOT.unpack(head)
    if found != sequence or text > MOST_TEXT_BYTES or fallback > MOST_FALLBACK_BYTES:
        return None
    body = slot[SLOT_HEAD_BYTES : SLOT_HEAD_BYTES + text + fallback]
    if _SUM.unpack_from(slot, _SLOT.size)[0] != _sum(head, body):
        return None
    return Frame(
        body[:text].decode(errors="replace"),
        sequence,
        written,
        observed,
        horizon_s,
        blend_s,
        None if math.isnan(confidence) else confidence,
        body[text:].decode(errors="replace"),
        is_json=bool(flags & _JSON),
        empty=bool(flags & _EMPTY),
    )


def numbered(frame: Frame, sequence: int, written_ns: int) -> Frame:
    """Return the frame as it is published."""
    return replace(frame, sequence=sequence, written_ns=written_ns)


def _sum(head: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(head))
