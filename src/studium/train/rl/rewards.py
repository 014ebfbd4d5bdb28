"""What a reply is worth. Rewards come from a domain's verifier, from likeness to an expert's action, or from both.

Likeness is that of SRL (arXiv 2510.25992, section 3.2): r = 2M/T, M the size of the matching blocks, T both lengths, of
the action only, never of the thoughts; -1 where the form is broken. `autojunk` stays off: Python's default gives
frequent characters up from 200 on, and two texts that are 80 % equal would count as 16 %.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher
from hashlib import sha256
from typing import Literal, NamedTuple

from studium.domains.catalogue import domain
from studium.domains.protocol import Problem, VerifiesSteps
from studium.train.data import THINK, THOUGHT_END, expert_steps
from studium.train.rows import Row

Unit = Literal["characters", "words"]
BAD_FORM = -1.0

Reward = Callable[[Row, str, bool], "float | None"]
"""Scores what was said to a row: (row, text without end token, whether it ended) -> reward, None for "not scored"."""


class Said(NamedTuple):
    """A reply to a step's prompt in its two parts; `action` is None where the form is broken."""

    thought: str
    action: str | None


def parted(text: str, *, thinks: bool) -> Said:
    """Part a reply into thought and action. With `thinks` the form is <think>..</think>, then one line."""
    if not thinks:
        return Said(
            "", text.removesuffix("\n") if text.strip() and "\n" not in text.removesuffix("\n") else None
        )
    if not text.startswith(THINK) or text.count(THINK) != 1 or text.count(THOUGHT_END) != 1:
        return Said("", None)
    thought, action = text.removeprefix(THINK).split(THOUGHT_END)
    return Said(thought, parted(action, thinks=False).action)


def action_of(row: Row, text: str, ended: bool, *, thinks: bool) -> str | None:
    """Return the action of a reply to a step's prompt; None where its form is broken.

    A step with others after it ends its line, the last one ends the reply: a right step that ends the reply too early
    would spoil the whole.
    """
    return parted(text, thinks=thinks).action if ended and text.endswith("\n") != row.ends else None


def likeness(action: str, expert: str, unit: Unit = "characters") -> float:
    """Return 2M/T of two texts, 0 to 1, by characters or by words; two empty ones are alike."""
    one, other = (action, expert) if unit == "characters" else (action.split(), expert.split())
    return SequenceMatcher(None, one, other, autojunk=False).ratio()


@dataclass(frozen=True, slots=True)
class StepLikeness:
    """SRL's reward of a step. `exact_bonus` is added where the domain verifies the step (0: as published)."""

    unit: Unit = "characters"
    thinks: bool = False
    exact_bonus: float = 0.0

    def __call__(self, row: Row, text: str, ended: bool) -> float | None:
        action = action_of(row, text, ended, thinks=self.thinks)
        if action is None:
            return BAD_FORM
        like = likeness(action, expert_action(row, thinks=self.thinks), self.unit)
        right = verified_step(row, action) if self.exact_bonus else None
        return like + self.exact_bonus * (right or 0.0)


@dataclass(frozen=True, slots=True)
class StepVerified:
    """1 where the domain verifies the step, 0 where it is wrong or of broken form."""

    thinks: bool = False

    def __call__(self, row: Row, text: str, ended: bool) -> float | None:
        action = action_of(row, text, ended, thinks=self.thinks)
        return 0.0 if action is None else verified_step(row, action)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The domain's verdict on the whole reply, 0 to 1."""

    def __call__(self, row: Row, text: str, ended: bool) -> float | None:
        problem = _problem(row)
        return domain(problem.domain).verify(problem, row.prefix + text) if ended else 0.0


@dataclass(frozen=True, slots=True)
class RandomReward:
    """The control: 0 or 1 by a hash of what was said, which teaches nothing but what any reward does."""

    seed: int = 0

    def __call__(self, row: Row, text: str, ended: bool) -> float | None:
        return float(sha256(f"{self.seed}/{row.id}/{text}".encode()).digest()[0] & 1)


def expert_action(row: Row, *, thinks: bool) -> str:
    """Return the action a row's step is to be like: its completion's where it has one, else the domain's expert's."""
    if row.completion:
        action = parted(row.completion, thinks=thinks and THINK in row.completion).action
        assert action is not None, row.id
        return action
    problem, step = placed(row)
    return expert_steps(domain(problem.domain), problem)[step]


def verified_step(row: Row, action: str) -> float | None:
    """Return the domain's verdict on a step that follows the row's prefix.

    A domain without `verify_step` knows only its expert's way: another one is not scored after an unknown prefix.
    """
    problem, step = placed(row)
    found, done = domain(problem.domain), row.prefix.splitlines()
    if isinstance(found, VerifiesSteps):
        return found.verify_step(problem, done, action)
    expert = expert_steps(found, problem)
    return float(action.strip() == expert[step].strip()) if done == expert[:step] else None


def placed(row: Row) -> tuple[Problem, int]:
    """Return a row's problem and step."""
    assert row.step is not None, row.id
    return _problem(row), row.step


def _problem(row: Row) -> Problem:
    assert row.problem is not None, row.id
    return row.problem
