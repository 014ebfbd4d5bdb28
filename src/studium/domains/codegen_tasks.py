"""The tasks of `codegen`: what a function shall do, in words and as a reference, put together from small pieces.

Level 1 is one operation on a number, a text or a list; level 2 keeps or changes the numbers of a list before
bringing them together; level 3 does both, or the like with the words of a text. Inputs hold the values at which
pieces change their mind (k - 1, k, k + 1), and what is empty.
"""

import re
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple


class Piece(NamedTuple):
    """A part of a task: its words and its expression, both with a number {k} in them or without."""

    words: str
    code: str


class Task(NamedTuple):
    """What a function shall do: its argument, the words that follow "a function that", and its body.

    `steps` says how, one step per line of the body; `numbers` are those the words contain.
    """

    argument: str
    words: str
    steps: Sequence[str]
    body: Sequence[str]
    numbers: Sequence[int]


_ON_A_NUMBER = (
    Piece("returns {k} times x plus {j}", "{k} * x + {j}"),
    Piece("returns {k} times x minus {j}", "{k} * x - {j}"),
    Piece("returns the square of x plus {k}", "x * x + {k}"),
    Piece("returns {k} minus x", "{k} - x"),
    Piece("returns True if x is divisible by {k} and False otherwise", "x % {k} == 0"),
    Piece("returns True if x is greater than {k} and False otherwise", "x > {k}"),
    Piece("returns the larger of x and {k}", "max(x, {k})"),
    Piece("returns the smaller of x and {k}", "min(x, {k})"),
    Piece("returns how far x is from {k}, never negative", "abs(x - {k})"),
)
_ON_A_TEXT = (
    Piece("returns the text repeated {k} times", "text * {k}"),
    Piece("returns the first {k} characters of the text", "text[:{k}]"),
    Piece("returns the text without its first {k} characters", "text[{k}:]"),
    Piece("returns True if the text has more than {k} characters and False otherwise", "len(text) > {k}"),
    Piece("returns the number of characters of the text plus {k}", "len(text) + {k}"),
    Piece("returns the text backwards, and of that the first {k} characters", "text[::-1][:{k}]"),
)
_ON_A_LIST = (
    Piece("returns the sum of the numbers plus {k}", "sum(numbers) + {k}"),
    Piece("returns the first {k} numbers as a list", "numbers[:{k}]"),
    Piece("returns the numbers without the first {k} as a list", "numbers[{k}:]"),
    Piece("returns how often {k} occurs among the numbers", "numbers.count({k})"),
    Piece("returns True if {k} is among the numbers and False otherwise", "{k} in numbers"),
)
_KEEP = (
    Piece("that are greater than {k}", "n > {k}"),
    Piece("that are smaller than {k}", "n < {k}"),
    Piece("that are at least {k}", "n >= {k}"),
    Piece("that are not {k}", "n != {k}"),
    Piece("that are divisible by {k}", "n % {k} == 0"),
    Piece("that are even", "n % 2 == 0"),
    Piece("that are odd", "n % 2 != 0"),
)
_CHANGE = (
    Piece("multiplies each by {k}", "n * {k}"),
    Piece("adds {k} to each", "n + {k}"),
    Piece("subtracts {k} from each", "n - {k}"),
    Piece("subtracts each from {k}", "{k} - n"),
    Piece("squares each", "n * n"),
    Piece("takes the remainder of each divided by {k}", "n % {k}"),
)
_BRING_TOGETHER = (
    Piece("returns their sum", "sum(numbers)"),
    Piece("returns how many different values remain", "len(set(numbers))"),
    Piece("returns the largest, or {k} if there is none", "max(numbers, default={k})"),
    Piece("returns the smallest, or {k} if there is none", "min(numbers, default={k})"),
    Piece("returns them as a list, smallest first", "sorted(numbers)"),
    Piece("returns them as a list, largest first", "sorted(numbers, reverse=True)"),
    Piece("returns them as a list in reverse order", "numbers[::-1]"),
    Piece("returns the last {k} of them as a list, in order", "numbers[-{k}:]"),
)
_KEEP_WORDS = (
    Piece("that have more than {k} letters", "len(w) > {k}"),
    Piece("that have at most {k} letters", "len(w) <= {k}"),
    Piece("that contain the letter {letter}", "{letter!r} in w"),
    Piece("that start with the letter {letter}", "w.startswith({letter!r})"),
)
_CHANGE_WORDS = (
    Piece("writes each backwards", "w[::-1]"),
    Piece("writes each in upper case", "w.upper()"),
    Piece("shortens each to {k} letters", "w[:{k}]"),
    Piece("writes each {k} times without a space", "w * {k}"),
)
_BRING_WORDS_TOGETHER = (
    Piece("returns them joined by single spaces", "' '.join(words)"),
    Piece("returns them as a list in alphabetical order", "sorted(words)"),
    Piece("returns them as a list in reverse order", "words[::-1]"),
    Piece("returns the length of the longest, or {k} if there is none", "max(map(len, words), default={k})"),
)
_LETTERS = "aeiost"
_WORDS = (
    *("a", "an", "ox", "so", "oat", "sea", "east", "idea", "note", "tent", "tree"),
    *("stone", "table", "assist", "island", "elephant"),
)

