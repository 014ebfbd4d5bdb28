"""A model's own replies to what it can do already, kept as rows to be replayed beside a new skill.

Replaying an expert's solutions teaches the old skills anew and moves the model; replaying what it says itself, right
answers and refusals, holds it where it is (learning without forgetting: Li and Hoiem 2016, arXiv 1606.09282, section 3,
with replies in the place of soft targets). Questions come from the training side of the split.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import orjson

from studium.domains.answers import abstains
from studium.domains.catalogue import trusted
from studium.domains.outside import outside_question
from studium.domains.protocol import Problem, Split
from studium.train.config import Source
from studium.train.data import GENERATED, problems_of

OUTSIDE = "outside"
"""What is asked of models that are to go on declining what nobody taught them."""

Speaks = Callable[[str], Awaitable[str]]
"""Returns a model's greedy reply to one question; raises what asking raises."""


class Question(NamedTuple):
    """One question to rehearse; `problem` is None outside every domain."""

    domain: str
    prompt: str
    problem: Problem | None


class Rehearsed(NamedTuple):
    """A question with what the model said; `kept` where that is worth keeping: right, or a refusal."""

    question: Question
    reply: str
    kept: bool


def questions(domains: Sequence[str], rows: int, seed: int, beside: str = "") -> list[Question]:
    """Return `rows` questions of each domain (or of OUTSIDE), one domain after the other; equal calls give equal ones.

    A domain with fewer different problems gives what it has; what `beside`, a domain that is measured on, could have
    asked too is left out. Raises CallerError for a domain there is not.
    """
    return [one for name in domains for one in _questions(name, rows, seed, beside)]


def rehearsed(question: Question, reply: str) -> Rehearsed:
    """Return a reply as it is kept: wrong ones are not learned again."""
    problem = question.problem
    right = problem is not None and trusted(problem.domain).verify(problem, reply) == 1.0
    return Rehearsed(question, reply, right or abstains(reply))


def write_rows(found: Iterable[Rehearsed], path: Path) -> int:
    """Write what is worth keeping as rows of training, all or nothing; return how many. Raises OSError."""
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    with part.open("wb") as file:
        for at, one in enumerate(found):
            if one.kept:
                file.write(orjson.dumps(_row(at, one)) + b"\n")
                number += 1
    part.replace(path)
    return number


def _questions(name: str, rows: int, seed: int, beside: str) -> Iterator[Question]:
    if name == OUTSIDE:
        rng = Random(f"{seed}/{OUTSIDE}/rehearsal")
        asked = dict.fromkeys(outside_question(rng, Split.TRAIN) for _ in range(rows))
        yield from (Question(OUTSIDE, prompt, None) for prompt in asked)
        return
    levels = trusted(name).levels
    each = max(1, rows // len(levels))
    for level in levels:
        source = Source(domain=name, levels=(level,), rows=each, seed=seed, beside=beside)
        for problem in problems_of(source, side=Split.TRAIN, scarce=True):
            yield Question(name, problem.prompt, problem)


def _row(at: int, one: Rehearsed) -> dict[str, str]:
    # The domain's problem is not named: the reply is the model's, and the row is there for its words.
    return {
        "id": f"own/{one.question.domain}/{at}",
        "prompt": one.question.prompt,
        "completion": one.reply,
        "licence": GENERATED,
        "source": "the model's own reply",
    }
