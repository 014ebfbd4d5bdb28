"""The folders of training runs in a workspace, by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studium.cli.options import settings
from studium.errors import BadRequest

if TYPE_CHECKING:
    from studium.train.run_folder import RunFolder

RunName = Annotated[str, typer.Argument(metavar="NAME", help="The run's name; see studium train list.")]


def runs_of(folder: Path) -> "list[RunFolder]":
    """Return the runs kept in a folder, by name."""
    from studium.train.run_folder import RunFolder

    if not folder.is_dir():
        return []
    return [RunFolder(one) for one in sorted(folder.iterdir()) if (one / "recipe.yaml").exists()]


def the_run(name: str, workspace: str | None) -> "RunFolder":
    """Return a run by name. Raises BadRequest naming the nearest one."""
    from difflib import get_close_matches

    found = {one.path.name: one for one in runs_of(settings(None, workspace).workspace / "runs")}
    if name not in found:
        near = get_close_matches(name, found, n=1)
        raise BadRequest(
            f"there is no run {name[:80]!r}",
            expected=f"one of {', '.join(found)}" if found else "a run begun with studium train",
            try_next=f"did you mean {near[0]!r}?" if near else "studium train list",
        )
    return found[name]
