"""Makes pairs from a model's own replies: k candidates to each prompt, scored, the better against the worse.

The manner of "best of n" preference data, as in Llama 2 (arXiv 2307.09288, section 3.2) with a verifier in place of the
people. No ties: a pair needs a `least_margin`. Of the pairs a prompt allows, the one closest in length is taken, so
that length says as little as possible about which is better. Prompts with a step (`Row.step`) give pairs of steps: the
same start of a reply, with a right and a wrong next step of the model's own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

from studium.config.document import read_document
from studium.config.kinds import Number, Whole, YesNo
from studium.config.reading import Reading
from studium.config.schema import Count
from studium.errors import ConfigurationError
from studium.train.config import Model, Seed, Source
from studium.train.data import rows_of
from studium.train.models import load
from studium.train.preferences.pairs import Pair
from studium.train.rl.rewards import Outcome, Reward, StepVerified
from studium.train.rl.rollouts import Drawing, Group, Roller
from studium.train.rl.samplers import ModelSampler
from studium.train.rows import Row

PROMPTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Making:
    """How pairs are made: `candidates` replies to a prompt, a pair only where scores differ by `least_margin`.

    `data` are a domain's problems, `teach: prompts` for whole replies or `step-prompts` for steps.
    """

    model: Model
    data: tuple[Source, ...] = ()
    candidates: Annotated[int, Whole(2, 1000)] = 4
    temperature: Annotated[float, Number(0.01, 10)] = 1.0
    most_tokens: Count = 200
    least_margin: Annotated[float, Number(0, 1)] = 0.5
    thinks: Annotated[bool, YesNo()] = False
    seed: Seed = 0


class Made(NamedTuple):
    """The pairs, of how many prompts; `tied` had replies all about as good, `unscored` less than two with a score."""

    pairs: Sequence[Pair]
    prompts: int
    tied: int
    unscored: int


def read_making(path: Path) -> Making:
    """Read a recipe for pairs. Raises ConfigurationError with file, line and the nearest known key."""
    return Reading().section(Making, read_document(path), "")


def make(making: Making, say: Callable[[str], None] = lambda line: None) -> Made:
    """Load the model and make pairs; blocks. Raises ConfigurationError where no domain can score the prompts."""
    rows = rows_of(making.data)
    by_steps = any(row.step is not None for row in rows)
    odd = next((row for row in rows if row.problem is None or (row.step is None) is by_steps), None)
    if odd is not None or not rows:
        raise ConfigurationError(
            f"no pair can be made of the row {odd.id!r}" if odd else "there are no prompts to make pairs of",
            expected="problems of domains, all 'teach: prompts' or all 'teach: step-prompts'",
            try_next="correct 'data', or give --domain",
        )
    loaded = load(making.model)
    reward: Reward = StepVerified(making.thinks) if by_steps else Outcome()
    drawing = Drawing(making.candidates, making.temperature, making.most_tokens, by_steps)
    sampler = ModelSampler(loaded.model, loaded.tokenizer)
    return make_pairs(Roller(sampler, loaded.tokenizer, reward, drawing), rows, making, say)


def make_pairs(
    roller: Roller,
    rows: Sequence[Row],
    making: Making,
    say: Callable[[str], None] = lambda line: None,
) -> Made:
    """Return pairs for the prompts of `rows`, at most one each; blocks while the model replies.

    `roller` draws, and scores by a domain's verifier or by any judge (`Reward`); what has no score is in no pair.
    """
    pairs: list[Pair] = []
    tied = unscored = 0
    for first in range(0, len(rows), PROMPTS_AT_ONCE):
        for group in roller.draw(rows[first : first + PROMPTS_AT_ONCE], seed=making.seed * 100_003 + first):
            pair = best_pair(group, making.least_margin)
            if pair is not None:
                pairs.append(pair)
            elif len(group.rewards) < 2:
                unscored += 1
            else:
                tied += 1
        say(f"{min(first + PROMPTS_AT_ONCE, len(rows))} of {len(rows)} prompts, {len(pairs)} pairs")
    return Made(pairs, len(rows), tied, unscored)


def best_pair(group: Group, least_margin: float) -> Pair | None:
    """Return a best reply against one worse by `least_margin`, those closest in length; None where there is no pair."""
    if not group.rewards:
        return None
    best = max(group.rewards)
    found = min(
        _candidates(group, best, least_margin), key=lambda one: (one[0], one[1], one[2]), default=None
    )
    if found is None:
        return None
    _, chosen, rejected = found
    row = replace(group.row, completion=group.texts[chosen], ends=_ends(group, chosen))
    return Pair(row, group.texts[rejected], _ends(group, rejected), best - group.rewards[rejected])


def _candidates(group: Group, best: float, least_margin: float) -> Iterator[tuple[int, int, int]]:
    for chosen, good in enumerate(group.rewards):
        for rejected, bad in enumerate(group.rewards):
            one, other = group.texts[chosen], group.texts[rejected]
            both_speak = one.strip() and other.strip()  # no run takes a reply without a word
            if good == best and good - bad >= max(least_margin, 1e-9) and both_speak and one != other:
                yield abs(len(one) - len(other)), chosen, rejected


def _ends(group: Group, at: int) -> bool:
    """Say whether a reply ended for good: a step that its line ended goes on, one that was cut off too."""
    draw = group.draws[at]
    return draw.ended and not (group.row.step is not None and group.texts[at].endswith("\n"))
