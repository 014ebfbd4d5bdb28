"""How well a model in memory solves problems kept from training: whole replies, or step by step without its thoughts.

Whole replies are drawn as the served model would give them. A student that thinks before each step is asked step by
step, its thoughts left out of what it reads next, as SRL trains it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from studium.domains.catalogue import domain
from studium.domains.protocol import Problem
from studium.train.data import THOUGHT_END
from studium.train.rl.rollouts import line_ends, text_of
from studium.train.rl.samplers import Sampler
from studium.train.rows import Row, asked, prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_STEPS = 40


class Solved(NamedTuple):
    """A reply to a problem, and the domain's score; None where it was not scored."""

    problem: Problem
    reply: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Solver:
    """Asks a sampler. `thinks`: step by step, thoughts left out; `most_tokens` bounds a reply, or one step of it."""

    sampler: Sampler
    tokenizer: "PreTrainedTokenizerBase"
    most_tokens: int
    thinks: bool = False

    def solve(
        self, problems: Sequence[Problem], *, each: int = 1, temperature: float = 0.0, seed: int = 0
    ) -> list[list[Solved]]:
        """Return `each` replies to every problem."""
        if self.thinks:
            replies = self._by_steps([one for one in problems for _ in range(each)], temperature, seed)
            grouped = [replies[at * each : (at + 1) * each] for at in range(len(problems))]
        else:
            prompts = [prompt_ids(self.tokenizer, _row(one, "")) for one in problems]
            drawn = self.sampler.draw(
                prompts, most_tokens=self.most_tokens, each=each, temperature=temperature, seed=seed
            )
            grouped = [[text_of(self.tokenizer, draw) for draw in draws] for draws in drawn]
        return [
            [Solved(problem, reply, domain(problem.domain).verify(problem, reply)) for reply in replies]
            for problem, replies in zip(problems, grouped, strict=True)
        ]

    def _by_steps(self, problems: Sequence[Problem], temperature: float, seed: int) -> list[str]:
        said = [""] * len(problems)
        open_ones = list(range(len(problems)))
        for number in range(MOST_STEPS):
            if not open_ones:
                break
            drawn = self.sampler.draw(
                [prompt_ids(self.tokenizer, _row(problems[at], said[at])) for at in open_ones],
                most_tokens=self.most_tokens,
                temperature=temperature,
                stops=line_ends(self.tokenizer),
                seed=seed * 1009 + number,
            )
            still: list[int] = []
            for at, (draw,) in zip(open_ones, drawn, strict=True):
                text = text_of(self.tokenizer, draw)
                said[at] += text.rpartition(THOUGHT_END)[2]
                if draw.ended and text.endswith("\n"):
                    still.append(at)
            open_ones = still
        return said


def _row(problem: Problem, prefix: str) -> Row:
    return Row(problem.key, asked(problem.prompt), prefix=prefix, problem=problem)
