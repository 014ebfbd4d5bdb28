"""Sizes and durations as people write them: "8GiB", "500 MB", "30s", "2m".

A unit is always required, because a bare 30 in a file says nothing to its next reader; only zero
needs none. Decimal (kB, MB, GB) and binary (KiB, MiB, GiB) sizes are told apart.
"""

import math
import re

KIB, MIB, GIB = 1024, 1024**2, 1024**3

SIZE_UNITS = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": 1024**4,
}
DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

_QUANTITY = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)", re.IGNORECASE)
_LONGEST = 40


def parse_size(text: str) -> int:
    """Return the bytes `text` stands for. Raises ValueError, which says what was wrong."""
    return round(_quantity(text, SIZE_UNITS, example="512MiB"))


def parse_duration(text: str) -> float:
    """Return the seconds `text` stands for. Raises ValueError, which says what was wrong."""
    return _quantity(text, DURATION_UNITS, example="30s")


def format_size(num_bytes: int) -> str:
    """Write bytes in the largest binary unit that keeps them readable, to two places."""
    for unit, factor in (("TiB", 1024**4), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(num_bytes) >= factor:
            return f"{_plain(num_bytes / factor, places=2)}{unit}"
    return f"{num_bytes}B"


def format_duration(seconds: float) -> str:
    """Write seconds as short text that `parse_duration` reads back."""
    if seconds >= 60 and seconds % 60 == 0:
        return f"{_plain(seconds / 60, places=0)}m"
    return f"{_plain(seconds, places=3)}s"


def _plain(number: float, *, places: int) -> str:
    text = f"{number:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _quantity(text: str, units: dict[str, float] | dict[str, int], *, example: str) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or len(text) > _LONGEST:
        raise ValueError(f"a number and its unit, such as {example}")
    number, unit = float(match["number"]), match["unit"].lower()
    if not unit and number == 0:
        return 0
    if unit not in units:
        raise ValueError(f"a number with one of the units {', '.join(units)}, such as {example}")
    value = number * units[unit]
    if not math.isfinite(value) or value >= 2**63:
        raise ValueError(f"a quantity that fits in this universe, such as {example}")
    return value
