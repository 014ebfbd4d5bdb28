"""Files of weights from strangers: 5,000 broken ones, and those that are broken on purpose."""

import json
import os
import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.registry.weights import (
    CHANGED,
    RANK,
    SETTINGS,
    adapter_files,
    adapter_folder,
    gguf,
    model_folder,
    safetensors,
)

from studium.errors import BadRequest
from studium.records.adapters import AdapterKind
from studium.registry.files import judge, take_copy

HUGE = (0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**48, 2**63 - 1, 2**64 - 1)


def mutations(content: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield broken versions of a file without end: bits, cuts, growth, huge numbers, pieces moved."""
    while True:
        broken = bytearray(content)
        head = min(len(broken), 700)  # where files tell about themselves
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            at = rng.randrange(head)
            match rng.randrange(6):
                case 0:
                    broken[at] ^= 1 << rng.randrange(8)
                case 1:
                    broken[at : at + 8] = rng.choice(HUGE).to_bytes(8, "little")
                case 2:
                    del broken[rng.randrange(len(broken)) :]
                case 3:
                    broken[at:at] = rng.randbytes(rng.randrange(1, 40))
                case 4:
                    other = rng.randrange(head)
                    broken[at : at + 16] = broken[other : other + 16]
                case _:
                    broken[at : at + 3] = rng.choice(
                        (b'":-', b"[[[", b"1e9", b"nul", b"}{,", b"NaN", b"\xff\xfe\x00")
                    )
            head = min(len(broken), head)
            if not head:
                break
        yield bytes(broken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "times", "opens"),
    [
        ("adapter.gguf", 2_000, "gguf"),
        ("adapter_model.safetensors", 2_000, "safetensors"),
        ("adapter_config.json", 1_000, "json"),
    ],
)
def test_of_5000_mutated_files_each_is_sound_or_refused_in_words(tmp_path, file, times, opens):
    folder = adapter_folder(tmp_path / "it")
    names = dict.fromkeys(adapter_files(), "")
    broken = mutations(adapter_files()[file], random.Random(6))
    refused = 0
    for _ in range(times):
        (folder / file).write_bytes(next(broken))
        try:
            judge(folder, names, AdapterKind.ADAPTER)
        except BadRequest as error:
            assert error.expected and error.try_next
            refused += 1
            continue
        READERS[opens](folder / file)  # what we let through is sound for whoever opens it next
    assert times / 4 < refused < times  # the mutations reach what matters, and not all of them break it


def _opened_by_gguf(path: Path) -> None:
    reader = pytest.importorskip("gguf").GGUFReader(path)
    assert {one.name for one in reader.tensors}


def _opened_by_safetensors(path: Path) -> None:
    with pytest.importorskip("safetensors").safe_open(path, "numpy") as opened:
        assert all(opened.get_tensor(name) is not None for name in opened.keys())  # noqa: SIM118


READERS: dict[str, Callable[[Path], object]] = {
    "gguf": _opened_by_gguf,
    "safetensors": _opened_by_safetensors,
    "json": lambda path: json.loads(path.read_bytes()),
}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("a.safetensors", struct.pack("<Q", 2**63) + b"{}"),
        ("a.safetensors", struct.pack("<Q", 7 * 2**20) + b"[" * 7 * 2**20),
        ("a.gguf", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0)),
        ("a.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60)),
        ("a.gguf", b"GGUF" + struct.pack("<IQQ", 3, 200_000, 0) + bytes(200_000 * 24)),
        ("a.gguf", b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"x", 9, 8, 2**61)),
    ],
)
def test_a_header_that_claims_the_moon_costs_no_more_than_its_own_bytes(tmp_path, file, content):
    (tmp_path / file).write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest):
            judge(tmp_path, {file: ""}, AdapterKind.MODEL)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def entry(shape: list[object], offsets: list[object], dtype: str = "F32") -> bytes:
    header = json.dumps({"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (entry([2], [0, 8]) + bytes(4), "its tensors end at 8, its data at 4"),
        (entry([2], [0, 8]) + bytes(9), "its tensors end at 8, its data at 9"),
        (entry([2], [4, 12]) + bytes(12), "begins at 4"),
        (entry([3], [0, 8]) + bytes(8), "its shape asks for others"),
        (entry([2], [0, 8], "PICKLE") + bytes(8), "unknown dtype"),
        (entry([-2], [0, 8]) + bytes(8), "no sizes"),
        (entry([True, 2], [0, 8]) + bytes(8), "no sizes"),
        (entry([1] * 9, [0, 4]) + bytes(4), "no sizes"),
        (struct.pack("<Q", 19) + b'{"t": {}, "t": {}} ' + bytes(4), "names something twice"),
        (struct.pack("<Q", 2) + b"[]", "no JSON object"),
        (struct.pack("<Q", 25) + b'{"__metadata__": {"a": 1}}'[:25], "no JSON"),
        (b"\x80\x04\x95" + bytes(40), "claims a header"),
    ],
)
def test_an_unsound_safetensors_file_is_refused_with_where_it_goes_wrong(tmp_path, content, said):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(BadRequest, match=said):
        judge(tmp_path, {"model.safetensors": ""}, AdapterKind.MODEL)


def test_gguf_tensors_that_overlap_or_leave_the_file_are_refused(tmp_path):
    sound = gguf({"general.architecture": "llama"}, {"a": (8, 4), "b": (8, 4)})
    where = sound.index(b"b" + struct.pack("<I", 2)) + 1 + 4 + 16 + 4
    for offset, said in (
        (64, "within another"),
        (120, "within another"),
        (4096, "cut short"),
        (2**62, "cut short"),
    ):
        (tmp_path / "model.gguf").write_bytes(sound[:where] + struct.pack("<Q", offset) + sound[where + 8 :])
        with pytest.raises(BadRequest, match=said):
            judge(tmp_path, {"model.gguf": ""}, AdapterKind.MODEL)
    (tmp_path / "model.gguf").write_bytes(sound)
    assert judge(tmp_path, {"model.gguf": ""}, AdapterKind.MODEL) == "model.gguf"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "of the kind 'IA3'"),
        ({"r": 3}, "the shape"),
        ({"r": 0}, "rank is 0"),
        ({"r": True}, "rank is True"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"target_modules": [1]}, "target_modules"),
        ({"auto_mapping": {"parent_library": "os"}}, "auto_mapping names 'os'"),
        ({"auto_map": {"AutoModel": "evil--modeling.Evil"}}, "code of its own"),
    ],
)
def test_settings_of_an_adapter_that_lie_or_would_import_are_refused(tmp_path, changes, said):
    folder = adapter_folder(tmp_path / "it")
    (folder / "adapter_config.json").write_text(json.dumps({**SETTINGS, **changes}))
    with pytest.raises(BadRequest, match=said):
        judge(folder, dict.fromkeys(adapter_files(), ""), AdapterKind.ADAPTER)


def test_an_adapter_is_no_model_and_half_of_a_pair_is_no_adapter(tmp_path):
    with pytest.raises(BadRequest, match="holds an adapter"):
        judge(adapter_folder(tmp_path / "it"), {"adapter.gguf": ""}, AdapterKind.MODEL)
    with pytest.raises(BadRequest, match="holds a whole model"):
        judge(model_folder(tmp_path / "whole"), {"model.gguf": ""}, AdapterKind.ADAPTER)
    told = {"general.architecture": "llama", "general.type": "adapter"}
    (tmp_path / "adapter.gguf").write_bytes(gguf(told, {f"{CHANGED}.lora_a": (8, RANK)}))
    with pytest.raises(BadRequest, match="pairs of lora_a and lora_b"):
        judge(tmp_path, {"adapter.gguf": ""}, AdapterKind.ADAPTER)


@pytest.mark.parametrize(
    "name",
    [
        "weights.bin",
        "model.pt",
        "adapter_model.pkl",
        "modeling.py",
        ".hidden.json",
        "a b.json",
        "run.sh",
        "x",
    ],
)
def test_files_that_may_run_code_or_have_odd_names_are_not_taken(tmp_path, name):
    folder = adapter_folder(tmp_path / "it")
    (folder / name).write_text("boo")
    with pytest.raises(BadRequest, match="is not accepted|no name for a file"):
        take_copy(folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_links_folders_and_pipes_are_not_followed(tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text('{"password": 1}')
    makes: list[Callable[[Path], object]] = [
        lambda path: path.symlink_to(secret),
        lambda path: path.symlink_to(tmp_path / "nowhere"),
        lambda path: path.mkdir(),
        os.mkfifo,
    ]
    for number, make in enumerate(makes):
        folder = adapter_folder(tmp_path / f"it{number}")
        make(folder / "config.json")
        with pytest.raises(BadRequest, match="a link|no plain file"):
            take_copy(folder, tmp_path / f"copy{number}")


def test_a_copy_has_the_hashes_of_what_was_read_and_leaves_an_old_card_behind(tmp_path):
    folder = adapter_folder(tmp_path / "it")
    (folder / "adapter_meta.json").write_text('{"id": "of another registration"}')
    hashes = take_copy(folder, tmp_path / "copy")
    assert set(hashes) == set(adapter_files()) == {one.name for one in (tmp_path / "copy").iterdir()}
    assert judge(tmp_path / "copy", hashes, AdapterKind.ADAPTER) == "adapter.gguf"


def test_without_a_gguf_nothing_serves_and_of_several_one_must_be_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(safetensors({"w": (2, 2)}))
    assert judge(tmp_path, {"model.safetensors": ""}, AdapterKind.MODEL) == ""
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(gguf({"general.architecture": "llama"}, {"a": (8, 4)}))
    with pytest.raises(BadRequest, match="several GGUF files"):
        judge(tmp_path, dict.fromkeys(("a.gguf", "b.gguf"), ""), AdapterKind.MODEL)
    with pytest.raises(BadRequest, match="no weights"):
        judge(tmp_path, {"README.md": ""}, AdapterKind.MODEL)
