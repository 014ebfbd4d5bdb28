"""Lists of numbers: put in order, counted, searched for the largest and the smallest.

Level 1 has three or four numbers of one digit, level 2 five or six, level 3 three to five numbers of
two digits, all different but for the one that is counted. Sorting is answered at once; counting
goes through the list and keeps a tally.
"""

import re
from collections.abc import Sequence
from random import Random

from studium.domains.exact import ExactDomain
from studium.domains.protocol import Problem, Rule
from studium.domains.wording import Phrasebook, Reading

_TEMPLATES = {
    "ascending": (
        "Sort: {list}",
        "Sort {list}.",
        "Sort these numbers: {list}",
        "Sort the list {list}.",
        "Sort in ascending order: {list}",
        "Sort {list} from smallest to largest.",
        "Put these numbers in order: {list}",
        "Arrange in increasing order: {list}",
        "Order these from low to high: {list}",
        "Put {list} in ascending order.",
    ),
    "descending": (
        "Sort in descending order: {list}",
        "Sort {list} in descending order.",
        "Sort {list} from largest to smallest.",
        "Sort these from high to low: {list}",
        "Arrange in decreasing order: {list}",
        "Order these from high to low: {list}",
        "Sort in reverse: {list}",
    ),
    "count": (
        "How many times does {value} appear in {list}?",
        "How often does {value} occur in {list}?",
        "Count the {value}s in {list}.",
        "How many {value}s are in {list}?",
        "Count how many times {value} is in {list}.",
        "In the list {list}, how often is there a {value}?",
    ),
    "largest": (
        "What is the largest of {list}?",
        "Which is the biggest number in {list}?",
        "Find the maximum of {list}.",
        "max: {list}",
        "What is the greatest number: {list}?",
        "Which of these is the largest: {list}?",
    ),
    "smallest": (
        "What is the smallest of {list}?",
        "Which is the smallest number in {list}?",
        "Find the minimum of {list}.",
        "min: {list}",
        "What is the least number: {list}?",
        "Which of these is the smallest: {list}?",
    ),
    "length": (
        "How many numbers are in {list}?",
        "Count the numbers: {list}",
        "How many numbers are there in the list {list}?",
        "How long is the list {list}?",
    ),
}
_TASKS = ("ascending", "ascending", "descending", "count", "largest", "smallest", "length")
_LENGTHS = {1: (3, 4), 2: (5, 6), 3: (3, 5)}
_RANGES = {1: (0, 9), 2: (0, 9), 3: (10, 99)}
_NUMBER = re.compile(r"\d+")
# A comma parts two numbers of a list; so does a dash, but for one that begins a number.
_NOT_WHOLE = re.compile(r"(?<!\.)\.\d|(?<!\w)[-−–]\d|^\W*[-−–]\s*\d|\b(?:minus|negative)\W*\d", re.IGNORECASE)
_SEPARATORS = (", ", ", ", ", ", ",", " ")


class Sorting(ExactDomain):
    """Sort, count and compare short lists of numbers."""

    name = "sorting"
    rules: Sequence[Rule] = (
        Rule("keep", "Every number of the list appears in the sorted list, as often as in the list."),
        Rule("order", "Ascending unless the question says descending."),
        Rule("answer", "End with a line 'Answer: ' and the numbers, separated by commas."),
    )
    phrases = Phrasebook(_TEMPLATES, {"list": r"\d+(?:(?:, ?| ?; ?| )(?:and )?\d+)+", "value": r"\d+"})

    def make(self, rng: Random, level: int) -> Problem:
        task = rng.choice(_TASKS)
        smallest, largest = _RANGES[level]
        numbers = rng.sample(range(smallest, largest + 1), rng.randint(*_LENGTHS[level]))
        value = rng.choice(numbers)
        if task == "count":
            numbers = [value if rng.random() < 0.3 else number for number in numbers]
        shown = rng.choice(_SEPARATORS).join(map(str, numbers))
        return Problem(
            domain=self.name,
            key=f"{task} {value if task == 'count' else ''}: {_joined(numbers)}",
            prompt=self.phrases.ask(rng, task, list=shown, value=value),
            steps=tuple(_steps(task, numbers, value)),
            expected=_answer(task, numbers, value),
            level=level,
            facts={"task": task, "numbers": tuple(numbers), "value": value},
        )

    def canonical(self, answer: str) -> str | None:
        return None if _NOT_WHOLE.search(answer) else _joined(_NUMBER.findall(answer)) or None

    def answer_to(self, reading: Reading) -> str | None:
        numbers = [int(number) for number in _NUMBER.findall(reading.slots["list"])]
        return _answer(reading.task, numbers, int(reading.slots.get("value", 0)))


def _steps(task: str, numbers: Sequence[int], value: int) -> Sequence[str]:
    """Return the tally of a counting task ("4 no, 7 yes 1, ..."); the other tasks have no steps."""
    if task == "length":
        return [", ".join(f"{number}: {place}" for place, number in enumerate(numbers, start=1))]
    if task != "count":
        return []
    tally, seen = [], 0
    for number in numbers:
        seen += number == value
        tally.append(f"{number} yes {seen}" if number == value else f"{number} no")
    return [", ".join(tally)]


def _answer(task: str, numbers: Sequence[int], value: int) -> str:
    if task in ("ascending", "descending"):
        return _joined(sorted(numbers, reverse=task == "descending"))
    answers = {"count": numbers.count(value), "largest": max(numbers), "smallest": min(numbers)}
    return str(answers.get(task, len(numbers)))


def _joined(numbers: Sequence[object]) -> str:
    return ", ".join(map(str, numbers))
