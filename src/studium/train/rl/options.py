"""What the reinforcement-learning engine is told, beside what every stage is: how to draw, and what to make of it."""

from dataclasses import dataclass, field
from typing import Annotated

from studium.config.kinds import Choice, Number, Whole, YesNo
from studium.config.schema import Count, Plain
from studium.train.config import Recipe
from studium.train.rl.rollouts import Drawing

Coefficient = Annotated[float, Number(0, 1e6)]


@dataclass(frozen=True, slots=True)
class Server:
    """What a sampler in another process is told: `at_once` replies (of llama.cpp) or requests (http) at a time.

    `model` is asked for by that name, "" the first the server has. `adapter` is the name under which vLLM is to load
    the low-rank adapter under training; "" leaves the server's weights as they are.
    """

    model: Plain = ""
    adapter: Plain = ""
    api_key_env: Plain = ""
    at_once: Annotated[int, Whole(1, 1024)] = 16
    timeout_s: Annotated[float, Number(0.1, 86_400)] = 300.0


@dataclass(frozen=True, slots=True)
class Draws:
    """How replies are drawn, `each` per prompt; groups whose rewards spread less than `least_spread` are not kept.

    `sampler`: this process's with the model's own forward pass or, `fast`, one for Llamas; a llama.cpp worker's; that
    of the server at `url`; or transformers' `generate`. Weights elsewhere are renewed before every `renew_every`-th
    step. Their replies count by the policy's probability over the sampler's, at most `correct_most` (0: always 1);
    log-probabilities further apart than `most_drift` on average are not learned from.
    """

    sampler: Annotated[str, Choice(("own", "fast", "llamacpp", "http", "transformers"))] = "own"
    url: Plain = ""
    renew_every: Count = 1
    correct_most: Coefficient = 2.0
    most_drift: Coefficient = 0.1
    server: Server = field(default_factory=Server)

    each: Annotated[int, Whole(1, 4096)] = 8
    temperature: Annotated[float, Number(0.01, 10)] = 1.0
    most_tokens: Count = 128
    least_spread: Coefficient = 1e-4
    most_rounds: Count = 4

    def drawing(self, *, at_line: bool) -> Drawing:
        return Drawing(
            self.each, self.temperature, self.most_tokens, at_line, self.least_spread, self.most_rounds
        )


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss. `kl` anchors to the model the run began with. `passes` over what was drawn, in `parts` updates each."""

    clip_low: Coefficient = 0.2
    clip_high: Coefficient = 0.2
    kl: Coefficient = 0.0
    entropy: Coefficient = 0.0
    normalise: Annotated[str, Choice(("sequence", "token", "constant"))] = "sequence"
    spread: Annotated[str, Choice(("std", "none"))] = "std"
    passes: Count = 1
    parts: Count = 1


@dataclass(frozen=True, slots=True)
class RlRecipe(Recipe):
    """A recipe of the engine: `batch` counts prompts a step, `max_tokens` bounds prompt and reply together."""

    draws: Draws = field(default_factory=Draws)
    objective: Objective = field(default_factory=Objective)
    thinks: Annotated[bool, YesNo()] = False
