"""A YAML file as a tree that remembers where each value was written.

Leaves the meaning of keys to `reading`. Refuses what a configuration never needs and an accident or an
attacker may bring: duplicate keys, tags, endless nesting, aliases that multiply. Nesting is counted on the
event stream before the tree is composed, because PyYAML composes recursively.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError, SafeConstructor

from studium.errors import ConfigurationError

MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 12
MAX_NODES = 20_000

_TAG = "tag:yaml.org,2002:"
_NUMBERS_AND_WORDS = {f"{_TAG}int", f"{_TAG}float", f"{_TAG}bool", f"{_TAG}null"}
_PLAIN_TAGS = {f"{_TAG}{name}" for name in ("str", "map", "seq", "timestamp", "merge", "value")}


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value. `text` is what was written, `value` what YAML makes of it, `origin` who wrote it."""

    value: object
    text: str
    origin: str


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping. `key_origins` says where each key stands."""

    origin: str
    entries: "dict[str, Node]" = field(default_factory=dict[str, "Node"])
    key_origins: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Listing:
    """A sequence, in the order written."""

    origin: str
    items: "tuple[Node, ...]"


Node = Scalar | Table | Listing


def read_document(path: Path) -> Table:
    """Read the YAML file at `path`. An empty file is an empty table. Raises ConfigurationError."""
    text = _read_text(path)
    try:
        _refuse_bombs(path, text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _syntax_error(path, error) from error
    if root is None:
        return Table(origin=f"{path.name}:1")
    tree = _Tree(path.name).node(root, depth=0)
    if isinstance(tree, Scalar) and tree.value is None:
        return Table(origin=tree.origin)
    if not isinstance(tree, Table):
        raise ConfigurationError(
            f"{tree.origin}: the file holds no keys",
            expected="sections such as 'server:' and 'fleet:' with options below them",
            try_next="start from a working file: studium config init",
        )
    return tree


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise _unreadable(path, "is a directory")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise _unreadable(path, "does not exist") from error
    except OSError as error:
        raise _unreadable(path, f"cannot be read ({error.strerror})") from error
    if len(content) > MAX_FILE_BYTES:
        raise _unreadable(path, f"is larger than {MAX_FILE_BYTES // 1024} KiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"{path.name}:{line}: byte 0x{content[error.start]:02x} is not UTF-8",
            expected="a text file in UTF-8",
            try_next=f"save {path} as UTF-8 in your editor",
        ) from error


def _unreadable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the configuration {path} {why}",
        expected="a YAML file",
        try_next="write one with: studium config init",
    )


def _refuse_bombs(path: Path, text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ConfigurationError(
                f"{path.name}:{event.start_mark.line + 1}: nested more than {MAX_DEPTH} levels deep",
                expected="sections with options, three or four levels in all",
                try_next="look for an unclosed bracket",
            )


def _syntax_error(path: Path, error: yaml.YAMLError) -> ConfigurationError:
    mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    where = f"{path.name}:{mark.line + 1}" if mark is not None else path.name
    return ConfigurationError(
        f"{where}: this is not YAML: {problem}",
        expected="'key: value' lines, indented with spaces",
        try_next=f"correct {path}, or start again from: studium config init",
    )


class _Tree:
    """Turns PyYAML's nodes into ours, counting as it goes: aliases are visited each time they are used."""

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name
        self._seen = 0

    def node(self, node: yaml.Node, depth: int) -> Node:
        origin = self._origin(node)
        self._seen += 1
        if self._seen > MAX_NODES or depth > MAX_DEPTH:
            raise ConfigurationError(
                f"{origin}: the file grows beyond {MAX_NODES:,} values or {MAX_DEPTH} levels",
                expected="a configuration without aliases that repeat one another",
                try_next="write the values out instead of using '*' aliases",
            )
        if node.tag not in _PLAIN_TAGS | _NUMBERS_AND_WORDS:
            raise ConfigurationError(
                f"{origin}: the tag {node.tag!r} is not supported",
                expected="plain values, lists and mappings",
                try_next="remove the tag; put text in quotes",
            )
        if isinstance(node, yaml.MappingNode):
            return self._table(node, origin, depth)
        if isinstance(node, yaml.SequenceNode):
            return Listing(origin, tuple(self.node(item, depth + 1) for item in node.value))
        return Scalar(_plain_value(node), str(node.value), origin)

    def _table(self, node: yaml.MappingNode, origin: str, depth: int) -> Table:
        table = Table(origin)
        for key, key_origin, value in self._pairs(node):
            if key in table.entries:
                raise ConfigurationError(
                    f"{key_origin}: {key!r} is written twice; it stands already at {table.key_origins[key]}",
                    expected="each key once in its section",
                    try_next="keep one of the two",
                )
            table.entries[key] = self.node(value, depth + 1)
            table.key_origins[key] = key_origin
        return table

    def _pairs(self, node: yaml.MappingNode) -> Iterator[tuple[str, str, yaml.Node]]:
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigurationError(
                    f"{self._origin(key_node)}: a list or mapping is used as a key",
                    expected="a word as key",
                    try_next="check for a stray '?', '[' or '{'",
                )
            yield str(key_node.value), self._origin(key_node), value_node

    def _origin(self, node: yaml.Node) -> str:
        return f"{self._file_name}:{node.start_mark.line + 1}"


def _plain_value(node: yaml.Node) -> object:
    """Return what YAML makes of a scalar; text wherever that is in doubt (dates, absurd integers)."""
    if node.tag not in _NUMBERS_AND_WORDS:
        return str(node.value)
    try:
        return SafeConstructor().construct_object(node)  # pyright: ignore[reportUnknownMemberType]
    except (ValueError, KeyError, OverflowError, ConstructorError):
        return str(node.value)
