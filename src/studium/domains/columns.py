"""Column arithmetic as steps: units first, every carry and borrow written out.

Arithmetic is made of these; other domains use the one-line forms for sums too large to know by heart.
"""

from collections.abc import Sequence


def plus(a: int, b: int) -> str:
    """Return a + b on one line: "29+45: 9+5=14, carry 1, 2+4+1=7: 74"."""
    return f"{_same_width(a, '+', b)}: {', '.join(add_steps(a, b))}: {a + b}"


def minus(a: int, b: int) -> str:
    """Return a - b on one line, for a >= b."""
    return f"{_same_width(a, '-', b)}: {', '.join(subtract_steps(a, b))}: {a - b}"


def add_steps(a: int, b: int) -> Sequence[str]:
    """Return the columns of a + b: "7+8=15, carry 1", "4+5+1=10"."""
    steps, carry = [], 0
    columns = _columns(a, b)
    for place, (top, bottom) in enumerate(columns):
        total = top + bottom + carry
        shown = f"{top}+{bottom}" + ("+1" if carry else "") + f"={total}"
        carry = total // 10 if place < len(columns) - 1 else 0
        steps.append(shown + (", carry 1" if carry else ""))
    return steps


def subtract_steps(a: int, b: int) -> Sequence[str]:
    """Return the columns of a - b for a >= b: "2-8: borrow, 12-8=4", "4-0-1=3"."""
    steps, borrow = [], 0
    for top, bottom in _columns(a, b):
        taken = f"-{bottom}" + ("-1" if borrow else "")
        short = top - bottom - borrow < 0
        result = top - bottom - borrow + (10 if short else 0)
        steps.append(
            f"{top}{taken}: borrow, {top + 10}{taken}={result}" if short else f"{top}{taken}={result}"
        )
        borrow = int(short)
    return steps


def times_steps(a: int, digit: int) -> Sequence[str]:
    """Return the columns of a times one digit: "7*6=42, carry 4", "4*6=24, 24+4=28"."""
    steps, carry = [], 0
    places = [int(character) for character in reversed(str(a))]
    for place, top in enumerate(places):
        product = top * digit
        total = product + carry
        shown = f"{top}*{digit}={product}" + (f", {product}+{carry}={total}" if carry else "")
        carry = total // 10 if place < len(places) - 1 else 0
        steps.append(shown + (f", carry {carry}" if carry else ""))
    return steps


def _same_width(a: int, sign: str, b: int) -> str:
    width = max(len(str(a)), len(str(b)))
    return f"{a:0{width}}{sign}{b:0{width}}"


def _columns(a: int, b: int) -> Sequence[tuple[int, int]]:
    width = max(len(str(a)), len(str(b)))
    pairs = zip(reversed(f"{a:0{width}}"), reversed(f"{b:0{width}}"), strict=True)
    return [(int(top), int(bottom)) for top, bottom in pairs]
