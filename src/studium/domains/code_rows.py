"""A user's own tasks for `codegen` and `assembly`: the parts of a row that are not texts, and their JSON Schemas."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from studium.domains.rows import row_schema, text_of
from studium.errors import BadRequest

MOST_TESTS = 100
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ADDRESS = re.compile(r"\$[0-9A-Fa-f]{2,4}")


class Calls(NamedTuple):
    """The arguments of each call of a function, and what each returns."""

    arguments: Sequence[Sequence[Any]]
    results: Sequence[Any]


def _with_tests(fields: Mapping[str, str], example: Mapping[str, Any], about: str) -> Mapping[str, Any]:
    schema = row_schema(fields, example)
    tests = {"type": "array", "description": about, "minItems": 1, "maxItems": MOST_TESTS}
    return {
        **schema,
        "properties": {**schema["properties"], "tests": tests},
        "required": [*schema["required"], "tests"],
    }


FUNCTION_SCHEMA = _with_tests(
    {
        "question": "the task in words",
        "function": "the function's name",
        "solution": "a function that is right",
    },
    {
        "question": "Write a Python function area(width, height) that returns the area of a rectangle.",
        "function": "area",
        "solution": "def area(width, height):\n    return width * height",
        "tests": [{"arguments": [2, 3], "result": 6}, {"arguments": [0, 5], "result": 0}],
    },
    "each with the arguments of a call and its result",
)
PROGRAM_SCHEMA = _with_tests(
    {"question": "the task in words", "solution": "a program that is right"},
    {
        "question": "Write a 6502 program that stores twice the byte at $10 at $0200.",
        "solution": "LDA $10; ASL A; STA $0200",
        "tests": [
            {"start": {"$10": 5}, "end": {"$0200": 10}},
            {"start": {"$10": 200}, "end": {"$0200": 144}},
        ],
    },
    "each with bytes of memory at the start and at the end, by address",
)


def function_of(row: Any) -> str:
    """Return the name of the function a row asks for. Raises BadRequest."""
    name = text_of(row, "function")
    if not _IDENTIFIER.fullmatch(name):
        raise BadRequest(f"field 'function' is {name[:60]!r}", expected="the name of a Python function")
    return name


def calls_of(row: Any) -> Calls:
    """Return a row's tests of a function. Raises BadRequest."""
    found = _tests_of(row, ("arguments", "result"))
    if not all(isinstance(test["arguments"], list) for test in found):
        raise BadRequest("field 'tests' has arguments that are no list", expected='"arguments": [1, "two"]')
    return Calls([test["arguments"] for test in found], [test["result"] for test in found])


def cases_of(row: Any) -> list[list[list[list[int]]]]:
    """Return a row's tests of a program: pairs of address and byte, at the start and at the end. Raises BadRequest."""
    found = [[_memory(test["start"]), _memory(test["end"])] for test in _tests_of(row, ("start", "end"))]
    if not all(end for _, end in found):
        raise BadRequest("field 'tests' has an end that names no byte", expected='"end": {"$0200": 10}')
    return found


def _tests_of(row: Any, fields: tuple[str, str]) -> Sequence[Mapping[str, Any]]:
    tests: Any = row.get("tests")
    expected = f"a list of 1 to {MOST_TESTS} objects with {fields[0]} and {fields[1]}"
    if not isinstance(tests, list) or not 0 < len(tests) <= MOST_TESTS:
        raise BadRequest(f"field 'tests' is {json.dumps(tests, default=str)[:60]}", expected=expected)
    for test in tests:
        if not isinstance(test, dict) or not set(fields) <= set(test):
            raise BadRequest(f"field 'tests' holds {json.dumps(test, default=str)[:60]}", expected=expected)
    return tests


def _memory(given: Any) -> list[list[int]]:
    if not isinstance(given, dict) or not all(
        _ADDRESS.fullmatch(str(place)) and type(value) is int and 0 <= value < 256
        for place, value in given.items()
    ):
        raise BadRequest(
            f"field 'tests' holds the memory {json.dumps(given, default=str)[:60]}",
            expected='bytes by address, such as {"$0200": 10}',
        )
    return [[int(place[1:], 16), value] for place, value in given.items()]
