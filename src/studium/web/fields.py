"""Taking typed values out of a JSON object, with an error that says what was found and what was expected.

Each function returns the value, or `default` where the field is absent or null, and raises BadField
otherwise.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from studium.web.failures import BadField

Json = Mapping[str, Any]
_Choice = TypeVar("_Choice", bound=StrEnum)
_MOST_SHOWN = 60


def shown(value: object) -> str:
    """Return a value for an error message, cut to a length a person reads."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def wrong(param: str, value: object, expected: str, try_next: str = "") -> BadField:
    """Return the error for a field that holds something else than expected."""
    return BadField(param, f"{param} is {shown(value)}", expected=f"expected {expected}", try_next=try_next)


def text(body: Json, param: str, default: str = "") -> str:
    value = body.get(param)
    if value is None:
        return default
    if not isinstance(value, str):
        raise wrong(param, value, "a string")
    return value


def flag(body: Json, param: str, default: bool = False) -> bool:
    value = body.get(param)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise wrong(param, value, "true or false")
    return value


def wish(body: Json, param: str) -> bool | None:
    """Return a boolean; None where the caller leaves it to us."""
    return None if body.get(param) is None else flag(body, param)


def number(body: Json, param: str, low: float, high: float) -> float | None:
    """Return a number from `low` to `high`, both included."""
    value = body.get(param)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise wrong(param, value, f"a number from {low:g} to {high:g}")
    return float(value)


def whole(body: Json, param: str, low: int, high: int) -> int | None:
    """Return a whole number from `low` to `high`, both included."""
    value = body.get(param)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise wrong(param, value, f"a whole number from {low:,} to {high:,}")
    return value


def texts(body: Json, param: str, most: int) -> tuple[str, ...]:
    """Return a list of strings; one string alone counts as a list of one."""
    value = body.get(param)
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or len(value) > most or not all(isinstance(item, str) for item in value):
        raise wrong(param, value, f"a string or a list of at most {most} strings")
    return tuple(value)


def mapping(body: Json, param: str) -> Json:
    """Return an object; an empty one where the field is absent."""
    value = body.get(param)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong(param, value, "an object")
    return value


def choice(body: Json, param: str, choices: type[_Choice]) -> _Choice | None:
    value = body.get(param)
    if value is None:
        return None
    try:
        return choices(value)
    except ValueError:
        raise wrong(param, value, "one of " + ", ".join(choices)) from None
