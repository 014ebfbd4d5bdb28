"""Taking a folder of a trained model in: copied first, then judged, so that what was judged is what stays.

Accepted are safetensors and GGUF, whose headers we check, and plain texts (json, txt, md, jinja): nothing that a
library would execute on opening. No links, no folders within, no names that lead elsewhere.
"""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studium.engines.gguf_metadata import GgufHeader
from studium.errors import BadRequest, StoreUnavailable
from studium.records.adapters import Adapter, AdapterKind, canonical
from studium.registry.headers import Tensor, check_gguf, check_safetensors

CARD = "adapter_meta.json"
ADAPTER_CONFIG = "adapter_config.json"
MAX_FILES = 256
MAX_TEXT_BYTES = 64 * 1024 * 1024
MAX_SETTINGS_BYTES = 1024 * 1024
MAX_RANK = 4096
_WEIGHTS = (".safetensors", ".gguf")
_TEXTS = (".json", ".txt", ".md", ".jinja")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CHUNK_BYTES = 1024 * 1024
_SERVING = {AdapterKind.ADAPTER: "adapter.gguf", AdapterKind.MODEL: "model.gguf"}


def take_copy(folder: Path, into: Path) -> dict[str, str]:
    """Copy a folder's files into a new one, each on disk when this returns; return their SHA-256 by name.

    A card from an earlier registration is left behind. Blocks. Raises BadRequest for what is not accepted,
    StoreUnavailable where the disk refuses.
    """
    names = _names(folder)
    try:
        into.mkdir(parents=True)
        hashes = {name: _copy(folder / name, into / name) for name in names}
        sync_folder(into)
    except OSError as error:
        raise StoreUnavailable(
            f"{error.filename or folder} cannot be copied into the workspace: {error.strerror}",
            expected="files that can be read, and room for a copy of them",
            try_next="free some space, or look at the folder's permissions",
        ) from error
    return hashes


def judge(folder: Path, names: Mapping[str, str], kind: AdapterKind) -> str:
    """Check every file that was taken in; return the name of the one that serves, "" where there is no GGUF.

    Raises BadRequest.
    """
    headers = {name: check_gguf(folder / name) for name in names if name.endswith(".gguf")}
    weights = {name: check_safetensors(folder / name) for name in names if name.endswith(".safetensors")}
    if not headers and not weights:
        raise _refused("the folder holds no weights", "a .safetensors or .gguf file")
    _check_json(folder, names)
    if kind is AdapterKind.ADAPTER:
        _check_adapter(folder, names, weights)
    serving = _SERVING[kind] if _SERVING[kind] in headers else next(iter(sorted(headers)), "")
    if len(headers) > 1 and _SERVING[kind] not in headers:
        raise _refused(
            f"there are several GGUF files: {', '.join(sorted(headers))}",
            f"one, or one called {_SERVING[kind]}",
        )
    if serving:
        _check_kind(serving, headers[serving], kind)
    return serving


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces; no link is followed. Raises OSError."""
    digest = hashlib.sha256()
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:  # noqa: PTH123
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def card_of(adapter: Adapter) -> dict[str, Any]:
    """Return what an adapter's card says; the hash of it is the adapter's id."""
    return {
        "role": adapter.role,
        "name": adapter.name,
        "kind": adapter.kind.value,
        "base": adapter.base,
        "base_sha256": adapter.base_sha256,
        "serving_file": adapter.serving_file,
        "files": dict(adapter.files),
        "lineage": dict(adapter.lineage),
    }


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write adapter_meta.json, on disk when this returns; its bytes are what the adapter's id is the hash of."""
    with (folder / CARD).open("wb") as file:
        file.write(canonical(card).encode())
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Have the folder's list of names on disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _names(folder: Path) -> list[str]:
    try:
        entries = sorted(os.scandir(folder), key=lambda one: one.name)
    except OSError as error:
        raise _refused(
            f"{folder} cannot be read: {error.strerror}", "a folder with a trained model"
        ) from error
    if len(entries) > MAX_FILES:
        raise _refused(f"the folder holds {len(entries):,} files", f"{MAX_FILES} at most")
    for entry in entries:
        _check_entry(entry)
    return [entry.name for entry in entries if entry.name != CARD]


