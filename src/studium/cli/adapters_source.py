"""What `adapters register` takes in: a finished run, a folder the registry laid out, or any folder with weights."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from studium.errors import BadRequest
from studium.records.adapters import AdapterKind, content_sha256
from studium.registry.lineage import going_on, made_by

if TYPE_CHECKING:
    from studium.config import Config
    from studium.registry import Registry
    from studium.train.exporting.trained import Trained

RUNS = "runs"
_MARKS = ("recipe.json", "adapter_meta.json")


def source_of(
    what: str, config: "Config", registry: "Registry", base: str | None, *, merged: bool
) -> "Trained":
    """Return what is to be taken in, its base by its name: of the roster, or ROLE/NAME of the adapter it went on from.

    Raises BadRequest.
    """
    from studium.train.exporting.trained import Trained, trained_in

    folder = _folder(what, config)
    if any((folder / mark).is_file() for mark in _MARKS):
        found = trained_in(folder)
        told = dict(found.lineage)
        if recipe := told.get("recipe"):
            told["recipe_sha256"] = content_sha256(recipe)
        found = replace(found, lineage=told)
    else:
        kind = AdapterKind.ADAPTER if _holds_adapter(folder) else AdapterKind.MODEL
        found = Trained(folder.name, kind, folder, "")
    if merged and found.kind is AdapterKind.ADAPTER:
        found = _merged(found, folder)
    before = made_by(found.base, found.base_sha256, registry.adapters(), config.workspace)
    if base is None and before is not None:
        told = {**found.lineage, **going_on(before)}
        found = replace(found, base=f"{before.role}/{before.name}", lineage=told)
    named = base or _in_roster(found.base, config)
    if not named and found.kind is AdapterKind.ADAPTER:
        raise BadRequest(
            f"nobody noted what {what} was trained on", expected="--base MODEL", try_next="studium models"
        )
    return replace(found, base=named)


def _folder(what: str, config: "Config") -> Path:
    run = config.workspace / RUNS / what
    for folder in (run, Path(what).expanduser()):
        if (folder is not run or "/" not in what) and folder.is_dir():
            return folder
    raise BadRequest(
        f"there is neither a run nor a folder {what[:80]!r}",
        expected="the name of a finished run, or a folder with a trained model",
        try_next="studium train list",
    )


def _holds_adapter(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("adapter_config.json", "adapter.gguf"))


def _merged(found: "Trained", folder: Path) -> "Trained":
    whole = folder / "checkpoint"
    if not whole.is_dir():
        raise BadRequest(
            f"{found.name} has no merged model beside its adapter",
            expected="a run's folder, which keeps both",
            try_next="leave --merged out",
        )
    return replace(found, kind=AdapterKind.MODEL, folder=whole)


def _in_roster(base: str, config: "Config") -> str:
    """Return the roster's name of a model that a recipe may name by its file."""
    from studium.registry import build_roster

    models = build_roster(config).models
    if base in models or not base:
        return base
    path = Path(base).expanduser().resolve()
    return next(
        (name for name, model in models.items() if Path(model.source).expanduser().resolve() == path), base
    )
