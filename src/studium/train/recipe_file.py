"""A recipe as it was given: its file and what `--set` changed, kept whole in the run's folder for a resume.

What was given and what is a default are told apart, so that `preflight` can refuse a key that changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from studium.config.document import Listing, Node, Scalar, Table, read_document
from studium.config.reading import Reading
from studium.errors import ConfigurationError
from studium.train.config import Recipe
from studium.train.stages.catalogue import stage as stage_named

FILE_NAME = "recipe.yaml"
_ORIGIN = "--set"


@dataclass(frozen=True, slots=True)
class Told:
    """A stage and its recipe; `keys` maps the dotted path of every value given to where it was written."""

    stage: str
    recipe: Recipe
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    document: Table = field(default_factory=lambda: Table(_ORIGIN))


def read_told(path: Path, stage: str, sets: Sequence[str] = ()) -> Told:
    """Read a recipe, each of `sets` ("optimiser.rate=0.001", "data.1.rows=64") put in place of what the file says.

    Paths of models and data are from here, else from the recipe's folder, and made absolute; a run's folder stands for
    the model it made. Raises ConfigurationError with file, line and nearest key, BadRequest for a stage that is none.
    """
    options = stage_named(stage).options
    document: Any = read_document(path)
    for one in sets:
        key, equals, text = one.partition("=")
        if not equals or not key.strip():
            raise ConfigurationError(
                f"--set {one[:80]!r} is no key with a value",
                expected="--set key=value, such as --set optimiser.rate=0.001 or --set data.1.rows=64",
            )
        document = _put(document, key.strip().split("."), _node(_parsed(text, one), text))
    document = _absolute(document, path.parent)
    reading = Reading()
    recipe = reading.section(options, document, "")
    return Told(stage, recipe, dict(reading.origins), document)


def write_told(told: Told, folder: Path) -> None:
    """Keep the recipe in a run's folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_text(text_of(told))


def text_of(told: Told) -> str:
    """Return the recipe as YAML, its paths absolute."""
    return yaml.safe_dump(_plain(told.document), sort_keys=False, allow_unicode=True)


def is_told(told: Told, folder: Path) -> bool:
    """Say whether a run's folder was told the same, or nothing yet."""
    kept = folder / FILE_NAME
    return not kept.exists() or _plain(read_document(kept)) == _plain(told.document)


def _parsed(text: str, whole: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"--set {whole[:80]!r}: the value is not YAML", expected="a value such as 0.1, yes or [1, 2]"
        ) from error


def _node(value: Any, text: str) -> Node:
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return Listing(_ORIGIN, tuple(_node(one, str(one)) for one in items))
    if isinstance(value, dict):
        entries: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        nodes = {str(key): _node(one, str(one)) for key, one in entries.items()}
        return Table(_ORIGIN, nodes, dict.fromkeys(nodes, _ORIGIN))
    return Scalar(value, text, _ORIGIN)


def _put(node: Node, path: Sequence[str], value: Node) -> Node:
    """Return the tree with one value replaced; items of a list are counted from 1, as in messages."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(node, Listing):
        at = int(head) - 1 if head.isdecimal() else -1
        if not 0 <= at < len(node.items):
            raise ConfigurationError(
                f"--set: there is no item {head!r} in a list of {len(node.items)}",
                expected=f"a number from 1 to {len(node.items)}",
            )
        items = (_put(one, rest, value) if number == at else one for number, one in enumerate(node.items))
        return Listing(node.origin, tuple(items))
    table = node if isinstance(node, Table) else Table(_ORIGIN)
    below = _put(table.entries.get(head, Table(_ORIGIN)), rest, value)
    return Table(table.origin, {**table.entries, head: below}, {**table.key_origins, head: _ORIGIN})


def _absolute(node: Node, folder: Path, key: str = "") -> Node:
    if isinstance(node, Listing):
        return Listing(node.origin, tuple(_absolute(one, folder) for one in node.items))
    if isinstance(node, Table):
        entries = {name: _absolute(one, folder, name) for name, one in node.entries.items()}
        return Table(node.origin, entries, node.key_origins)
    if key not in ("model", "file", "teacher") or not node.text:
        return node
    for path in (Path(node.text).expanduser(), folder / node.text):
        if path.exists() and ("/" in node.text or path.suffix):
            found = str(_model_in(path.resolve()))
            return Scalar(found, found, node.origin)
    return node


def _model_in(path: Path) -> Path:
    """Return what a run's folder holds as its result; any other path as it is."""
    result = path / "checkpoint"
    is_run = path.is_dir() and not (path / "config.json").exists() and (result / "config.json").exists()
    return result if is_run else path


def _plain(node: Node) -> Any:
    if isinstance(node, Table):
        return {key: _plain(one) for key, one in node.entries.items()}
    return [_plain(one) for one in node.items] if isinstance(node, Listing) else node.value
