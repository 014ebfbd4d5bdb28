"""A recipe and its rows sent to another Studium: what it names here is named there, or refused before it begins.

Rows go by their content (`manage.datasets`). Models are not sent: they are embedded students, or lie at the same place
in that workspace as in this one.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from studium.errors import BadRequest, ConfigurationError
from studium.manage.box import Box
from studium.manage.datasets import take_file
from studium.manage.recipes import DATASETS
from studium.train.bases import base_sha256
from studium.train.recipe_file import Told, text_of

_MODELS = ("model", "teacher", "then")


def for_box(tree: Any, workspace: Path, keep: Callable[[str], str], key: str = "") -> Any:
    """Return a recipe's tree as another workspace understands it; `keep` maps a file of rows to its name there.

    Raises BadRequest for a model that lies outside of this workspace.
    """
    if isinstance(tree, Mapping):
        return {name: for_box(value, workspace, keep, name) for name, value in tree.items()}
    if isinstance(tree, list):
        return [for_box(one, workspace, keep, key) for one in tree]
    if not isinstance(tree, str) or not tree or key not in ("file", *_MODELS):
        return tree
    if key == "file":
        return keep(tree)
    path, home = Path(tree).expanduser(), workspace.resolve()
    if not path.is_absolute():
        return tree
    if not path.resolve().is_relative_to(home):
        raise BadRequest(
            f"{key} {tree} lies on this machine, outside of the workspace {home}",
            expected="an embedded student, or one that both workspaces have, such as runs/NAME/checkpoint",
            try_next=f"name what is there: --set {key}=runs/NAME/checkpoint",
        )
    return str(path.resolve().relative_to(home))


def send(box: Box, told: Told, workspace: Path) -> str:
    """Send the rows a recipe names, but those that are there; return its text for the box. Blocks.

    Raises BadRequest for rows that are none, and what the box refuses with: the key, the size, its disk.
    """

    def keep(file: str) -> str:
        rows = take_file(Path(file).expanduser(), workspace)
        sha256, num_bytes = rows.stem, rows.stat().st_size
        if not box.get(f"/api/datasets/{sha256}?bytes={num_bytes}")["is_here"]:
            box.put(f"/api/datasets/{sha256}", rows)
        return f"{DATASETS}/{rows.name}"

    tree = for_box(yaml.safe_load(text_of(told)), workspace, keep)
    return yaml.safe_dump(tree | {"name": told.recipe.name}, sort_keys=False, allow_unicode=True)


def check_same_model(told: Told, workspace: Path, there: str) -> None:
    """Raise ConfigurationError where a model that is here too has other weights than there (its hash)."""
    model = told.recipe.model
    here = base_sha256(str(workspace / model)) if (workspace / model).exists() else base_sha256(model)
    if here and there and here != there:
        raise ConfigurationError(
            f"{model} there is not the one here: its hash is {there[:12]}, here {here[:12]}",
            expected="the same weights, as the result is to go with what is here",
            try_next="have both run the same version of Studium, or bring that model here",
        )
