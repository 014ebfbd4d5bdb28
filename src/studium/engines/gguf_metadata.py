"""What a GGUF file says about itself, read without loading a weight.

The file is not trusted: every count and length is held against the bytes that are really there before
anything is read or kept, so a header that claims the moon costs nothing. Vocabularies are stepped over.
Source of the layout: ggml's docs/gguf.md, versions 2 and 3, little-endian.
"""

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAX_NAME_BYTES = 65_535
MAX_KEPT_BYTES = 1024 * 1024
MAX_KEPT_ITEMS = 4096
MAX_DIMENSIONS = 4
MAX_TENSORS = 100_000
MAX_ENTRIES = 10_000
MAX_TEXTS = 4_194_304
"""Of all arrays together; the largest vocabularies have a quarter of a million."""
MAX_KEPT_IN_ALL_BYTES = 16 * 1024 * 1024
_MAX_ALIGNMENT = 65_536

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# ggml type: (weights in a block, bytes of a block). A type that is not here is not measured.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 30: (1, 2)}
BLOCKS |= {10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210)}

# general.file_type, as llama.cpp numbers its mixtures (llama.h, llama_ftype).
FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    32: "BF16",
}  # fmt: skip
_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 30: "BF16",
}  # fmt: skip


class BrokenGguf(ValueError):
    """The file is no GGUF file, or not a whole one; the text says where it goes wrong."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An array too long, or a text too large, to be kept; `length` is its items or bytes."""

    length: int


Value = int | float | bool | str | tuple[int | float | bool, ...] | LeftOut


class ListedTensor(NamedTuple):
    """A tensor as a header lists it: `kind` is ggml's number of how it is stored, `offset` counts from the first."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A header: its metadata, how many tensors it lists, and where their bytes begin and should end.

    `weights_by_type` counts weights by ggml's number of how they are stored.
    """

    metadata: Mapping[str, Value]
    tensors: int
    data_offset: int
    file_bytes: int
    weights_by_type: Mapping[int, int] = field(default_factory=dict[int, int])
    listed: tuple[ListedTensor, ...] = ()

    @property
    def quantisation(self) -> str:
        """How the weights are stored: as the file says, else as most of them are; empty where unknown."""
        return quantisation_name(self.metadata.get("general.file_type")) or self._most_used_type()

    def _most_used_type(self) -> str:
        most = max(self.weights_by_type, key=lambda kind: self.weights_by_type[kind], default=-1)
        return _TYPES.get(most, "")

    @property
    def data_bytes(self) -> int:
        return self.file_bytes - self.data_offset


def quantisation_name(file_type: object) -> str:
    """Return the name of a `general.file_type`, empty for one that is not known here."""
    return FILE_TYPES.get(file_type, "") if isinstance(file_type, int) else ""


def read_gguf(path: Path) -> GgufHeader:
    """Read the header of a GGUF file. Blocks on the disk. Raises BrokenGguf, or OSError."""
    with path.open("rb") as file:
        return _Reader(file, path.stat().st_size).header()


