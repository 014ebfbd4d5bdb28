"""What is to be exported: a finished run, or an adapter's folder as the registry keeps it.

runs/NAME/adapter, runs/NAME/checkpoint      of a run: the adapter where one was trained, else the model
adapters/ROLE/NAME/adapter_meta.json         of the registry, beside the adapter's or the model's files
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studium.errors import BadRequest, ConfigurationError
from studium.records.adapters import AdapterKind
from studium.train.bases import base_files, base_sha256
from studium.train.models import Loaded, load
from studium.train.run_folder import RunFolder, State

META = "adapter_meta.json"
SCORES = "scores.json"
"""In a run's folder: the shares of fresh problems its result gets right, by domain, where somebody measured them."""
PEFT_WEIGHTS, PEFT_SETTINGS = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Trained:
    """A low-rank adapter (a PEFT folder) with its base, or a whole model (a Hugging Face folder).

    `base` is what its base is called, for the card; `base_at` where that lies, "" where the name says so itself.
    `base_sha256` is what its base was when it was trained, "" where nobody noted it. `lineage` is for the card.
    """

    name: str
    kind: AdapterKind
    folder: Path
    base: str
    base_sha256: str = ""
    lineage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    base_at: str = ""

    @property
    def base_reference(self) -> str:
        """What its base is loaded by: an embedded student's name, a path, or a hub's name."""
        return self.base_at or self.base


def trained_in(folder: Path, sources: Mapping[str, str] | None = None) -> Trained:
    """Return what a folder holds. Raises BadRequest where it is neither a finished run nor an adapter's folder.

    `sources` tells where the roster's models lie, by the names that adapters' cards have for their bases.
    """
    if (folder / META).is_file():
        return _registered(folder, sources or {})
    if (folder / "recipe.json").is_file():
        return _of_run(RunFolder(folder))
    raise BadRequest(
        f"there is nothing trained in {folder}",
        expected=f"a run's folder (recipe.json), or an adapter's ({META})",
        try_next="studium train list",
    )


def trained_model(trained: Trained) -> Loaded:
    """Load it as it answers, in full precision: an adapter merged into its base.

    Raises ConfigurationError where the base is missing, or is not the one it was trained on.
    """
    if trained.kind is AdapterKind.MODEL:
        return load(str(trained.folder))
    check_base(trained)
    from peft import PeftModel

    base = load(trained.base_reference)
    adapted: Any = PeftModel.from_pretrained(base.model, str(trained.folder))
    return base._replace(model=adapted.merge_and_unload().eval())


def check_base(trained: Trained) -> None:
    """Raise ConfigurationError where an adapter's base is not on this machine, or has changed since.

    Of a hub's model there may be no files here, and no hash was noted then: whether it can be had, `load` says.
    """
    base = trained.base_reference
    now = base_sha256(base)
    if not now and (trained.base_sha256 or _is_path(base)):
        raise ConfigurationError(
            f"the base of {trained.name}, {base}, is not on this machine",
            expected="the model it was trained on: an adapter is nothing without it",
            try_next=f"put it back at {base}, or export on the machine that trained it",
        )
    if trained.base_sha256 and now != trained.base_sha256:
        raise ConfigurationError(
            f"the base {base} is not the one {trained.name} was trained on: "
            f"its hash is {now[:12]}, was {trained.base_sha256[:12]}",
            expected="the same weights, to the last bit",
            try_next="put the former file back, or train again on this one",
        )


def _is_path(reference: str) -> bool:
    return reference.startswith(("/", ".", "~")) or reference.endswith(".gguf")


def _scores(run: RunFolder) -> dict[str, float]:
    """Return the shares of fresh problems the result was measured to get right, by domain, where anybody noted them."""
    try:
        told = json.loads((run.path / SCORES).read_text(encoding="utf-8"))
        return {str(name): float(share) for name, share in told.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def lineage_of(run: RunFolder) -> dict[str, Any]:
    """Return where a run's result comes from: recipe, data, versions, commit, and its best validation."""
    told = run.told()
    recipe = dict(told.get("recipe", {}))
    scores = [line for line in run.lines("metrics.jsonl") if "validation" in line]
    best = max(scores, key=lambda line: line["validation"].get("score", 0.0), default=None)
    status = run.status()
    return {
        "run": run.path.name,
        "stage": told.get("stage", ""),
        "recipe": recipe,
        "data_sha256": told.get("data", ""),
        "commit": told.get("commit", ""),
        "versions": told.get("versions", {}),
        "steps": status.step,
        "seconds": round(status.seconds, 1),
        "scores": _scores(run),
        "validation": {} if best is None else {"step": best["step"], **best["validation"]},
    }


def _of_run(run: RunFolder) -> Trained:
    told, status = run.told(), run.status()
    if status.state is not State.DONE or not run.checkpoint.is_dir():
        raise BadRequest(
            f"the run {run.path.name} has no result yet: it is {status.state} after step {status.step}",
            expected="a run that is done",
            try_next=f"studium train resume {run.path.name}",
        )
    adapter = run.path / "adapter"
    kind = AdapterKind.ADAPTER if (adapter / PEFT_WEIGHTS).is_file() else AdapterKind.MODEL
    return Trained(
        run.path.name,
        kind,
        adapter if kind is AdapterKind.ADAPTER else run.checkpoint,
        str(told.get("base") or told["recipe"]["model"]),
        str(told.get("base_sha256", "")),
        lineage_of(run),
    )


def _registered(folder: Path, sources: Mapping[str, str]) -> Trained:
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        kind, base = AdapterKind(meta["kind"]), str(meta["base"])
        found = Trained(
            str(meta["name"]),
            kind,
            folder,
            base,
            str(meta["base_sha256"]),
            dict(meta["lineage"]),
            _base_at(base, sources),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequest(
            f"{folder / META} cannot be read: {type(error).__name__}: {error}",
            expected="what the registry writes: name, kind, base, base_sha256, lineage",
            try_next="studium adapters verify",
        ) from error
    needed = PEFT_WEIGHTS if kind is AdapterKind.ADAPTER else "config.json"
    if not (folder / needed).is_file():
        raise BadRequest(
            f"{found.name} has no {needed} in {folder}, only what its engine serves",
            expected="the trained files beside it, which other forms are made from",
            try_next="register the run's folder again, with all of its files",
        )
    return found


def _base_at(base: str, sources: Mapping[str, str]) -> str:
    """Return where a base lies that a card names as the roster does; "" where it is an embedded student's own file."""
    source = sources.get(base, "")
    files = [one.resolve() for one in base_files(base)]
    return "" if files == [Path(source).resolve()] else source
