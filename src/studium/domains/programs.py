"""Small programs and expressions, worked out by hand.

Level 1 evaluates two operations in the usual precedence, level 2 up to three with parentheses,
level 3 traces three or four assignments, each of which uses the one before. All values stay between 0
and 60, products have factors of one digit. Each step carries out one operation; in a trace the assignment
is first copied as the program writes it and its outcome follows, so that every value needed next stands
in the line before.
"""

import re
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from studium.domains.columns import minus, plus
from studium.domains.exact import ExactDomain
from studium.domains.numbers import only_integer
from studium.domains.protocol import Problem, Rule
from studium.domains.wording import Phrasebook

_TEMPLATES = {
    "evaluate": (
        "What is {expression}?",
        "Evaluate {expression}.",
        "{expression} = ?",
        "Compute {expression}.",
        "What is the value of {expression}?",
        "Work out {expression}.",
        "Calculate {expression}.",
        "{expression}",
        "What does {expression} evaluate to?",
    ),
    "trace": (
        "{program} What is {name}?",
        "Run this program: {program} What is {name}?",
        "After {program} what is {name}?",
        "Trace: {program} What is the value of {name}?",
        "{program} print({name})",
        "What is {name} after this program? {program}",
        "What does this print? {program} print({name})",
        "Given {program} find {name}.",
    ),
}
_NAMES = "abcknxyz"
# How often a line gives an earlier name a new value instead of introducing a name.
_REASSIGNED = 0.3
_VALUE = r"(?:\d+|[a-z])"
_ASSIGNMENT = rf"[a-z]={_VALUE}(?:[-+*]{_VALUE})?"
_SLOTS = {
    "expression": r"(?=(?:[^-+*]*[-+*]){2})[(]*\d+(?:[()]*[-+*][()]*\d+)+[)]*",
    "program": rf"{_ASSIGNMENT}(?:[; ]+{_ASSIGNMENT})+;?",
    "name": "[a-z]",
}
_LARGEST = 60
_OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


class _Worked(NamedTuple):
    task: str
    text: str
    slots: dict[str, object]
    steps: Sequence[str]
    answer: int


class _Term(NamedTuple):
    """A part of an expression: its text, its value, and how tightly its last operation binds."""

    text: str
    value: int
    binds: int
    steps: tuple[str, ...]


class _Trace(NamedTuple):
    """Assignments, how they are carried out, and the name and value assigned last."""

    lines: Sequence[str]
    steps: Sequence[str]
    name: str
    value: int


class Programs(ExactDomain):
    """Evaluate expressions and trace assignments."""

    name = "programs"
    rules: Sequence[Rule] = (
        Rule("precedence", "Parentheses first, then products, then sums and differences from the left."),
        Rule("one at a time", "One operation per step; an assignment uses the latest values."),
        Rule("answer", "End with a line 'Answer: ' and the number."),
    )
    phrases = Phrasebook(_TEMPLATES, _SLOTS)

    def make(self, rng: Random, level: int) -> Problem:
        worked = _program(rng) if level == 3 else _expression(rng, level)
        return Problem(
            domain=self.name,
            key=worked.text,
            prompt=self.phrases.ask(rng, worked.task, **worked.slots),
            steps=tuple(worked.steps),
            expected=str(worked.answer),
            level=level,
            facts={"task": worked.task, **worked.slots},
        )

    def canonical(self, answer: str) -> str | None:
        return only_integer(answer)


def _expression(rng: Random, level: int) -> _Worked:
    while True:
        term = _level_one(rng) if level == 1 else _level_two(rng)
        if term is not None:
            spaced = rng.random() < 0.7
            shown = re.sub(r"([-+*])", r" \1 ", term.text) if spaced else term.text
            return _Worked("evaluate", term.text, {"expression": shown}, term.steps, term.value)


def _level_one(rng: Random) -> _Term | None:
    first, second, third = (_leaf(rng) for _ in range(3))
    left, right = rng.choice("+-*"), rng.choice("+-*")
    if right == "*" and left != "*":
        return _combine(first, left, _combine(second, right, third))
    return _combine(_combine(first, left, second), right, third)


def _level_two(rng: Random) -> _Term | None:
    inner = _combine(_leaf(rng), rng.choice("+-"), _leaf(rng))
    middle = rng.choice("+-*")
    term = _combine(inner, middle, _leaf(rng)) if rng.random() < 0.5 else _combine(_leaf(rng), middle, inner)
    return _combine(term, rng.choice("+-"), _leaf(rng)) if rng.random() < 0.5 else term


def _leaf(rng: Random) -> _Term:
    value = rng.randint(1, 9) if rng.random() < 0.8 else rng.randint(10, 20)
    return _constant(value)


def _combine(left: _Term | None, sign: str, right: _Term | None) -> _Term | None:
    """Join two terms, with parentheses where the signs need them; None outside the allowed values."""
    if left is None or right is None or (sign == "*" and max(left.value, right.value) > 9):
        return None
    value = _OPERATIONS[sign](left.value, right.value)
    if not 0 <= value <= _LARGEST:
        return None
    binds = 2 if sign == "*" else 1
    shown_left = f"({left.text})" if left.binds < binds else left.text
    shown_right = f"({right.text})" if right.binds < binds or (right.binds == binds) else right.text
    step = _operation(left.value, sign, right.value, value)
    return _Term(f"{shown_left}{sign}{shown_right}", value, binds, (*left.steps, *right.steps, step))


def _operation(left: int, sign: str, right: int, value: int) -> str:
    """Write one operation as a step; sums with numbers of two digits in columns."""
    if sign == "*" or max(left, right) < 10:
        return f"{left}{sign}{right}={value}"
    return plus(left, right) if sign == "+" else minus(left, right)


def _program(rng: Random) -> _Worked:
    lines = rng.randint(3, 4)
    while True:
        trace = _trace(rng, rng.sample(_NAMES, lines))
        if trace is not None:
            break
    separator = rng.choice(("; ", "; ", "\n"))
    shown = separator.join(trace.lines) + (";" if separator == "; " else "\n")
    slots: dict[str, object] = {"program": shown, "name": trace.name}
    return _Worked("trace", "; ".join(trace.lines), slots, trace.steps, trace.value)


def _trace(rng: Random, names: Sequence[str]) -> _Trace | None:
    """Return as many assignments as names, carried out, or None where a value left the allowed range.

    Each uses the value assigned last, and gives it to that name again or to a new one.
    """
    name, value = names[0], rng.randint(1, 9)
    lines = [f"{name} = {value}"]
    steps = [lines[0]]
    for new_name in names[1:]:
        sign = rng.choice("+-*")
        operand = name if rng.random() < 0.15 else str(rng.randint(1, 9))
        result = _combine(_constant(value), sign, _constant(value if operand == name else int(operand)))
        if result is None:
            return None
        target = name if rng.random() < _REASSIGNED else new_name
        lines.append(f"{target} = {name} {sign} {operand}")
        name, value = target, result.value
        steps += [lines[-1], *result.steps, f"{name} = {value}"]
    return _Trace(lines, steps, name, value)


def _constant(value: int) -> _Term:
    return _Term(str(value), value, 3, ())