def _check_entry(entry: "os.DirEntry[str]") -> None:
    found = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        what = "a link" if stat.S_ISLNK(found.st_mode) else "no plain file"
        raise _refused(f"{entry.name[:80]!r} is {what}", "plain files only")
    if not _NAME.fullmatch(entry.name):
        raise _refused(f"{entry.name[:80]!r} is no name for a file here", "letters, digits, '.', '_', '-'")
    if not entry.name.endswith((*_WEIGHTS, *_TEXTS)):
        raise _refused(
            f"{entry.name!r} is not accepted",
            f"{', '.join(_WEIGHTS)} and texts ({', '.join(_TEXTS)}): others may run code when opened",
        )
    if entry.name.endswith(_TEXTS) and found.st_size > MAX_TEXT_BYTES:
        raise _refused(f"{entry.name} has {found.st_size:,} bytes", f"{MAX_TEXT_BYTES:,} at most for a text")


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    number = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(number, "rb") as read, target.open("xb") as write:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise _refused(f"{source.name} is no plain file any more", "plain files only")
        while piece := read.read(_CHUNK_BYTES):
            digest.update(piece)
            write.write(piece)
        write.flush()
        os.fsync(write.fileno())
    return digest.hexdigest()


def _check_json(folder: Path, names: Mapping[str, str]) -> None:
    for name in names:
        if name in ("config.json", ADAPTER_CONFIG, "tokenizer_config.json"):
            settings = _settings(folder / name)
            if settings.get("auto_map"):
                raise _refused(
                    f"{name} asks for code of its own (auto_map)", "a model of a known architecture"
                )


def _settings(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_SETTINGS_BYTES:
        raise _refused(f"{path.name} has {path.stat().st_size:,} bytes", f"{MAX_SETTINGS_BYTES:,} at most")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _refused(f"{path.name} is no JSON: {str(error)[:120]}", "a JSON object") from error
    if not isinstance(value, dict):
        raise _refused(f"{path.name} is a JSON {type(value).__name__}", "a JSON object")
    return value


def _check_adapter(
    folder: Path, names: Mapping[str, str], weights: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Hold PEFT's settings against the weights beside them."""
    if ADAPTER_CONFIG not in names:
        if weights:
            raise _refused(f"there is no {ADAPTER_CONFIG} beside the weights", "a folder that PEFT saved")
        return
    settings = _settings(folder / ADAPTER_CONFIG)
    rank, alpha, targets = (settings.get(name) for name in ("r", "lora_alpha", "target_modules"))
    if settings.get("peft_type") != "LORA":
        raise _refused(f"the adapter is of the kind {str(settings.get('peft_type'))[:40]!r}", "LORA")
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise _refused(f"the adapter's rank is {str(rank)[:40]}", f"a whole number from 1 to {MAX_RANK:,}")
    if type(alpha) not in (int, float) or not math.isfinite(alpha) or alpha <= 0:  # pyright: ignore[reportArgumentType, reportOptionalOperand]
        raise _refused(f"the adapter's lora_alpha is {str(alpha)[:40]}", "a number above 0")
    if not isinstance(targets, str) and not (
        isinstance(targets, list) and targets and all(isinstance(one, str) for one in targets)
    ):
        raise _refused(f"the adapter's target_modules are {str(targets)[:40]}", "names of modules")
    _check_library(settings.get("auto_mapping"))
    if not settings.get("rank_pattern"):
        for file, tensors in weights.items():
            _check_ranks(file, tensors, rank)


def _check_library(mapping: object) -> None:
    # PEFT imports the module that is named here.
    library = mapping.get("parent_library") if isinstance(mapping, dict) else None
    if mapping is not None and (not isinstance(library, str) or library.split(".")[0] != "transformers"):
        raise _refused(f"the adapter's auto_mapping names {str(library)[:60]!r}", "a module of transformers")


def _check_ranks(file: str, tensors: Mapping[str, Tensor], rank: int) -> None:
    for name, tensor in tensors.items():
        side = 0 if ".lora_A" in name else -1 if ".lora_B" in name else None
        if side is not None and (not tensor.shape or tensor.shape[side] != rank):
            raise _refused(
                f"{file}: {name[:80]!r} has the shape {tensor.shape}", f"the rank {rank} of {ADAPTER_CONFIG}"
            )


def _check_kind(name: str, header: GgufHeader, kind: AdapterKind) -> None:
    is_adapter = header.metadata.get("general.type") == "adapter"
    if is_adapter != (kind is AdapterKind.ADAPTER):
        raise _refused(
            f"{name} holds {'an adapter' if is_adapter else 'a whole model'}", f"one of kind {kind.value}"
        )
    if not is_adapter:
        return
    halves = {tensor.name for tensor in header.listed}
    stems = {half.removesuffix(".lora_a").removesuffix(".lora_b") for half in halves}
    if not halves or halves != {f"{stem}.lora_{half}" for stem in stems for half in "ab"}:
        raise _refused(f"{name} does not hold pairs of lora_a and lora_b", "both halves of every change")


def _refused(happened: str, expected: str) -> BadRequest:
    return BadRequest(
        happened, expected=expected, try_next="give the folder as training left it; nothing was registered"
    )
