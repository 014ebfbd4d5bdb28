"""From a document tree to frozen dataclasses, guided by their annotations.

A field is `Annotated[type, kind]`: the kind reads one scalar (see `kinds`). Fields may also be dataclasses
(sections), `tuple[X, ...]` (lists) and `Mapping[str, X]` (tables with free keys). The key in the file is the
field's name without its unit suffix, since the value in the file carries the unit.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from studium.config.document import Listing, Node, Scalar, Table
from studium.config.kinds import NAME_PATTERN, Expected, Kind
from studium.errors import ConfigurationError

_UNIT_SUFFIXES = ("_bytes", "_s")
_SECRET_KEYS = {"api_key", "apikey", "api_keys", "key", "token", "password", "secret", "authorization"}


@dataclass(frozen=True, slots=True)
class Reading:
    """One pass over a document; `origins` collects where each value came from, by dotted path."""

    origins: dict[str, str] = field(default_factory=dict[str, str])

    def section(self, cls: type[Any], node: Node, path: str, base: Any = None) -> Any:
        """Read `node` as the dataclass `cls`; keys not given keep the values of `base`."""
        if isinstance(node, Scalar) and node.value is None:
            node = Table(node.origin)
        if not isinstance(node, Table):
            raise _mistake(node, path, "a section with keys of its own")
        hints = get_type_hints(cls, include_extras=True)
        fields = {key_of(item.name): item for item in dataclasses.fields(cls)}
        _refuse_unknown(node, path, list(fields))
        given: dict[str, object] = {}
        for key, child in node.entries.items():
            item = fields[key]
            default = getattr(base, item.name, None) if base is not None else _default(item)
            given[item.name] = self._value(hints[item.name], child, join(path, key), default)
        if base is not None:
            return dataclasses.replace(base, **given)
        _refuse_missing(cls, node, path, given)
        return cls(**given)

    def _value(self, hint: Any, node: Node, path: str, default: object) -> object:
        if get_origin(hint) is Annotated:
            return self._scalar(get_args(hint)[1], node, path)
        if dataclasses.is_dataclass(hint):
            return self.section(hint, node, path, default)  # pyright: ignore[reportArgumentType]
        if get_origin(hint) is tuple:
            return self._listing(get_args(hint)[0], node, path)
        return self._table(get_args(hint)[1], node, path)

    def _scalar(self, kind: Kind, node: Node, path: str) -> object:
        if not isinstance(node, Scalar):
            raise _mistake(node, path, "a single value")
        try:
            value = kind.read(node)
        except Expected as error:
            raise _mistake(node, path, str(error), secret=kind.secret) from error
        self.origins[path] = node.origin
        return value

    def _listing(self, hint: Any, node: Node, path: str) -> tuple[object, ...]:
        if not isinstance(node, Listing):
            raise _mistake(node, path, "a list, one '- ' line per item")
        self.origins[path] = node.origin
        return tuple(
            self._value(hint, item, f"{path}.{_label(item, number)}", None)
            for number, item in enumerate(node.items, start=1)
        )

    def _table(self, hint: Any, node: Node, path: str) -> Mapping[str, object]:
        if not isinstance(node, Table):
            raise _mistake(node, path, "keys with values")
        self.origins[path] = node.origin
        return {key: self._value(hint, child, join(path, key), None) for key, child in node.entries.items()}


def key_of(field_name: str) -> str:
    """Return the key in the file for a dataclass field: its name without the unit."""
    for suffix in _UNIT_SUFFIXES:
        field_name = field_name.removesuffix(suffix)
    return field_name


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _label(node: Node, number: int) -> str:
    """Call a list's item by its name where it has one, else by its place, counted from 1."""
    if isinstance(node, Table):
        name = node.entries.get("name")
        if isinstance(name, Scalar) and NAME_PATTERN.fullmatch(name.text):
            return name.text
    return str(number)


def _default(item: "dataclasses.Field[Any]") -> object:
    if item.default is not dataclasses.MISSING:
        return item.default
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else None


def _refuse_unknown(node: Table, path: str, known: list[str]) -> None:
    for key, origin in node.key_origins.items():
        if key in known:
            continue
        if key.lower() in _SECRET_KEYS:
            raise _secret_in_file(origin, join(path, key))
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        place = f"in {path!r}" if path else "at the top"
        raise ConfigurationError(
            f"{origin}: unknown key {key[:80]!r} {place}",
            expected=f"one of {', '.join(known)}",
            try_next=f"did you mean {near[0]!r}?" if near else "remove it, or see: studium config show",
        )


def _secret_in_file(origin: str, path: str) -> ConfigurationError:
    return ConfigurationError(
        f"{origin}: {path} would put a secret into the file",
        expected="the name of an environment variable that holds it",
        try_next="export it there and write 'api_key_env: MY_API_KEY'; replace a key that was shared",
    )


def _refuse_missing(cls: type[Any], node: Table, path: str, given: dict[str, object]) -> None:
    for item in dataclasses.fields(cls):
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and item.name not in given:
            raise ConfigurationError(
                f"{node.origin}: {path} has no {key_of(item.name)!r}",
                expected=f"a '{key_of(item.name)}:' line",
                try_next="compare with the example: studium config init",
            )


def _mistake(node: Node, path: str, expected: str, *, secret: bool = False) -> ConfigurationError:
    if isinstance(node, Scalar):
        shown = "holds something else (not shown)" if secret else f"is {node.text[:80]!r}"
    else:
        shown = "is a list" if isinstance(node, Listing) else "is a section"
    return ConfigurationError(
        f"{node.origin}: {path} {shown}",
        expected=expected,
        try_next="correct it there; 'studium config show --origin' lists every value",
    )