class _Reader:
    def __init__(self, file: BinaryIO, file_bytes: int) -> None:
        self._file = file
        self._file_bytes = file_bytes
        self._left = file_bytes
        self._weights = Counter[int]()
        self._listed: list[ListedTensor] = []
        self._texts = 0
        self._kept_bytes = 0

    def header(self) -> GgufHeader:
        if self._bytes(4, "the magic number") != b"GGUF":
            raise BrokenGguf("does not begin with GGUF")
        version = self._number("I")
        if version not in (2, 3):
            raise BrokenGguf(f"GGUF version {version}, not 2 or 3")
        num_tensors, num_entries = int(self._number("Q")), int(self._number("Q"))
        self._fits(num_entries, 13, "metadata entries", MAX_ENTRIES)
        metadata = {self._name(): self._value(int(self._number("I"))) for _ in range(num_entries)}
        if len(metadata) != num_entries:
            raise BrokenGguf("names a metadata entry twice")
        self._fits(num_tensors, 24, "tensors", MAX_TENSORS)
        data_end = max((self._tensor() for _ in range(num_tensors)), default=0)
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= _MAX_ALIGNMENT:
            raise BrokenGguf(f"an alignment of {alignment}")
        data_offset = -(-(self._file_bytes - self._left) // alignment) * alignment
        if num_tensors and data_offset + data_end > self._file_bytes:
            raise BrokenGguf(
                f"is cut short: {self._file_bytes:,} bytes, its tensors end at {data_offset + data_end:,}"
            )
        return GgufHeader(
            metadata,
            num_tensors,
            min(data_offset, self._file_bytes),
            self._file_bytes,
            dict(self._weights),
            tuple(self._listed),
        )

    def _tensor(self) -> int:
        """Step over one tensor's description; return where its bytes end, counted from the first tensor."""
        name = self._name()
        num_dimensions = int(self._number("I"))
        if num_dimensions > MAX_DIMENSIONS:
            raise BrokenGguf(f"tensor {name!r} has {num_dimensions} dimensions")
        shape = tuple(int(self._number("Q")) for _ in range(num_dimensions))
        num_weights = prod(shape)
        kind, offset = int(self._number("I")), int(self._number("Q"))
        self._listed.append(ListedTensor(name, shape, kind, offset))
        self._weights[kind] += num_weights
        block_weights, block_bytes = BLOCKS.get(kind, (1, 0))
        return offset + num_weights // block_weights * block_bytes

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array()
        return self._number(_scalar(kind))

    def _array(self) -> Value:
        kind, length = int(self._number("I")), int(self._number("Q"))
        if kind == _STRING:
            self._texts += length
            self._fits(length, 8, "texts in an array")
            self._fits(self._texts, 0, "texts in arrays", MAX_TEXTS)
            for _ in range(length):
                self._skip(int(self._number("Q")))
            return LeftOut(length)
        code = _scalar(kind)  # arrays of arrays are allowed by the format and used by nobody
        item_bytes = struct.calcsize("<" + code)
        self._fits(length, item_bytes, "items in an array")
        if length > MAX_KEPT_ITEMS:
            self._skip(length * item_bytes)
            return LeftOut(length)
        return struct.unpack(f"<{length}{code}", self._bytes(length * item_bytes, "an array"))

    def _text(self) -> str | LeftOut:
        length = int(self._number("Q"))
        self._kept_bytes += length
        if length > MAX_KEPT_BYTES or self._kept_bytes > MAX_KEPT_IN_ALL_BYTES:
            self._skip(length)
            return LeftOut(length)
        return self._bytes(length, "a text").decode(errors="replace")

    def _name(self) -> str:
        length = int(self._number("Q"))
        if length > MAX_NAME_BYTES:
            raise BrokenGguf(f"a name of {length:,} bytes")
        return self._bytes(length, "a name").decode(errors="replace")

    def _number(self, code: str) -> int | float | bool:
        size = struct.calcsize("<" + code)
        return struct.unpack("<" + code, self._bytes(size, "a number"))[0]

    def _fits(self, count: int, least_bytes: int, what: str, most: int | None = None) -> None:
        if count * least_bytes > self._left:
            raise BrokenGguf(f"claims {count:,} {what}; only {self._left:,} bytes follow")
        if most is not None and count > most:
            raise BrokenGguf(f"claims {count:,} {what}; at most {most:,} are read")

    def _skip(self, size: int) -> None:
        while size:
            step = min(size, MAX_KEPT_BYTES)
            self._bytes(step, "what it announces")
            size -= step

    def _bytes(self, size: int, what: str) -> bytes:
        if size > self._left:
            raise BrokenGguf(f"ends within {what} ({self._file_bytes:,} bytes)")
        taken = self._file.read(size)
        if len(taken) != size:
            raise BrokenGguf(f"ended early within {what}; it changes while it is read")
        self._left -= size
        return taken


def _scalar(kind: int) -> str:
    if kind not in _SCALARS:
        raise BrokenGguf(f"an unknown value type {kind}")
    return _SCALARS[kind]
