"""Rows of a user's own file: their fields read with care, and the JSON Schema that describes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from studium.errors import BadRequest

LONGEST_CHARACTERS = 20_000


def row_schema(
    fields: Mapping[str, str], example: Mapping[str, str], choices: Mapping[str, Sequence[str]] | None = None
) -> Mapping[str, Any]:
    """Return the JSON Schema of a row of texts: each field with what it says, and where it has, its choices."""
    limits = {name: {"enum": list(values)} for name, values in (choices or {}).items()}
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": about, **limits.get(name, {"minLength": 1})}
            for name, about in fields.items()
        },
        "required": list(fields),
        "examples": [dict(example)],
    }


def text_of(row: Any, field: str) -> str:
    """Return a field's text, without white space around it. Raises BadRequest naming the field."""
    if not isinstance(row, Mapping):
        raise BadRequest(f"the row is a {type(row).__name__}", expected="an object with fields")
    value = row.get(field)
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_CHARACTERS:
        found = "is missing" if field not in row else f"is {str(value)[:60]!r}"
        raise BadRequest(
            f"field {field!r} {found}",
            expected=f"a text of 1 to {LONGEST_CHARACTERS:,} characters",
            try_next="correct the row, or remove it",
        )
    return value.strip()


def choice_of(row: Any, field: str, choices: Sequence[str]) -> str:
    """Return a field that is one of `choices`, in any case. Raises BadRequest naming the field."""
    value = text_of(row, field).casefold()
    if value not in choices:
        raise BadRequest(f"field {field!r} is {value[:60]!r}", expected=f"one of {', '.join(choices)}")
    return value
