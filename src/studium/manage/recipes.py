"""A recipe that came from elsewhere: its text read as a file's is, its paths kept within the workspace.

Models are embedded students, or what stands in the workspace; data stands in `datasets` or `runs`. Nothing is fetched,
no address is called and no variable of the environment is read for a stranger.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from studium.errors import BadRequest, ConfigurationError
from studium.train.bases import EMBEDDED
from studium.train.recipe_file import Told, read_told
from studium.train.run_folder import RunFolder

DATASETS, RUNS, ADAPTERS, MODELS = "datasets", "runs", "adapters", "models"
_HOMES = {"file": (DATASETS, RUNS)} | dict.fromkeys(
    ("model", "teacher", "then"), (RUNS, ADAPTERS, MODELS, DATASETS)
)
_NEVER = ("url", "api_key_env")
MOST_DEPTH = 12


def told_from(stage: str, recipe: Mapping[str, Any] | str, workspace: Path, name: str = "") -> Told:
    """Return what a stage and a recipe (YAML text, or its tree) say; `name` in place of the recipe's.

    Raises BadRequest, or ConfigurationError with the line and the nearest key, where it is none or leads elsewhere.
    """
    try:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "recipe.yaml"
            path.write_text(recipe if isinstance(recipe, str) else _text(recipe), encoding="utf-8")
            # Read twice: first within the limits of a file, so that what is walked through is small and plain.
            read_told(path, stage)
            tree = confined(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, workspace)
            path.write_text(_text(tree), encoding="utf-8")
            told = read_told(path, stage, [f"name={name}"] if name else ())
    except ConfigurationError as error:  # whose advice is about a file that is gone
        raise ConfigurationError(
            error.happened,
            expected=error.expected,
            try_next="correct the recipe; see recipes/ for one that works",
        ) from error
    RunFolder(workspace / RUNS / told.recipe.name)
    return told


def confined(tree: Any, workspace: Path, key: str = "", depth: int = 0) -> Any:
    """Return a recipe's tree with its paths absolute. Raises BadRequest for one that leads out of the workspace."""
    if depth > MOST_DEPTH:
        raise BadRequest("the recipe is nested too deeply", expected=f"at most {MOST_DEPTH} levels")
    if isinstance(tree, Mapping):
        return {str(k): confined(v, workspace, str(k), depth + 1) for k, v in tree.items()}
    if isinstance(tree, Sequence) and not isinstance(tree, str | bytes):
        return [confined(one, workspace, key, depth + 1) for one in tree]
    if key in _NEVER and tree:
        raise BadRequest(
            f"{key} is {str(tree)[:60]!r}",
            expected="a run that calls no address and reads no key, as this recipe came over HTTP",
            try_next="train at the command line: studium train",
        )
    return _place(tree, workspace, key) if key in _HOMES and isinstance(tree, str) and tree else tree


def _place(text: str, workspace: Path, key: str) -> str:
    """Return what a path means: an embedded student's name, or a file or folder in the workspace."""
    if key != "file" and text.isidentifier() and (EMBEDDED / f"{text}.gguf").exists():
        return text
    homes = [(workspace / one).resolve() for one in _HOMES[key]]
    for start in (Path("/"), workspace, *homes):
        if start == Path("/") and not text.startswith("/"):
            continue
        place = (start / text).resolve()
        if place.exists() and any(place != home and place.is_relative_to(home) for home in homes):
            return str(place)
    students = "" if key == "file" else "an embedded student, or "
    raise BadRequest(
        f"{key} {text[:80]!r} is nothing that this workspace has",
        expected=f"{students}a path within {', '.join(_HOMES[key])} of the workspace",
        try_next="put it there, or train at the command line: studium train",
    )


def _text(tree: object) -> str:
    try:
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError("the recipe cannot be written as YAML", expected="plain values") from error
