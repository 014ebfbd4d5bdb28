"""What a research session works on: a topic hands each student a piece of work and judges what came back.

A topic differs from a domain in that there is no one right answer: it collects proposals, and a proposal
is worth keeping when it was tested, held, and nobody had made it before.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one student is to work on in one cycle.

    `subject` is the part of the topic, for people; `prompt` is what the student is asked; `facts` is what
    `judge` needs to know again, as JSON types only, so that it survives a restart.
    """

    subject: str
    prompt: str
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a proposal is worth.

    `score` is 0 to 1, or None where nothing in it could be tested ("not scored", which is not zero).
    `useful` says that it was tested, held and is new. `keys` are its claims in canonical form: whoever
    proposes one of them again proposes nothing new. `reason` is a sentence for people.
    """

    score: float | None
    useful: bool
    keys: tuple[str, ...]
    reason: str


@runtime_checkable
class Topic(Protocol):
    """Something a session can work on."""

    name: str
    prefix: str
    title: str

    def assign(self, student: str, cycle: int, rng: Random, known: Collection[str]) -> Assignment:
        """Return the work of `student` in `cycle` (from 1); equal arguments give equal work.

        `known` holds the keys of what was already proposed.
        """
        ...

    def judge(self, assignment: Assignment, reply: str, known: Collection[str]) -> Judgement:
        """Judge a reply to `assignment`. Never raises because of what a model wrote; takes at most seconds."""
        ...
