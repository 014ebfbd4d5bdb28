"""Does a scripted answer follow a JSON schema? Enough of the language for tests, and it says where it ends.

Knows type, enum, const, properties, required, additionalProperties (true or false), items, minItems, maxItems,
minimum, maximum, minLength, maxLength and pattern. Any other keyword that could constrain is refused by name
rather than passed over. Source: JSON Schema 2020-12, "Validation".
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: _is_number(value) and value == int(value),
    "number": _is_number,
}
_BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, bound: not _is_number(value) or value >= bound,
    "maximum": lambda value, bound: not _is_number(value) or value <= bound,
    "minLength": lambda value, bound: not isinstance(value, str) or len(value) >= bound,
    "maxLength": lambda value, bound: not isinstance(value, str) or len(value) <= bound,
    "pattern": lambda value, bound: not isinstance(value, str) or re.search(bound, value) is not None,
    "minItems": lambda value, bound: not isinstance(value, list) or len(value) >= bound,
    "maxItems": lambda value, bound: not isinstance(value, list) or len(value) <= bound,
    "const": lambda value, bound: value == bound,
    "enum": lambda value, bound: value in bound,
}
_STRUCTURE = {"type", "properties", "required", "additionalProperties", "items"}
_NOTES = {"$schema", "$id", "title", "description", "default", "examples"}


def mismatch(text: str, schema: Mapping[str, Any]) -> str | None:
    """Return why `text` does not follow `schema`, or None where it does."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return "it is not JSON"
    try:
        return _value_mismatch(value, schema, "$")
    except (re.error, TypeError, AttributeError) as problem:
        return f"the schema is malformed: {problem}"


def _value_mismatch(value: Any, schema: Mapping[str, Any], where: str) -> str | None:
    unknown = schema.keys() - _BOUNDS.keys() - _STRUCTURE - _NOTES
    if unknown:
        return f"{where}: this check does not know {min(unknown)!r}"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(kind in _TYPES and _TYPES[kind](value) for kind in kinds):
        return f"{where} is not of type {' or '.join(map(str, kinds))}"
    for keyword in schema.keys() & _BOUNDS.keys():
        if not _BOUNDS[keyword](value, schema[keyword]):
            return f"{where} breaks {keyword} {schema[keyword]!r}"
    if isinstance(value, dict):
        return _object_mismatch(value, schema, where)
    if isinstance(value, list) and "items" in schema:
        return _first(_value_mismatch(item, schema["items"], f"{where}[{n}]") for n, item in enumerate(value))
    return None


def _object_mismatch(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> str | None:
    properties: Mapping[str, Any] = schema.get("properties", {})
    missing = [name for name in schema.get("required", []) if name not in value]
    if missing:
        return f"{where} lacks {missing[0]!r}"
    additional = schema.get("additionalProperties", True)
    if not isinstance(additional, bool):
        return f"{where}: this check does not know additionalProperties other than true or false"
    extra = [name for name in value if name not in properties]
    if extra and not additional:
        return f"{where} has {extra[0]!r}, which the schema does not allow"
    return _first(
        _value_mismatch(value[name], properties[name], f"{where}.{name}")
        for name in value
        if name in properties
    )


def _first(problems: Any) -> str | None:
    return next((problem for problem in problems if problem), None)
