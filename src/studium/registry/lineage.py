"""What was trained from what: the adapter whose weights further training began with, and the model it becomes whole."""

from collections.abc import Iterable
from pathlib import Path

from studium.config.kinds import NAME_PATTERN
from studium.records.adapters import STANDS_ON, STUDENT, Adapter


def merged_path(adapter: Adapter, workspace: Path) -> Path | None:
    """Return the whole model that an adapter's run kept beside it; None where no run did, or it is gone."""
    run = str(adapter.lineage.get("run") or "")
    path = workspace / "runs" / run / "checkpoint" / "model.gguf"
    return path if NAME_PATTERN.fullmatch(run) and path.is_file() else None


def made_by(model: str, sha256: str, adapters: Iterable[Adapter], workspace: Path) -> Adapter | None:
    """Return the adapter whose model a file is: its own, or what its run merged; None where it is no adapter's."""
    file = Path(model).expanduser().resolve()
    for one in adapters:
        own = (workspace / one.folder / one.serving_file).resolve()
        if file == own and one.files.get(one.serving_file) == sha256:
            return one
        if (merged := merged_path(one, workspace)) is not None and file == merged.resolve():
            return one
    return None


def going_on(before: Adapter) -> dict[str, str]:
    """Return what the lineage of an adapter says that went on from another: its id, and the student both began with."""
    return {STANDS_ON: before.id, STUDENT: str(before.lineage.get(STUDENT) or before.base)}
