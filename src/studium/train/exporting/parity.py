"""Does an exported model answer as the trained one does? Greedy replies to frozen problems, token by token.

The trained model is asked in memory, in full precision; the export is loaded by the program it is for: transformers, or
llama.cpp in a worker of its own. Where two tokens are as likely as each other, to within the bound, either may come
first and the replies part: that is a tie, and what follows it is not compared.

Axes: V vocabulary.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from studium.domains.catalogue import domain, skills
from studium.domains.protocol import Split
from studium.engines.llamacpp.engine import LlamaCppEngine
from studium.engines.protocol import complete
from studium.errors import ModelBroken
from studium.records.messages import Ask, Sampling
from studium.records.models import ModelSpec
from studium.train.config import Source
from studium.train.data import problems_of
from studium.train.models import Loaded
from studium.train.rl.samplers import Draw, ModelSampler
from studium.train.rows import Row, asked, prompt_ids

# What one token's log-probability may differ by: in full precision by rounding alone; with weights or key-value cache
# in half precision by 0.02 measured on trained students, and more where a model is unsure (tests/reference).
BOUND_FULL, BOUND_HALF, LEAST_BOUND_HALF = 0.002, 0.15, 0.03
FROZEN_SEED = 20_261_121
MOST_TOKENS = 120
LOAD_S, ASK_S = 60.0, 60.0


@dataclass(frozen=True, slots=True)
class Said:
    """A greedy reply: its tokens as text, without the end token, and the natural log-probability of each."""

    tokens: Sequence[str]
    logprobs: Sequence[float]


@dataclass(frozen=True, slots=True)
class Parity:
    """How alike two models' replies are: a token's log-probability differs by `apart` at most, by `mean` on average.

    `ties` replies parted where two tokens were equally likely within the bound; `different` parted otherwise.
    """

    by: str
    problems: int
    tokens: int
    ties: int
    different: int
    apart: float
    mean: float
    bound: float

    @property
    def equal(self) -> bool:
        return not self.different and self.apart <= self.bound

    def line(self) -> str:
        """Say it to people."""
        greedy = f"{self.problems - self.ties - self.different} of {self.problems} greedy replies equal"
        ties = f", {self.ties} after a tie" if self.ties else ""
        return (
            f"{self.by}: {greedy}{ties}; {self.tokens} log-probabilities differ by at most {self.apart:.1g}"
        )


def frozen_prompts(domains: Sequence[str], count: int) -> list[str]:
    """Return the same problems every time, of these domains, from the side that is never trained on."""
    known = [one for one in domains if one] or list(skills())
    each = -(-count // len(known))
    # Not all domains can keep so many apart; a problem asked twice would only weigh twice.
    made = [
        problems_of(Source(domain(one).name, rows=each, seed=FROZEN_SEED), side=Split.SCORING)
        for one in known
    ]
    return [problem.prompt for problems in zip(*made, strict=True) for problem in problems][:count]


class Reference:
    """The trained model in memory and what it says to the prompts."""

    def __init__(self, loaded: Loaded, prompts: Sequence[str]) -> None:
        self.loaded = loaded
        self.prompts = prompts
        self.ids = [prompt_ids(loaded.tokenizer, Row("", asked(one))) for one in prompts]
        self.said = replies_of(loaded, self.ids)

    def texts(self) -> list[str]:
        """Return the prompts as the chat template writes them."""
        return [str(self.loaded.tokenizer.decode(ids, skip_special_tokens=False)) for ids in self.ids]

    def bound_half(self, base: Loaded) -> float:
        """Return the bound for half precision, small enough to notice a file that answers as the base does.

        A slight adapter changes log-probabilities by less than rounding may; then nothing could tell.
        """
        without = self.compare("base", replies_of(base, self.ids), BOUND_HALF)
        if without.different:
            return BOUND_HALF
        return max(LEAST_BOUND_HALF, min(BOUND_HALF, without.apart / 2))

    def compare(self, by: str, replies: Sequence[Said], bound: float) -> Parity:
        """Hold another's replies against these."""
        ties = different = tokens = 0
        found: list[float] = []
        for at, (mine, theirs) in enumerate(zip(self.said, replies, strict=True)):
            same = _equal_tokens(mine.tokens, theirs.tokens)
            tokens += same
            found += [abs(a - b) for a, b in zip(mine.logprobs[:same], theirs.logprobs[:same], strict=True)]
            if same < max(len(mine.tokens), len(theirs.tokens)):
                tie = self._loss_of(at, same, theirs) <= 2 * bound
                ties, different = ties + tie, different + (not tie)
        apart, mean = max(found, default=0.0), fmean(found) if found else 0.0
        return Parity(by, len(self.prompts), tokens, ties, different, apart, mean, bound)

    def _loss_of(self, at: int, place: int, theirs: Said) -> float:
        """Return how much less likely the other's token at a place is to this model than its own, in nats."""
        import torch

        tokenizer: Any = self.loaded.tokenizer
        said = [token_id(tokenizer, one) for one in self.said[at].tokens[:place]]
        with torch.inference_mode():
            model: Any = self.loaded.model
            logprobs_V = model(input_ids=torch.tensor([[*self.ids[at], *said]])).logits[0, -1].log_softmax(-1)
        token = (
            token_id(tokenizer, theirs.tokens[place])
            if place < len(theirs.tokens)
            else tokenizer.eos_token_id
        )
        return float(logprobs_V.max() - logprobs_V[token])


