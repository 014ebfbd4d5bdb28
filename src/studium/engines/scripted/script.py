"""What a script declares of a model: what it says, how fast, how large it is, and how it misbehaves.

What is said depends only on the script, the messages and the seed. Faults may count how often they happened,
so that "busy twice, then well" can be told.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from studium.errors import ConfigurationError

MIB = 1 << 20


class FaultKind(StrEnum):
    """The ways to misbehave; the first six concern loading and unloading, the last only pulls."""

    CRASH_AT_LOAD = "crash_at_load"
    HANG_AT_LOAD = "hang_at_load"
    OUT_OF_MEMORY = "out_of_memory"
    KEEPS_MEMORY = "keeps_memory"
    """Claims to have unloaded; its memory stays occupied until the model is loaded again."""
    GIVES_BACK_LATE = "gives_back_late"
    """Its memory stays occupied for `seconds` after it claimed to have unloaded."""
    HIDES_MEMORY = "hides_memory"
    """Keeps its memory like KEEPS_MEMORY, and does not even list it."""
    CRASH = "crash"
    """Dies after `after_tokens`; on the wire the connection is reset."""
    HANG = "hang"
    HALF_STREAM = "half_stream"
    """Ends after `after_tokens` as if that were all, without a reason for the end."""
    GARBAGE = "garbage"
    """Sends bytes that are no answer after `after_tokens`."""
    SLOW_DRIP = "slow_drip"
    """One character every `seconds`; on the wire a whole answer drips byte by byte."""
    REFUSE = "refuse"
    """Answers with an error of its own; on the wire status 500."""
    BUSY = "busy"
    """Asks to come back after `seconds`; on the wire status 429 with Retry-After."""
    STALL = "stall"
    """Says the same line again every `seconds`, as Ollama does while its registry is silent."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One misbehaviour. It happens the first `times` times, or always. In a pull, parts count as tokens."""

    kind: FaultKind
    after_tokens: int = 0
    seconds: float = 1.0
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What is answered when the last user message contains a text or matches a pattern.

    Answers to a pattern may use its groups (`\\1`, `\\g<name>`). Several answers are given in turn: the n-th
    reply of a conversation gets the n-th, and the seed moves the start.
    """

    answers: tuple[str, ...]
    contains: str | None = None
    matches: str | None = None

    def __post_init__(self) -> None:
        if not self.answers:
            raise ConfigurationError("a scripted rule has no answer", expected="at least one answer")
        if (self.contains is None) == (self.matches is None):
            raise ConfigurationError(
                f"the scripted rule that answers {self.answers[0]!r} has no single condition",
                expected="either contains or matches",
            )
        if self.matches is not None:
            _check_pattern(self.matches)

    def match(self, text: str) -> re.Match[str] | bool:
        """Return the match, or whether the text is contained."""
        if self.matches is not None:
            return re.search(self.matches, text) or False
        return self.contains is not None and self.contains in text


@dataclass(frozen=True, slots=True)
class ModelScript:
    """Everything one scripted model does.

    `json_answer` is said instead where an ask brings a JSON schema, which it must follow.
    `tokens` spreads every answer over that many tokens instead of one per word. `peak_bytes` None means the
    same as `resident_bytes`; `promised_bytes` is what the engine estimates beforehand, None: the truth.
    `context_tokens` holds where no ModelSpec says otherwise, that is on the server.
    `embeddings` fixes vectors by text; other texts get one of `embedding_size` by their words, and size 0 means
    that the model gives none. `obeys` makes it do what any message tells it to. A pull takes `part_s` for each
    of its four parts, and breaks as `pull_fault` says.
    """

    rules: tuple[Rule, ...] = ()
    default: tuple[str, ...] = ("I do not know.",)
    json_answer: str | None = None
    first_token_s: float = 0.0
    token_s: float = 0.0
    tokens: int | None = None
    context_tokens: int = 4096
    load_s: float = 0.0
    resident_bytes: int = MIB
    peak_bytes: int | None = None
    promised_bytes: int | None = None
    embedding_size: int = 16
    embeddings: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    obeys: bool = False
    fault: Fault | None = None
    part_s: float = 0.0
    pull_fault: Fault | None = None

    def __post_init__(self) -> None:
        for name in ("first_token_s", "token_s", "load_s", "resident_bytes", "embedding_size", "part_s"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}", expected="zero or more")
        if not self.default:
            raise ConfigurationError("a scripted model has no default answer", expected="at least one")
        if self.tokens is not None and self.tokens < 1:
            raise ConfigurationError(f"tokens is {self.tokens}", expected="at least 1")


@dataclass(frozen=True, slots=True)
class Script:
    """The models of one script file or server, by name; those of `registry` must be pulled first."""

    models: Mapping[str, ModelScript]
    registry: Mapping[str, ModelScript] = field(default_factory=dict[str, ModelScript])


def says(*answers: str) -> ModelScript:
    """Return a model that gives these answers in turn, whatever it is asked."""
    return ModelScript(default=answers)


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as cause:
        raise ConfigurationError(
            f"the pattern {pattern!r} of a scripted rule is broken: {cause}", expected="a regular expression"
        ) from cause


BUILT_IN: Mapping[str, ModelScript] = {
    "echo": ModelScript(rules=(Rule(matches=r"(?s).+", answers=(r"\g<0>",)),)),
    "obedient": ModelScript(obeys=True),
    "unknowing": ModelScript(),
}
"""Scripts that a ModelSpec may name as its source anywhere."""
