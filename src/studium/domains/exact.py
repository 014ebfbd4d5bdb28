"""What domains share whose answers can be checked exactly.

A subclass makes problems and says in which canonical form its answers are compared (`canonical`);
reading, comparing and grading follow. A reply without a readable answer, an abstention or a hedge ("104 or
105") among them, is wrong (0.0); only a problem of another domain is "not scored" (None).
"""

from collections.abc import Sequence
from random import Random

from studium.domains.answers import abstains, denies, final_answer, hedges, normalise
from studium.domains.numbers import stands_alone
from studium.domains.protocol import Problem, Rule
from studium.domains.wording import Phrasebook, Reading

# A bare reply ("105") is taken as the answer itself; anything longer must say which part is.
_BARE_REPLY_CHARACTERS = 40


class ExactDomain:
    """Base of the exact domains: implements all of `Domain` but `make`."""

    name: str = ""
    levels: tuple[int, ...] = (1, 2, 3)
    rules: Sequence[Rule] = ()
    phrases: Phrasebook
    # How many wrong answers a student might hit on: few where there are few answers at all.
    wrong_answers: float = 10.0

    def make(self, rng: Random, level: int) -> Problem:
        raise NotImplementedError

    def canonical(self, answer: str) -> str | None:
        """Return the one way of writing an answer, or None where the text is no answer here."""
        return normalise(answer) or None

    def recognises(self, question: str) -> bool:
        return self.phrases.read(question) is not None

    def solution(self, problem: Problem) -> str:
        return "\n".join((*problem.steps, f"Answer: {problem.expected}"))

    def extract(self, reply: str) -> str | None:
        stated = final_answer(reply)
        if stated is None:
            bare = reply.strip()
            if len(bare) > _BARE_REPLY_CHARACTERS or not bare.isprintable() or abstains(bare):
                return None
            stated = bare
        answer = None if hedges(stated) else self.canonical(stated)
        return None if answer is None or self._is_taken_from_its_opposite(answer, stated) else answer

    def _is_taken_from_its_opposite(self, answer: str, stated: str) -> bool:
        """Say whether what was read says something else where it stands: "no threat", "-7", "7.7"."""
        if answer == stated:  # what students write nearly always
            return False
        part_of_another = answer.isdecimal() and not stands_alone(answer, stated)
        return part_of_another or denies(stated, answer, self.canonical)

    def same(self, one: str, other: str) -> bool:
        canonical = self.canonical(one)
        return canonical is not None and canonical == self.canonical(other)

    def verify(self, problem: Problem, reply: str) -> float | None:
        if problem.domain != self.name:
            return None
        answer = self.extract(reply)
        return 1.0 if answer is not None and self.same(answer, problem.expected) else 0.0

    def answer_to(self, reading: Reading) -> str | None:
        """Return the right answer to a question that was read back; None where this domain cannot say."""
        return None

    def check(self, question: str, reply: str) -> float | None:
        """Return 1.0 or 0.0 for the answer in a reply to a plain question; None where that is not scored.

        A reply without an answer, an abstention among them, claims nothing and is not scored.
        """
        reading, answer = self.phrases.read(question), self.extract(reply)
        expected = self.answer_to(reading) if reading else None
        return None if expected is None or answer is None else float(self.same(answer, expected))
