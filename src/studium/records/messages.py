"""What is said to one model and what it says back.

An `Ask` goes to an engine; `Piece`s come back as they are generated and one `Reply` closes them.
Nothing here knows of committees, memory or HTTP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `role` is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. `None` leaves a choice to the student, then to the engine."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    def over(self, base: "Sampling") -> "Sampling":
        """Return these choices, with `base` filling in where none was made."""
        return Sampling(
            temperature=base.temperature if self.temperature is None else self.temperature,
            top_k=base.top_k if self.top_k is None else self.top_k,
            top_p=base.top_p if self.top_p is None else self.top_p,
            repeat_penalty=base.repeat_penalty if self.repeat_penalty is None else self.repeat_penalty,
            seed=base.seed if self.seed is None else self.seed,
            max_tokens=base.max_tokens if self.max_tokens is None else self.max_tokens,
            stop=self.stop or base.stop,
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to one model.

    Either `messages` (the engine applies the model's chat template) or `prompt` (raw text to be
    continued). `top_logprobs` is None for no log-probabilities, else the number of alternatives
    per token (0: the chosen token only). `json_schema` and `grammar` (GBNF) exclude each other.
    `timeout_s` bounds the whole generation; an engine raises EngineTimeout past it. Where nobody waits
    for pieces, `live` is False and an engine may bring the whole reply as one.
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    top_logprobs: int | None = None
    json_schema: Mapping[str, Any] | None = None
    grammar: str | None = None
    timeout_s: float = 60.0
    live: bool = True


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token, its natural-log probability, and the alternatives (token, logprob) asked for."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Text as it is generated, in order. May be empty when only log-probabilities arrive."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Finish(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Reply:
    """The whole of what one model said.

    Token counts are the engine's own; None where it did not say. `cost_usd` is 0.0 for local
    engines and None where no price is known. `seconds` counts from the request to the last token.
    """

    text: str
    finish: Finish
    seconds: float
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_token_s: float | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    cost_usd: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per input text, in the order given."""

    vectors: Sequence[Sequence[float]]
    prompt_tokens: int
