"""Groups of replies and given rows as one padded batch: what each token weighs, and how good it was.

Targets are the tokens from the second on: column t of every array but `ids_BT` and `seen_BT` speaks of token t + 1.

Axes: B rows, T targets, S = T + 1 tokens.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from studium.train.rl.losses import Normalise, token_weights
from studium.train.rl.rollouts import Group
from studium.train.rl.samplers import UNKNOWN
from studium.train.rows import Encoded

if TYPE_CHECKING:
    import torch


class Batch(NamedTuple):
    """`drawn_B` is True for rows that were drawn: only there do reference and entropy count; False for given ones.

    `old_BT` are log-probabilities before the first update, None where there is only one; `values_BT` and `returns_BT`
    are there where a value head is. `sampler_BT` are log-probabilities a sampler elsewhere drew with, NaN where not
    known, None where the policy itself drew.
    """

    ids_BS: "torch.Tensor"
    seen_BS: "torch.Tensor"
    trained_BT: "torch.Tensor"
    weights_BT: "torch.Tensor"
    advantages_BT: "torch.Tensor"
    drawn_B: "torch.Tensor"
    row_ids: Sequence[str]
    rewards: Sequence[float]
    old_BT: "torch.Tensor | None" = None
    values_BT: "torch.Tensor | None" = None
    returns_BT: "torch.Tensor | None" = None
    sampler_BT: "torch.Tensor | None" = None

    def part(self, rows: slice) -> "Batch":
        """Return some rows, without columns that are padding for all of them."""
        most = int(self.seen_BS[rows].sum(1).max())

        def targets(values_BT: "torch.Tensor") -> "torch.Tensor":
            return values_BT[rows, : most - 1]

        return Batch(
            self.ids_BS[rows, :most],
            self.seen_BS[rows, :most],
            targets(self.trained_BT),
            targets(self.weights_BT),
            targets(self.advantages_BT),
            self.drawn_B[rows],
            self.row_ids[rows],
            self.rewards[rows],
            *(
                None if one is None else targets(one)
                for one in (self.old_BT, self.values_BT, self.returns_BT, self.sampler_BT)
            ),
        )

    def parts(self, number: int) -> "Iterator[Batch]":
        """Yield the batch in `number` parts, each every so-manieth row and of the whole batch's weight."""
        for at in range(min(number, len(self.ids_BS))):
            part = self.part(slice(at, None, number))
            yield part._replace(weights_BT=part.weights_BT * number)


def batch_of(
    groups: Sequence[Group],
    advantages: Sequence[Sequence[float]],
    given: Sequence[Encoded],
    *,
    pad: int,
    normalise: Normalise,
    constant: float,
    given_share: float,
    full: float = 1.0,
    elsewhere: bool = False,
) -> Batch:
    """Return drawn replies with an advantage each, and given rows, which together count `given_share` of the loss.

    `full` is the share of the groups asked for that are there: each counts as one of all. `elsewhere` keeps the
    log-probabilities they were drawn with.
    """
    import torch

    rows: list[Encoded] = []
    scores: list[float] = []
    rewards: list[float] = []
    for group, goods in zip(groups, advantages, strict=True):
        for draw, good, reward in zip(group.draws, goods, group.rewards, strict=True):
            rows.append(Encoded(group.row.id, [*group.prompt, *draw.tokens], len(group.prompt)))
            scores.append(good)
            rewards.append(reward)
    drawn = len(rows)
    rows += given
    scores += [one.weight for one in given]
    most = max(len(one.ids) for one in rows)
    ids_BS = torch.full((len(rows), most), pad)
    seen_BS = torch.zeros(len(rows), most, dtype=torch.bool)
    trained_BT = torch.zeros(len(rows), most - 1, dtype=torch.bool)
    for at, one in enumerate(rows):
        ids_BS[at, : len(one.ids)] = torch.tensor(one.ids)
        seen_BS[at, : len(one.ids)] = True
        trained_BT[at, one.num_prompt - 1 : len(one.ids) - 1] = True
    share = given_share if drawn else 1.0
    parts = [
        (1 - share) * full * token_weights(trained_BT[:drawn], normalise, constant=constant),
        share * token_weights(trained_BT[drawn:], "token"),
    ]
    drawn_B = torch.arange(len(rows)) < drawn
    advantages_BT = torch.tensor(scores)[:, None] * trained_BT
    weights_BT = torch.cat(parts if given else parts[:1])
    ids = [one.row_id for one in rows]
    batch = Batch(ids_BS, seen_BS, trained_BT, weights_BT, advantages_BT, drawn_B, ids, rewards)
    return batch._replace(sampler_BT=_drawn_with(groups, trained_BT)) if elsewhere else batch


def _drawn_with(groups: Sequence[Group], trained_BT: "torch.Tensor") -> "torch.Tensor":
    """Return the log-probabilities replies were drawn with, NaN where a sampler did not tell, and for given rows."""
    import torch

    sampler_BT = torch.full(trained_BT.shape, UNKNOWN)
    for row, draw in enumerate(draw for group in groups for draw in group.draws):
        if len(draw.logprobs) == len(draw.tokens):
            sampler_BT[row, trained_BT[row]] = torch.tensor(draw.logprobs)
    return sampler_BT
