"""What a file of weights says of itself, checked by us before any library opens it.

Nothing here is trusted: every length is held against the file and against a limit first, so that no file costs more
than its own header. Sources: the safetensors format (huggingface.co/docs/safetensors, "Format"), ggml's docs/gguf.md.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from studium.engines.gguf_metadata import BLOCKS, BrokenGguf, GgufHeader, read_gguf
from studium.errors import BadRequest

MAX_HEADER_BYTES = 8 * 1024 * 1024
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 8
_MAX_SIZE = 2**48
_NO_TEXT = "\N{REPLACEMENT CHARACTER}"
_DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4,
    "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8,
}  # fmt: skip


class Tensor(NamedTuple):
    """One tensor of a safetensors file: its shape, and where its bytes are, counted from the first tensor's."""

    shape: tuple[int, ...]
    begin: int
    end: int


class _Broken(ValueError):
    """The text says where a file goes wrong."""


def check_safetensors(path: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a safetensors file by name. Reads the header alone. Raises BadRequest."""
    try:
        return _safetensors(path)
    except _Broken as error:
        raise _refused(path, "safetensors", str(error)) from error


def check_gguf(path: Path) -> GgufHeader:
    """Return the header of a GGUF file. Raises BadRequest where any tensor of it is not wholly inside the file."""
    try:
        header = read_gguf(path)
        _gguf_tensors(header)
        return header
    except (BrokenGguf, _Broken) as error:
        raise _refused(path, "GGUF", str(error)) from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if file_bytes < 8 or size > file_bytes - 8 or size > MAX_HEADER_BYTES:
            raise _Broken(f"claims a header of {size:,} bytes; {max(0, file_bytes - 8):,} follow")
        text = file.read(size)
    data_bytes = file_bytes - 8 - size
    header = _json_object(text)
    _check_metadata(header.pop("__metadata__", {}))
    if len(header) > MAX_TENSORS:
        raise _Broken(f"lists {len(header):,} tensors, more than {MAX_TENSORS:,}")
    tensors = {name: _tensor(name, entry) for name, entry in header.items()}
    reached = 0
    for name, tensor in sorted(tensors.items(), key=lambda one: (one[1].begin, one[1].end)):
        if tensor.begin != reached:
            raise _Broken(
                f"tensor {name[:80]!r} begins at {tensor.begin:,}, the one before ends at {reached:,}"
            )
        reached = tensor.end
    if reached != data_bytes:
        raise _Broken(f"its tensors end at {reached:,}, its data at {data_bytes:,}")
    return tensors


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        # A name that stands there twice would mean one thing to us and another to the next reader.
        value = json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _Broken(f"its header is no JSON: {str(error)[:120]}") from error
    if not isinstance(value, dict):
        raise _Broken("its header is no JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Broken("its header names something twice")
    return found


def _no_constant(name: str) -> float:
    raise _Broken(f"its header holds {name}")


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _Broken("its __metadata__ is not a map of texts")


def _tensor(name: str, entry: object) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _Broken(f"tensor {name[:80]!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPE_BYTES:
        raise _Broken(f"tensor {name[:80]!r} has the unknown dtype {str(dtype)[:40]!r}")
    if not _sizes(shape) or len(shape) > MAX_DIMENSIONS or not _sizes(offsets) or len(offsets) != 2:
        raise _Broken(f"tensor {name[:80]!r} has a shape or offsets that are no sizes")
    begin, end = offsets
    if end - begin != math.prod(shape) * _DTYPE_BYTES[dtype]:
        raise _Broken(f"tensor {name[:80]!r} has {end - begin:,} bytes, its shape asks for others")
    return Tensor(tuple(shape), begin, end)


def _sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(one) is int and 0 <= one <= _MAX_SIZE for one in values)


def _gguf_tensors(header: GgufHeader) -> None:
    alignment = header.metadata.get("general.alignment", 32)
    reached, names = 0, set[str]()
    if unread := next((one for one in header.metadata if _NO_TEXT in one), None):
        raise _Broken(f"its entry {unread[:80]!r} is not named in UTF-8")
    for tensor in sorted(header.listed, key=lambda one: one.offset):
        if tensor.kind not in BLOCKS:
            raise _Broken(f"tensor {tensor.name[:80]!r} is stored in the unknown way {tensor.kind}")
        block_weights, block_bytes = BLOCKS[tensor.kind]
        weights = math.prod(tensor.shape)
        if not tensor.shape or not 0 < weights <= _MAX_SIZE or tensor.shape[0] % block_weights:
            raise _Broken(f"tensor {tensor.name[:80]!r} has the impossible shape {tensor.shape}")
        if tensor.name in names or _NO_TEXT in tensor.name:
            raise _Broken(f"tensor {tensor.name[:80]!r} is listed twice, or not named in UTF-8")
        if tensor.offset < reached or tensor.offset % int(alignment):  # pyright: ignore[reportArgumentType]
            raise _Broken(
                f"tensor {tensor.name[:80]!r} begins at {tensor.offset:,}, within another or between"
            )
        names.add(tensor.name)
        reached = tensor.offset + weights // block_weights * block_bytes
    if header.data_offset + reached > header.file_bytes:
        raise _Broken(f"its tensors end at {header.data_offset + reached:,} of {header.file_bytes:,} bytes")


def _refused(path: Path, kind: str, what: str) -> BadRequest:
    return BadRequest(
        f"{path.name} is no sound {kind} file: {what}",
        expected=f"a whole {kind} file as its writer left it",
        try_next="write or copy it again; it was not opened further",
    )