def replies_of(loaded: Loaded, prompts: Sequence[Sequence[int]]) -> list[Said]:
    """Return a model's greedy replies; it is in memory."""
    drawn = ModelSampler(loaded.model, loaded.tokenizer).draw(
        prompts, most_tokens=MOST_TOKENS, temperature=0.0
    )
    return [said_of(loaded.tokenizer, draw) for (draw,) in drawn]


def said_of(tokenizer: Any, draw: Draw) -> Said:
    """Return a drawn reply without its end token."""
    count = len(draw.tokens) - draw.ended
    return Said([tokenizer.decode([one]) for one in draw.tokens[:count]], list(draw.logprobs[:count]))


def served_replies(
    gguf: Path,
    adapters: Sequence[Path],
    prompts: Sequence[str],
    *,
    context_tokens: int,
    program: bool = False,
) -> list[Said]:
    """Return the greedy replies of a GGUF file in llama.cpp: a worker of ours, or `llama-server` from the PATH.

    Blocks; starts a process and ends it. Raises ModelBroken where it cannot be loaded.
    """
    return asyncio.run(_served(gguf, adapters, prompts, context_tokens, program))


async def _served(
    gguf: Path, adapters: Sequence[Path], prompts: Sequence[str], context_tokens: int, program: bool
) -> list[Said]:
    model = ModelSpec(
        "exported",
        "llamacpp",
        str(gguf),
        context_tokens=context_tokens,
        adapters=tuple(map(str, adapters)),
        options={"runner": "llama-server"} if program else {},
    )
    greedy = Sampling(temperature=0.0, seed=0, max_tokens=MOST_TOKENS)
    engine = LlamaCppEngine()
    try:
        await engine.load(model, timeout_s=LOAD_S)
        replies = [
            await complete(
                engine, model, Ask(prompt=one, sampling=greedy, top_logprobs=0, timeout_s=ASK_S, live=False)
            )
            for one in prompts
        ]
    finally:
        await engine.close()
    return [_without_end(reply.logprobs, reply.text) for reply in replies]


def _without_end(logprobs: Sequence[Any], text: str) -> Said:
    """Leave out the end token, which llama.cpp tells of, as "", and which is no part of the text."""
    told = list(logprobs)
    while told and not told[-1].token:
        told.pop()
    if "".join(one.token for one in told) != text:
        raise ModelBroken(
            "llama.cpp told other tokens than it wrote", expected="the reply's tokens, in order"
        )
    return Said([one.token for one in told], [one.logprob for one in told])


def token_id(tokenizer: Any, text: str) -> int:
    """Return the one token that reads as a text; the unknown one, which is never likely, where there is none."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    return int(ids[0]) if len(ids) == 1 else int(tokenizer.pad_token_id)


def _equal_tokens(mine: Sequence[str], theirs: Sequence[str]) -> int:
    """Return how many tokens two replies begin with alike."""
    for at, (one, other) in enumerate(zip(mine, theirs, strict=False)):
        if one != other:
            return at
    return min(len(mine), len(theirs))
