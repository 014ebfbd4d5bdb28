"""Groups of replies to one prompt each, and their refill: groups that teach nothing are dropped and others drawn.

Dynamic sampling as in SRL (arXiv 2510.25992, section 3.3) and DAPO (arXiv 2503.14476): a group is kept only if the
standard deviation of its rewards exceeds `least_spread`, and more prompts are drawn until the batch is full; unlike
them, at most `most_rounds` times, because at the end of training hardly a group is left that teaches. What was dropped
is counted: all right and all wrong are different news.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, NamedTuple

from studium.train.rl.rewards import Reward
from studium.train.rl.samplers import Draw, Sampler
from studium.train.rows import Row, prompt_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Group(NamedTuple):
    """Replies to one row's prompt, their texts without the end token, and what they are worth."""

    row: Row
    prompt: Sequence[int]
    draws: Sequence[Draw]
    texts: Sequence[str]
    rewards: Sequence[float]


class Rollouts(NamedTuple):
    """What a step learns from. Of `seen` groups `solved` were dropped with all rewards high, `failed` with all low.

    `unscored` had too few replies that could be graded. `reward` is the mean of all that was `drawn`.
    """

    groups: Sequence[Group]
    seen: int
    solved: int
    failed: int
    unscored: int
    reward: float
    tokens: int
    drawn: Sequence[Group] = ()


@dataclass(frozen=True, slots=True)
class Drawing:
    """How replies are drawn. `each` replies per prompt; `at_line` ends a reply with its line, as a step ends.

    Where `least_spread` is below 0, groups are not compared within: one reply that can be graded is a group.
    """

    each: int = 8
    temperature: float = 1.0
    most_tokens: int = 128
    at_line: bool = False
    least_spread: float = 1e-4
    most_rounds: int = 4

    @property
    def fewest(self) -> int:
        """How many graded replies a group has at least."""
        return 1 if self.least_spread < 0 else 2


Repair = Callable[[Group], "Group | None"]
"""What may be done with a group without spread before it is dropped; None drops it."""


def line_ends(tokenizer: "PreTrainedTokenizerBase") -> frozenset[int]:
    """Return the tokens that end a line."""
    return frozenset(at for at in range(len(tokenizer)) if "\n" in tokenizer.decode([at]))


def text_of(tokenizer: "PreTrainedTokenizerBase", draw: Draw) -> str:
    """Return what a draw says, without the end token."""
    tokens = list(draw.tokens)
    if tokens and tokens[-1] == tokenizer.eos_token_id:
        tokens.pop()
    text: Any = tokenizer.decode(tokens, skip_special_tokens=False)
    return text


class Roller:
    """Draws groups for one step after the other."""

    def __init__(
        self, sampler: Sampler, tokenizer: "PreTrainedTokenizerBase", reward: Reward, drawing: Drawing
    ) -> None:
        self._sampler = sampler
        self._tokenizer = tokenizer
        self._reward = reward
        self._drawing = drawing
        self._stops = line_ends(tokenizer) if drawing.at_line else frozenset[int]()

    def fill(
        self,
        rows: Callable[[int], Sequence[Row]],
        groups: int,
        *,
        seed: int,
        repair: Repair = lambda group: None,
    ) -> Rollouts:
        """Draw until `groups` groups are full, asking `rows(n)` for the next n prompts, at most `most_rounds` times."""
        kept: list[Group] = []
        seen: list[Group] = []
        solved = failed = unscored = 0
        for attempt in range(self._drawing.most_rounds):
            wanted = groups - len(kept)
            if not wanted:
                break
            for group in self.draw(rows(wanted), seed=seed * 1009 + attempt):
                seen.append(group)
                if len(group.rewards) < self._drawing.fewest:
                    unscored += 1
                elif pstdev(group.rewards) > self._drawing.least_spread:
                    kept.append(group)
                elif (repaired := repair(group)) is not None:
                    kept.append(repaired)
                elif fmean(group.rewards) > 0.5:
                    solved += 1
                else:
                    failed += 1
        rewards = [one for group in seen for one in group.rewards]
        tokens = sum(len(draw.tokens) for group in seen for draw in group.draws)
        reward = fmean(rewards) if rewards else 0.0
        return Rollouts(kept, len(seen), solved, failed, unscored, reward, tokens, seen)

    def draw(self, rows: Sequence[Row], *, seed: int) -> list[Group]:
        """Draw one group per row. Replies that cannot be scored are left out of their group."""
        prompts = [prompt_ids(self._tokenizer, row) for row in rows]
        drawing = self._drawing
        drawn = self._sampler.draw(
            prompts,
            most_tokens=drawing.most_tokens,
            each=drawing.each,
            temperature=drawing.temperature,
            stops=self._stops,
            seed=seed,
        )
        return [self._scored(*one) for one in zip(rows, prompts, drawn, strict=True)]

    def _scored(self, row: Row, prompt: Sequence[int], draws: Sequence[Draw]) -> Group:
        texts = [text_of(self._tokenizer, draw) for draw in draws]
        scores = [self._reward(row, text, draw.ended) for text, draw in zip(texts, draws, strict=True)]
        known = [at for at, score in enumerate(scores) if score is not None]
        rewards = [score for score in scores if score is not None]
        return Group(row, prompt, [draws[at] for at in known], [texts[at] for at in known], rewards)
