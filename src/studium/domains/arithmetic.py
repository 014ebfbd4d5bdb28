"""Sums, differences and products with one digit, worked column by column as at school.

Level 1 has numbers of one or two digits, level 2 two or three, level 3 up to four. Differences are
never negative. The first step writes the numbers to one width, the others go from the units to the
left and write every carry and borrow: that is what makes the task learnable for a model of a few
hundred thousand parameters (without the first step it read the wrong columns).
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from studium.domains.columns import add_steps, subtract_steps, times_steps
from studium.domains.exact import ExactDomain
from studium.domains.numbers import only_integer
from studium.domains.protocol import Problem, Rule
from studium.domains.rows import row_schema, text_of
from studium.domains.wording import Phrasebook, Reading
from studium.errors import BadRequest

_TEMPLATES = {
    "add": (
        "What is {a} + {b}?",
        "{a}+{b}=?",
        "{a} + {b}",
        "Compute {a} + {b}.",
        "Calculate {a} plus {b}.",
        "How much is {a} plus {b}?",
        "Add {a} and {b}.",
        "What is the sum of {a} and {b}?",
        "What's {a}+{b}?",
        "Find {a} + {b}.",
        "Work out {a}+{b}.",
        "What do {a} and {b} add up to?",
    ),
    "subtract": (
        "What is {a} - {b}?",
        "{a}-{b}=?",
        "{a} - {b}",
        "Compute {a} - {b}.",
        "Calculate {a} minus {b}.",
        "How much is {a} minus {b}?",
        "Subtract {b} from {a}.",
        "What is the difference between {a} and {b}?",
        "What's {a}-{b}?",
        "Find {a} - {b}.",
        "Take {b} away from {a}.",
        "Work out {a}-{b}.",
    ),
    "times": (
        "What is {a} * {b}?",
        "{a}*{b}=?",
        "{a} x {b}",
        "What is {a} x {b}?",
        "Compute {a} * {b}.",
        "Calculate {a} times {b}.",
        "How much is {a} times {b}?",
        "Multiply {a} by {b}.",
        "What is the product of {a} and {b}?",
        "What's {a}*{b}?",
        "Find {a} * {b}.",
        "Work out {a} x {b}.",
    ),
}
_SIGNS = {"add": "+", "subtract": "-", "times": "*"}
_DIGITS = {1: (1, 2), 2: (2, 3), 3: (3, 4)}


class Arithmetic(ExactDomain):
    """Add, subtract, and multiply by one digit."""

    name = "arithmetic"
    rules: Sequence[Rule] = (
        Rule("width", "First write both numbers with equally many digits, zeros in front."),
        Rule("columns", "Work from the units column to the left, one step per column."),
        Rule("carry", "Where a column gives ten or more, write its units and carry the rest."),
        Rule("borrow", "Where a column is too small to subtract, borrow one from the next."),
        Rule("answer", "End with a line 'Answer: ' and the number."),
    )
    phrases = Phrasebook(_TEMPLATES, {"a": r"\d+", "b": r"\d+"})
    schema = row_schema(
        {
            "question": "a sum, a difference that is not negative, or a product with one digit",
            "answer": "the number",
        },
        {"question": "What is 47 + 58?", "answer": "105"},
    )

    def make(self, rng: Random, level: int) -> Problem:
        task = rng.choice(("add", "subtract", "times"))
        a, b = _operands(rng, task, _DIGITS[level])
        return self._problem(task, a, b, self.phrases.ask(rng, task, a=a, b=b), level)

    def problem_of(self, row: Mapping[str, Any]) -> Problem:
        question, answer = text_of(row, "question"), self.canonical(text_of(row, "answer"))
        reading = self.phrases.read(question)
        a, b = (int(reading.slots[slot]) for slot in "ab") if reading else (0, 0)
        if reading is None or (reading.task == "subtract" and a < b) or (reading.task == "times" and b > 9):
            raise BadRequest(
                f"field 'question' is {question[:60]!r}",
                expected=self.schema["properties"]["question"]["description"],
            )
        problem = self._problem(reading.task, a, b, question, 0)
        if answer != problem.expected:
            raise BadRequest(
                f"field 'answer' is {answer or 'no number'}", expected=f"{problem.expected}, which is right"
            )
        return problem

    def _problem(self, task: str, a: int, b: int, prompt: str, level: int) -> Problem:
        work = {"add": add_steps, "subtract": subtract_steps, "times": times_steps}[task]
        answer = {"add": a + b, "subtract": a - b, "times": a * b}[task]
        return Problem(
            domain=self.name,
            key=f"{a}{_SIGNS[task]}{b}",
            prompt=prompt,
            steps=(_restated(task, a, b), *work(a, b)),
            expected=str(answer),
            level=level,
            facts={"task": task, "a": a, "b": b},
        )

    def canonical(self, answer: str) -> str | None:
        return only_integer(answer)

    def answer_to(self, reading: Reading) -> str | None:
        a, b = int(reading.slots["a"]), int(reading.slots["b"])
        return str({"add": a + b, "subtract": a - b, "times": a * b}[reading.task])


def _operands(rng: Random, task: str, digits: tuple[int, int]) -> tuple[int, int]:
    a, b = (_number(rng, rng.choice(digits)) for _ in range(2))
    if task == "times":
        return max(a // 10, 1) if digits == (3, 4) and a > 999 else a, rng.randint(2, 9)
    return (max(a, b), min(a, b)) if task == "subtract" else (a, b)


def _restated(task: str, a: int, b: int) -> str:
    width = 1 if task == "times" else max(len(str(a)), len(str(b)))
    return f"{a:0{width}}{_SIGNS[task]}{b:0{width}}"


def _number(rng: Random, digits: int) -> int:
    return rng.randint(10 ** (digits - 1) if digits > 1 else 1, 10**digits - 1)
