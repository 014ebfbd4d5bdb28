"""What a kind of task is. One file per domain feeds data making, rewards, benchmarks and consensus.

A `Problem` is a fact, made fresh from a seed and a level; its `key` names the problem itself,
whatever the wording, and decides for ever whether it may be trained on (`split`).
`verify` never guesses: what cannot be graded is None, "not scored", which is not zero.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Problem:
    """One task with its worked solution.

    `key` is canonical (two wordings of one problem share it), `prompt` is how it is asked,
    `steps` the expert's worked steps in order, `expected` the final answer as `extract` returns it.
    """

    domain: str
    key: str
    prompt: str
    steps: tuple[str, ...]
    expected: str
    level: int
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the domain, as data: used when examples are made, verified and rewarded."""

    name: str
    text: str


@runtime_checkable
class Domain(Protocol):
    """A kind of task that can be made afresh and checked exactly."""

    name: str
    levels: tuple[int, ...]
    rules: Sequence[Rule]

    def make(self, rng: Random, level: int) -> Problem:
        """Return a fresh problem; equal rng states give equal problems."""
        ...

    def recognises(self, question: str) -> bool:
        """Say whether a plain question is one this domain could have asked."""
        ...

    def solution(self, problem: Problem) -> str:
        """Return the reference reply: the worked steps and a last line that `extract` reads."""
        ...

    def extract(self, reply: str) -> str | None:
        """Return the final answer in a reply in canonical form, or None where there is none."""
        ...

    def same(self, one: str, other: str) -> bool:
        """Say whether two extracted answers mean the same."""
        ...

    def verify(self, problem: Problem, reply: str) -> float | None:
        """Return the score of a reply, 0 to 1, or None where it cannot be graded."""
        ...


@runtime_checkable
class ChecksQuestions(Protocol):
    """What a domain may offer besides: to grade replies to plain questions, not only to problems it made.

    It serves learning from what was answered, never answering: who could be asked at once needs no students.
    """

    def check(self, question: str, reply: str) -> float | None:
        """Return the score of a reply to a question as a person asked it; None where it is not scored."""
        ...


@runtime_checkable
class Measured(Protocol):
    """What a domain may offer besides: what its replies are measured by, names of `evals.metrics`."""

    metrics: tuple[str, ...]


@runtime_checkable
class SoundsAlarm(Protocol):
    """What a domain may offer besides: the one answer that means nothing is wrong; every other is an alarm."""

    harmless: str


@runtime_checkable
class ChecksSyntax(Protocol):
    """What a domain may offer besides: whether a reply is well formed, right or not."""

    def parses(self, reply: str) -> bool | None:
        """Say whether what the reply holds can be parsed; None where there is nothing to parse."""
        ...


@runtime_checkable
class ReadsRows(Protocol):
    """What a domain may offer besides: to read problems from a user's own file.

    `schema` is the JSON Schema of one row.
    """

    schema: Mapping[str, Any]

    def problem_of(self, row: Mapping[str, Any]) -> Problem:
        """Return the problem of a row; its level is 0: not known. Raises BadRequest naming the field that offends."""
        ...


def metrics_of(domain: Domain) -> tuple[str, ...]:
    """Return what a domain's replies are measured by."""
    return domain.metrics if isinstance(domain, Measured) else ("accuracy",)


class Split(StrEnum):
    """Which side of a wall a problem is on: trained on, used for scores that decide, or only measured."""

    TRAIN = "train"
    SCORING = "scoring"
    FRESH = "fresh"


def split(problem: Problem) -> Split:
    """Return the side a problem belongs to, by hash, for ever.

    One key in five is kept from training. Half of those give the scores in the students' cards, which
    weigh votes; the other half stays fresh for measuring what came of it.
    """
    digest = hashlib.sha256(f"{problem.domain}\n{problem.key}".encode()).digest()
    if digest[0] % 5:
        return Split.TRAIN
    return Split.SCORING if digest[1] % 2 else Split.FRESH


def make_split(domain: Domain, rng: Random, level: int, side: Split, *, tries: int = 1000) -> Problem:
    """Make problems until one falls on `side`. Raises ValueError when none of `tries` does."""
    for _ in range(tries):
        problem = domain.make(rng, level)
        if split(problem) is side:
            return problem
    raise ValueError(f"{domain.name} level {level}: no {side} problem in {tries} tries; widen the level")


@runtime_checkable
class VerifiesSteps(Protocol):
    """What a domain may offer besides: to verify one step of a solution, whoever wrote the steps before it."""

    def verify_step(self, problem: Problem, done: Sequence[str], step: str) -> float | None:
        """Return the score, 0 to 1, of `step` as what follows the steps `done`; None where it cannot be graded.

        Steps are the lines of `solution`, the line with the answer among them.
        """
        ...


@runtime_checkable
class ThinksAloud(Protocol):
    """What a domain may offer besides: what an expert thinks before each step, for students that learn to think."""

    def thoughts(self, problem: Problem) -> Sequence[str]:
        """Return one thought per line of the solution, in order."""
        ...
