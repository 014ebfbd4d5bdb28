"""What is asked: fresh problems of domains, or the rows of a user's file, each with what it takes to grade a reply."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import orjson

from studium.domains.catalogue import recognise, trusted
from studium.domains.open_question import OPEN_QUESTION
from studium.domains.protocol import Domain, Problem, ReadsRows, Split, make_split
from studium.errors import BadRequest, CallerError

MOST_ITEMS, LONGEST_LINE_BYTES = 100_000, 1 << 20
_DRAWS_AT_A_LEVEL, _DRAWS_IN_VAIN = 200, 1000


@dataclass(frozen=True, slots=True)
class Item:
    """One question with what it takes to grade a reply to it. `expected` is the right answer as a domain reads it."""

    question: str
    expected: str
    domain: Domain
    problem: Problem | None = None

    @property
    def id(self) -> str:
        """What tells items apart, whatever the wording: 16 hexadecimal digits."""
        key = self.problem.key if self.problem else f"{self.question}\n{self.expected}"
        return sha256(f"{self.domain.name}\n{key}".encode()).hexdigest()[:16]

    @property
    def level(self) -> int | None:
        return self.problem.level if self.problem else None

    @property
    def reference(self) -> str:
        """A right reply: the worked solution, or the answer alone where none is known."""
        return self.domain.solution(self.problem) if self.problem else self.expected

    def grade(self, reply: str) -> float | None:
        """Return the score of a reply, 0 to 1; None where it cannot be graded."""
        if self.problem is not None:
            return self.domain.verify(self.problem, reply)
        answer = self.domain.extract(reply)
        return 0.0 if answer is None else float(self.domain.same(answer, self.expected))


def fresh_items(
    names: Sequence[str],
    number: int,
    seed: int,
    side: Split = Split.FRESH,
    *,
    levels: Sequence[int] = (),
) -> list[Item]:
    """Return `number` different problems of each domain that nobody was trained on, mixed.

    Levels, all of them if none is named, take turns. Raises CallerError for a level a domain does not have, or
    where it does not have so many problems.
    """
    items = [item for name in names for item in fresh_of(name, number, seed, side, levels=levels)]
    Random(seed).shuffle(items)
    return items


def fresh_of(
    name: str, number: int, seed: int, side: Split = Split.FRESH, *, levels: Sequence[int] = ()
) -> list[Item]:
    """Return `number` different problems of one domain as they are drawn: of more the first are the same.

    Raises as `fresh_items` does.
    """
    domain = trusted(name)
    return _of_one(domain, number, Random(f"{seed}/{side}/{name}"), side, levels or domain.levels)


def items_of_file(path: Path, domain: Domain | None = None) -> list[Item]:
    """Read a JSONL file: rows in the form of `domain`, else `question`, `answer` and, if you like, `domain`.

    Raises BadRequest naming the line and the field that offends.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadRequest(
            f"{path} cannot be read: {error.strerror}",
            expected='a JSONL file with lines like {"question": "...", "answer": "..."}',
        ) from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    items = [_item(path, number, line, domain) for number, line in numbered]
    if not items or len(items) > MOST_ITEMS:
        raise BadRequest(f"{path} holds {len(items):,} questions", expected=f"1 to {MOST_ITEMS:,}")
    return items


def _of_one(domain: Domain, number: int, rng: Random, side: Split, levels: Sequence[int]) -> list[Item]:
    if not domain.levels or not set(levels) <= set(domain.levels):
        raise CallerError(
            f"{domain.name} has no level {', '.join(str(one) for one in levels if one not in domain.levels)}",
            expected=f"levels of {', '.join(map(str, domain.levels)) or 'a domain that makes problems'}",
        )
    found: dict[str, Item] = {}
    in_vain = 0
    while len(found) < number and in_vain < _DRAWS_IN_VAIN:
        # One that came before is drawn again at the same level, so that levels stay equally many; one that is used
        # up gives way to the next.
        level = levels[(len(found) + in_vain // _DRAWS_AT_A_LEVEL) % len(levels)]
        problem = make_split(domain, rng, level, side)
        in_vain = in_vain + 1 if problem.key in found else 0
        found.setdefault(problem.key, Item(problem.prompt, problem.expected, domain, problem))
    if len(found) < number:
        raise CallerError(
            f"{domain.name} gave {len(found):,} different {side} problems, and {number:,} were asked for",
            expected="no more problems than there are",
            try_next="ask for fewer, or name more levels",
        )
    return list(found.values())


def _item(path: Path, number: int, line: bytes, domain: Domain | None) -> Item:
    try:
        if len(line) > LONGEST_LINE_BYTES:
            raise ValueError(f"{len(line):,} bytes long")
        row: dict[str, Any] = orjson.loads(line)
        if isinstance(domain, ReadsRows):
            problem = domain.problem_of(row)
            return Item(problem.prompt, problem.expected, domain, problem)
        return _question_and_answer(row, domain)
    except CallerError as error:
        raise BadRequest(
            f"{path.name}:{number}: {error.happened}", expected=error.expected, try_next=error.try_next
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRequest(
            f"{path.name}:{number}: {type(error).__name__}: {str(error)[:200]}",
            expected='an object such as {"question": "What is 2 + 2?", "answer": "4"}',
            try_next="correct the line, or remove it",
        ) from error


def _question_and_answer(row: dict[str, Any], domain: Domain | None) -> Item:
    question, answer = row["question"], str(row["answer"])
    if not isinstance(question, str) or not question.strip() or not answer.strip():
        raise ValueError("question or answer is empty")
    named = trusted(row["domain"]) if row.get("domain") else None
    of = domain or named or recognise(question) or OPEN_QUESTION
    return Item(question, of.extract(answer) or answer, of)
