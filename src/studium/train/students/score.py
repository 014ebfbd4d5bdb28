"""What a student scores on problems it has never seen, skill by skill and level by level.

Three things are counted apart: right, declined ("I cannot answer that."), and wrong, which is the
rest.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from studium.domains.answers import abstains
from studium.domains.catalogue import skills
from studium.domains.outside import outside_question
from studium.domains.protocol import Domain, Split, make_split
from studium.domains.topics import Topic
from studium.evals.intervals import Interval, wilson
from studium.train.sample import sample_answers
from studium.train.tokenizer import prompt_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

OUTSIDE = "outside"
"""The name under which questions outside every skill are counted; the right thing is to decline."""


_AT_ONCE = 6


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
        for domain in skills().values()
        for level in domain.levels
    ]
    rng = Random(f"{seed}/{OUTSIDE}")
    questions = [outside_question(rng, Split.SCORING) for _ in range(per_level)]
    declined = sum(map(abstains, _replies(model, tokenizer, questions)))
    return [*cells, Cell(OUTSIDE, 0, per_level, declined, declined)]


@dataclass(frozen=True, slots=True)
class Proposals:
    """What came of asking for proposals on a topic, `asked` times: `useful` are true, tested and new.

    `false` did not hold, `repeated` held but were known or said little; of the rest nothing could be tested.
    `taught` of the useful ones stand word for word in the training text.
    """

    topic: str
    asked: int
    useful: int
    false: int
    repeated: int
    taught: int

    @property
    def interval(self) -> Interval:
        return wilson(self.useful, self.asked)


def score_topic(
    model: "LlamaForCausalLM",
    tokenizer: "Tokenizer",
    topic: Topic,
    *,
    cycles: int,
    temperature: float,
    taught: Container[str],
    seed: int,
) -> Proposals:
    """Ask for proposals as a session of so many cycles with `_AT_ONCE` students would: what one proposed is known."""
    known, useful, false, tested, literal = set[str](), 0, 0, 0, 0
    for cycle in range(1, cycles + 1):
        rng = Random(f"{seed}/{topic.name}/{cycle}")
        tasks = [topic.assign(f"student {n}", cycle, rng, known) for n in range(_AT_ONCE)]
        prompts = [prompt_text(task.prompt) for task in tasks]
        said = sample_answers(model, tokenizer, prompts, temperature=temperature, seed=rng.getrandbits(32))
        for task, reply in zip(tasks, said, strict=True):
            judged = topic.judge(task, reply.text, known)
            known |= set(judged.keys)
            tested += judged.score is not None
            false += judged.score == 0.0
            useful += judged.useful
            literal += judged.useful and reply.text in taught
    return Proposals(topic.name, cycles * _AT_ONCE, useful, false, tested - false - useful, literal)


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
    return [sampled.text for sampled in sample_answers(model, tokenizer, prompts)]
