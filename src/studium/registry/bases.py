"""Whether an adapter belongs to its base: the roster's file by its hash, and every changed tensor by its shape."""

from collections.abc import Mapping
from pathlib import Path

from studium.engines.gguf_metadata import GgufHeader
from studium.errors import BadRequest
from studium.records.models import ModelSpec
from studium.registry.files import sha256_of_file
from studium.registry.headers import check_gguf


def base_file(base: str, models: Mapping[str, ModelSpec]) -> Path | None:
    """Return the GGUF file of a roster's model; None where it has none here."""
    model = models.get(base)
    path = Path(model.source) if model else None
    return path if path is not None and path.suffix == ".gguf" and path.is_file() else None


def check_base(base: str, base_sha256: str, models: Mapping[str, ModelSpec], *, needed: bool) -> Path | None:
    """Return the base's file, whose hash is `base_sha256`; None where it is neither there nor `needed`.

    Raises BadRequest. Reads the whole file.
    """
    file = base_file(base, models)
    if file is None:
        if not needed:
            return None
        known = ", ".join(sorted(name for name in models if base_file(name, models)))
        raise BadRequest(
            f"the base {base[:80]!r} is no model of the roster with a file here",
            expected=f"one of {known}" if known else "a roster with a model from a GGUF file",
            try_next="add it to `models` in studium.yaml, or register the merged model (--merged)",
        )
    found = sha256_of_file(file)
    if base_sha256 and found != base_sha256:
        raise BadRequest(
            f"the base {base} is not the one this was trained on: {file.name} is {found[:12]}, trained on was "
            f"{base_sha256[:12]}",
            expected="the very file it was trained on",
            try_next="train again on the roster's model, or bring the earlier file back",
        )
    return file


def check_changes(adapter: Path, base: Path) -> None:
    """Raise BadRequest unless each pair of an adapter changes a tensor of the base, in its shape."""
    changes, whole = check_gguf(adapter), check_gguf(base)
    for key in ("general.architecture",):
        if changes.metadata.get(key) != whole.metadata.get(key):
            raise _not_of(adapter, base, f"its {key} is {str(changes.metadata.get(key))[:40]!r}")
    shapes = _shapes(whole)
    halves = _shapes(changes)
    for name in sorted(halves):
        if not name.endswith(".lora_a"):
            continue
        stem = name.removesuffix(".lora_a")
        first, second, changed = halves[name], halves.get(f"{stem}.lora_b", ()), shapes.get(stem, ())
        if len(first) != 2 or len(second) != 2 or len(changed) != 2:
            raise _not_of(adapter, base, f"{stem[:80]} is no matrix of the base")
        if (first[0], second[1]) != changed or first[1] != second[0]:
            raise _not_of(adapter, base, f"{stem[:80]} is {changed} there, changed by {first} and {second}")


def _shapes(header: GgufHeader) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in header.listed}


def _not_of(adapter: Path, base: Path, what: str) -> BadRequest:
    return BadRequest(
        f"{adapter.name} does not fit {base.name}: {what}",
        expected="an adapter of this base",
        try_next="name its own base with --base",
    )
