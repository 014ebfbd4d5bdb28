"""Roman numerals as a domain: read one, or write one. A domain is one file that makes, explains and checks problems.

`ExactDomain` is the base for answers that are right or wrong: it reads the last "Answer:" line, refuses hedges, and
compares answers in one canonical form. Level 1 goes up to 20, level 2 up to 100, level 3 up to 3,999.
"""

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from studium.domains.exact import ExactDomain
from studium.domains.protocol import Problem, Rule
from studium.domains.rows import row_schema, text_of
from studium.domains.wording import Phrasebook, Reading
from studium.errors import BadRequest

VALUES = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL")),
    *((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)
LARGEST = {1: 20, 2: 100, 3: 3999}
NUMERAL = re.compile(r"\b[IVXLCDM]+\b")
NUMBER = re.compile(r"\b\d+\b")
TEMPLATES = {
    "read": ("What number is the Roman numeral {numeral}?", "Read the Roman numeral {numeral}."),
    "write": ("Write {number} as a Roman numeral.", "What is {number} in Roman numerals?"),
}


class Roman(ExactDomain):
    """Read and write Roman numerals."""

    name = "roman"
    metrics = ("accuracy",)
    rules: Sequence[Rule] = (
        Rule("largest first", "Take the largest symbol that fits, as often as it fits, then the next."),
        Rule("answer", "End with a line 'Answer: ' and the number or the numeral."),
    )
    phrases = Phrasebook(TEMPLATES, {"numeral": "[ivxlcdm]+", "number": r"\d{1,4}"})
    schema = row_schema(
        {"question": "to read or write a Roman numeral", "answer": "the number or the numeral"},
        {"question": "What is 14 in Roman numerals?", "answer": "XIV"},
    )

    def make(self, rng: Random, level: int) -> Problem:
        """Return a fresh problem. Equal states of `rng` give equal problems."""
        number, task = rng.randint(1, LARGEST[level]), rng.choice(("read", "write"))
        prompt = self.phrases.ask(rng, task, number=number, numeral=numeral(number))
        return self._problem(task, number, prompt, level)

    def canonical(self, answer: str) -> str | None:
        """Return the one number or numeral in an answer, None where there is none, or several."""
        found = set(NUMBER.findall(answer)) or set(NUMERAL.findall(answer.upper()))
        return found.pop() if len(found) == 1 else None

    def answer_to(self, reading: Reading) -> str | None:
        """Return the right answer to a plain question: `studium ask` can then be graded too."""
        if reading.task == "write":
            return numeral(int(reading.slots["number"]))
        number = value(reading.slots["numeral"].upper())
        return None if number is None else str(number)

    def problem_of(self, row: Mapping[str, Any]) -> Problem:
        """Read a row of a user's file, for `studium eval run --file`."""
        question = text_of(row, "question")
        reading = self.phrases.read(question)
        right = self.answer_to(reading) if reading else None
        if reading is None or right is None:
            raise BadRequest(f"field 'question' is {question[:60]!r}", expected="a question about a numeral")
        if self.canonical(text_of(row, "answer")) != right:
            raise BadRequest(f"field 'answer' is {row['answer']!r}", expected=right)
        number = int(right) if reading.task == "read" else int(reading.slots["number"])
        return self._problem(reading.task, number, question, 0)

    def _problem(self, task: str, number: int, prompt: str, level: int) -> Problem:
        return Problem(
            domain=self.name,
            key=f"{task} {number}",
            prompt=prompt,
            steps=tuple(f"{symbol} is {worth}" for worth, symbol in parts(number)),
            expected=str(number) if task == "read" else numeral(number),
            level=level,
            facts={"task": task, "number": number},
        )


def parts(number: int) -> list[tuple[int, str]]:
    """Return the values and symbols a number is made of, the largest first."""
    found: list[tuple[int, str]] = []
    for worth, symbol in VALUES:
        while number >= worth:
            found.append((worth, symbol))
            number -= worth
    return found


def numeral(number: int) -> str:
    return "".join(symbol for _, symbol in parts(number))


def value(text: str) -> int | None:
    """Return what a numeral is worth; None where it is not written as the rules want it."""
    return next((number for number in range(1, LARGEST[3] + 1) if numeral(number) == text), None)
