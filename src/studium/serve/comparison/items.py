"""What a comparison asks: fresh problems of domains, or the questions of a user's file, each with its grader."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import orjson

from studium.domains.catalogue import domain as domain_named
from studium.domains.catalogue import recognise
from studium.domains.open_question import OPEN_QUESTION
from studium.domains.protocol import Domain, Problem, Split, make_split
from studium.errors import BadRequest, CallerError

MOST_ITEMS, LONGEST_LINE_BYTES = 100_000, 1 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """One question with what it takes to grade a reply to it. `expected` is the right answer as a domain reads it."""

    question: str
    expected: str
    domain: Domain
    problem: Problem | None = None

    def grade(self, reply: str) -> float | None:
        """Return the score of a reply, 0 to 1; None where it cannot be graded."""
        if self.problem is not None:
            return self.domain.verify(self.problem, reply)
        answer = self.domain.extract(reply)
        return 0.0 if answer is None else float(self.domain.same(answer, self.expected))


def fresh_items(names: Sequence[str], number: int, seed: int, side: Split = Split.FRESH) -> list[Item]:
    """Return `number` problems of each domain that nobody was trained on, all levels in turn, mixed."""
    items: list[Item] = []
    for name in names:
        domain, rng = domain_named(name), Random(f"{seed}/{side}/{name}")
        for index in range(number):
            problem = make_split(domain, rng, domain.levels[index % len(domain.levels)], side)
            items.append(Item(problem.prompt, problem.expected, domain, problem))
    Random(seed).shuffle(items)
    return items


def items_of_file(path: Path) -> list[Item]:
    """Read questions from a JSONL file: `question`, `answer`, and if it is to be graded as one `domain`.

    Raises BadRequest naming the line that offends.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadRequest(
            f"{path} cannot be read: {error.strerror}",
            expected='a JSONL file with lines like {"question": "...", "answer": "..."}',
        ) from error
    items = [_item(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not items or len(items) > MOST_ITEMS:
        raise BadRequest(f"{path} holds {len(items):,} questions", expected=f"1 to {MOST_ITEMS:,}")
    return items


def _item(path: Path, number: int, line: bytes) -> Item:
    try:
        if len(line) > LONGEST_LINE_BYTES:
            raise ValueError(f"{len(line):,} bytes long")
        row: dict[str, Any] = orjson.loads(line)
        question, answer = row["question"], str(row["answer"])
        if not isinstance(question, str) or not question.strip() or not answer.strip():
            raise ValueError("question or answer is empty")
        domain = domain_named(row["domain"]) if row.get("domain") else recognise(question) or OPEN_QUESTION
    except (ValueError, KeyError, TypeError, AttributeError, CallerError) as error:
        raise BadRequest(
            f"{path.name}:{number}: {type(error).__name__}: {str(error)[:200]}",
            expected='an object such as {"question": "What is 2 + 2?", "answer": "4"}',
            try_next="correct the line, or remove it",
        ) from error
    return Item(question, domain.extract(answer) or answer, domain)
