"""The domain of every other question: read an answer, compare two, never grade one.

It makes no problems of its own and recognises nothing, so the catalogue never offers it; the
ensemble turns to it where no domain recognises the question.
"""

from collections.abc import Sequence
from random import Random

from studium.domains.answers import abstains, final_answer, normalise
from studium.domains.protocol import Problem, Rule
from studium.errors import CallerError


class OpenQuestion:
    """Any question. An answer is the last `Answer:` line, or the whole reply."""

    name = "open question"
    levels: tuple[int, ...] = ()
    rules: Sequence[Rule] = ()

    def make(self, rng: Random, level: int) -> Problem:
        """Raise CallerError: open questions come from people."""
        raise CallerError(
            "open questions cannot be made",
            expected="a domain that makes problems",
            try_next="choose one of the catalogue, for example arithmetic",
        )

    def recognises(self, question: str) -> bool:
        return False

    def solution(self, problem: Problem) -> str:
        return "\n".join((*problem.steps, f"Answer: {problem.expected}"))

    def extract(self, reply: str) -> str | None:
        if abstains(reply):
            return None
        return normalise(final_answer(reply) or reply) or None

    def same(self, one: str, other: str) -> bool:
        return normalise(one) == normalise(other)

    def verify(self, problem: Problem, reply: str) -> float | None:
        """Return None: not scored."""
        return None


OPEN_QUESTION = OpenQuestion()
