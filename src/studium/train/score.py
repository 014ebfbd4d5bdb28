"""What a student scores on problems it has never seen, skill by skill and level by level.

Three things are counted apart: right, declined ("I cannot answer that."), and wrong, which is the
rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from studium.domains.answers import abstains
from studium.domains.catalogue import shipped_domains
from studium.domains.outside import outside_question
from studium.domains.protocol import Domain, Split, make_split
from studium.evals.intervals import Interval, wilson
from studium.train.sample import answer_greedily
from studium.train.tokenizer import prompt_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

OUTSIDE = "outside"
"""The name under which questions outside every skill are counted; the right thing is to decline."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One skill at one level: how many were asked, answered rightly, and declined."""

    skill: str
    level: int
    asked: int
    right: int
    declined: int

    @property
    def accuracy(self) -> float:
        return self.right / self.asked

    @property
    def interval(self) -> Interval:
        return wilson(self.right, self.asked)


def score(model: "LlamaForCausalLM", tokenizer: "Tokenizer", *, per_level: int, seed: int) -> Sequence[Cell]:
    """Ask `per_level` problems kept for scoring of every shipped skill and level, and as many outside them."""
    cells = [
        _score_level(model, tokenizer, domain, level, per_level, Random(f"{seed}/{domain.name}/{level}"))
        for domain in shipped_domains().values()
        for level in domain.levels
    ]
    rng = Random(f"{seed}/{OUTSIDE}")
    questions = [outside_question(rng, Split.SCORING) for _ in range(per_level)]
    declined = sum(map(abstains, _replies(model, tokenizer, questions)))
    return [*cells, Cell(OUTSIDE, 0, per_level, declined, declined)]


def _score_level(
    model: "LlamaForCausalLM",
    tokenizer: "Tokenizer",
    domain: Domain,
    level: int,
    count: int,
    rng: Random,
) -> Cell:
    problems = [make_split(domain, rng, level, Split.SCORING) for _ in range(count)]
    replies = _replies(model, tokenizer, [problem.prompt for problem in problems])
    right = sum(domain.verify(*pair) == 1.0 for pair in zip(problems, replies, strict=True))
    return Cell(domain.name, level, count, right, sum(map(abstains, replies)))


def _replies(model: "LlamaForCausalLM", tokenizer: "Tokenizer", questions: Sequence[str]) -> Sequence[str]:
    prompts = [prompt_text(question) for question in questions]
    return [sampled.text for sampled in answer_greedily(model, tokenizer, prompts)]
