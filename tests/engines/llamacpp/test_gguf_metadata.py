"""The GGUF header reader: what it reads, and that no file whatever makes it crash or swallow memory."""

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fixtures.tiny_gguf import Shape, write_model

from studium.engines.gguf_metadata import BrokenGguf, LeftOut, read_gguf

SMALL = Shape(width=32, layers=1, heads=2, kv_heads=1, feed_forward=32)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("gguf") / "small.gguf", SMALL)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(*, tensors: int = 0, entries: int = 0, body: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + body


def read_bytes(folder: Path, content: bytes) -> None:
    path = folder / "some.gguf"
    path.write_bytes(content)
    read_gguf(path)


def test_the_header_of_a_model_is_read_and_its_vocabulary_stepped_over(small: Path) -> None:
    found = read_gguf(small)
    assert found.metadata["general.architecture"] == "llama"
    assert found.metadata["llama.block_count"] == SMALL.layers
    assert found.metadata["tokenizer.ggml.tokens"] == LeftOut(259)
    assert found.tensors == 11
    assert found.file_bytes == small.stat().st_size
    num_weights = 259 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 32 + 3 * 32
    assert found.data_bytes == num_weights * 4


@pytest.mark.parametrize("missing_bytes", [1, 1000, 30_000])
def test_a_file_cut_short_is_told_from_a_whole_one(small: Path, tmp_path: Path, missing_bytes: int) -> None:
    with pytest.raises(BrokenGguf, match="cut short|ends within|claims"):
        read_bytes(tmp_path, small.read_bytes()[:-missing_bytes])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"GG", id="half a magic number"),
        pytest.param(b"PK\x03\x04" + bytes(100), id="another format"),
        pytest.param(header(version=1), id="version 1"),
        pytest.param(header(version=3 << 24), id="big-endian"),
        pytest.param(header(entries=2**63), id="more entries than bytes"),
        pytest.param(header(tensors=2**63), id="more tensors than bytes"),
        pytest.param(header(entries=1, body=struct.pack("<Q", 2**62) + bytes(40)), id="endless name"),
        pytest.param(header(entries=1, body=text(b"a") + struct.pack("<IQ", 8, 2**62)), id="endless text"),
        pytest.param(
            header(entries=1, body=text(b"a") + struct.pack("<IIQ", 9, 8, 2**60)), id="endless array of texts"
        ),
        pytest.param(
            header(entries=1, body=text(b"a") + struct.pack("<IIQ", 9, 12, 2**60)),
            id="endless array of numbers",
        ),
        pytest.param(header(entries=1, body=text(b"a") + struct.pack("<II", 99, 0)), id="unknown type"),
        pytest.param(
            header(entries=1, body=text(b"a") + struct.pack("<IIQI", 9, 9, 1, 9) + bytes(30)),
            id="nested arrays",
        ),
        pytest.param(
            header(entries=1, body=text(b"general.alignment") + struct.pack("<II", 4, 0)),
            id="alignment of zero",
        ),
        pytest.param(
            header(tensors=1, body=text(b"t") + struct.pack("<IQIQ", 1, 2**60, 0, 0)),
            id="a tensor of exabytes",
        ),
        pytest.param(
            header(tensors=1, body=text(b"t") + struct.pack("<I", 2**31) + bytes(20)),
            id="a billion dimensions",
        ),
    ],
)
def test_a_broken_header_is_refused_with_a_reason_and_without_memory(tmp_path: Path, content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BrokenGguf, match="."):
            read_bytes(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    finally:
        tracemalloc.stop()


FUZZED = settings(
    max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZED
@given(body=st.binary(max_size=400), entries=st.integers(0, 2**64 - 1), tensors=st.integers(0, 2**64 - 1))
def test_random_bytes_are_read_or_refused(tmp_path: Path, body: bytes, entries: int, tensors: int) -> None:
    path = tmp_path / "random.gguf"
    path.write_bytes(header(entries=entries, tensors=tensors, body=body))
    _read_or_refuse(path)


@FUZZED
@given(data=st.data())
def test_a_model_with_changed_bytes_is_read_or_refused(
    tmp_path: Path, small: Path, data: st.DataObject
) -> None:
    content = bytearray(small.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, 8000))] = data.draw(st.integers(0, 255))
    path = tmp_path / "changed.gguf"
    path.write_bytes(content)
    _read_or_refuse(path)


def _read_or_refuse(path: Path) -> None:
    try:
        found = read_gguf(path)
    except BrokenGguf:
        return
    assert 0 <= found.data_offset <= found.file_bytes


def test_how_weights_are_stored_is_what_the_file_says_else_what_most_of_them_are(
    small: Path, tmp_path: Path
) -> None:
    assert "general.file_type" not in read_gguf(small).metadata
    assert read_gguf(small).quantisation == "F32"
    said = tmp_path / "said.gguf"
    said.write_bytes(header(entries=1, body=text(b"general.file_type") + struct.pack("<II", 4, 15)))
    assert read_gguf(said).quantisation == "Q4_K_M"
    unknown = tmp_path / "unknown.gguf"
    unknown.write_bytes(header(entries=1, body=text(b"general.file_type") + struct.pack("<II", 4, 999)))
    assert read_gguf(unknown).quantisation == ""