_SLOTS = {"k": r"\d+", "j": r"\d+", "letter": "[a-z]"}


def draw(rng: Random, level: int) -> Task:
    """Return a task of a level."""
    if level == 1:
        argument, pieces = rng.choice((("x", _ON_A_NUMBER), ("text", _ON_A_TEXT), ("numbers", _ON_A_LIST)))
        return _simple(rng, argument, rng.choice(pieces))
    if level == 3 and rng.random() < 0.4:
        return _pipeline(rng, "text", "words", "w", (_KEEP_WORDS, _CHANGE_WORDS, _BRING_WORDS_TOGETHER))
    stages = [_KEEP, _CHANGE]
    chosen = stages if level == 3 else [rng.choice(stages)]
    return _pipeline(rng, "numbers", "numbers", "n", (*chosen, _BRING_TOGETHER))


def inputs(rng: Random, task: Task) -> list[Any]:
    """Return arguments to try a function on: what is empty, what lies at a limit, and what comes by chance."""
    if task.argument == "x":
        near = [number + way for number in task.numbers for way in (-1, 0, 1)]
        return [0, -7, *near, *(rng.randint(-100, 100) for _ in range(5))]
    if task.argument == "numbers":
        return [[], *([number] for number in task.numbers), *(_numbers(rng, task) for _ in range(7))]
    if "words" in "".join(task.body):
        several = (" ".join(rng.choices(_WORDS, k=rng.randint(3, 9))) for _ in range(7))
        lengths = {len(word): word for word in rng.sample(_WORDS, len(_WORDS))}
        return ["", *(lengths[number] for number in task.numbers if number in lengths), *several]
    longest = max(task.numbers, default=0)
    return [
        "",
        *(
            "".join(rng.choices("abcde", k=length))
            for length in (1, longest - 1, longest, longest + 1, longest + 5)
        ),
    ]


def any_words() -> str:
    """Return a regular expression for the words of every task, in lower case."""
    simple = [piece.words for piece in (*_ON_A_NUMBER, *_ON_A_TEXT, *_ON_A_LIST)]
    numbers = rf"takes the numbers{_some(_KEEP)}(?:,{_some(_CHANGE)})? and{_some(_BRING_TOGETHER)}"
    changed = rf"takes the numbers,{_some(_CHANGE)} and{_some(_BRING_TOGETHER)}"
    words = rf"takes the words of the text{_some(_KEEP_WORDS)},{_some(_CHANGE_WORDS)} and{_some(_BRING_WORDS_TOGETHER)}"
    return "|".join([*map(_pattern, simple), numbers, changed, words])


def _simple(rng: Random, argument: str, piece: Piece) -> Task:
    most = {"x": 60, "text": 30, "numbers": 6}[argument]
    slots = {"k": rng.randint(2, most), "j": rng.randint(1, 30)}
    used = [slots[name] for name in slots if f"{{{name}}}" in piece.words]
    words, code = piece.words.format(**slots), piece.code.format(**slots)
    return Task(argument, words, (f"The function {words}.",), (f"return {code}",), used)


def _pipeline(rng: Random, argument: str, plural: str, one: str, stages: Sequence[Sequence[Piece]]) -> Task:
    """Put stages together: keep, change (either may be absent), bring together."""
    start = "takes the words of the text" if plural == "words" else "takes the numbers"
    body = ["words = text.split()"] if plural == "words" else []
    words, numbers, steps = start, [], []
    for stage in stages:
        piece, number, letter = rng.choice(stage), _number(rng, plural, stage), rng.choice(_LETTERS)
        said, code = (part.format(k=number, letter=letter) for part in piece)
        if "{k}" in piece.words:
            numbers.append(number)
        if stage in (_KEEP, _KEEP_WORDS):
            words += f" {said}"
            steps.append(f"Keep the {plural} {said}.")
            body.append(f"{plural} = [{one} for {one} in {plural} if {code}]")
        elif stage in (_CHANGE, _CHANGE_WORDS):
            words += f", {said}"
            steps.append(f"Then: {said}.")
            body.append(f"{plural} = [{code} for {one} in {plural}]")
        else:
            words += f" and {said}"
            steps.append(f"At last: {said}.")
            body.append(f"return {code}")
    return Task(argument, words, steps, body, numbers)


def _number(rng: Random, plural: str, stage: Sequence[Piece]) -> int:
    if plural == "words":
        return rng.randint(2, 5)
    return rng.randint(2, 5) if stage is _BRING_TOGETHER else rng.randint(2, 20)


def _numbers(rng: Random, task: Task) -> list[int]:
    near = [number + way for number in task.numbers for way in (-1, 0, 1)]
    near += [number * times for number in task.numbers for times in (-1, 2, 3)]
    several = [rng.randint(-30, 60) for _ in range(rng.randint(2, 7))] + rng.sample(near, min(len(near), 5))
    rng.shuffle(several)
    return several


def _some(pieces: Sequence[Piece]) -> str:
    return rf" (?:{'|'.join(_pattern(piece.words) for piece in pieces)})"


def _pattern(words: str) -> str:
    parts = re.split(r"\{(\w+)\}", words.casefold())
    return "".join(_SLOTS[part] if place % 2 else re.escape(part) for place, part in enumerate(parts))
