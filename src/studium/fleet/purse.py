"""What a seat asks before it lets a model speak: may this be spent? Who answers is the governor's affair (`serve`).

The one place every call of every student passes, embeddings included, so that no caller can go around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from studium.records.messages import Ask, Embeddings, Reply
from studium.records.models import ModelSpec
from studium.records.spending import NOTHING, Amount


@dataclass(frozen=True, slots=True)
class Charge:
    """One call on a bill. `assumed`: what it cost is not known, so all it could have cost is counted.

    `refused` says why the call was not made; `capped_tokens` what its answer was limited to, where the caller
    had set no limit.
    """

    student: str
    reserved: Amount = NOTHING
    spent: Amount = NOTHING
    assumed: bool = False
    refused: str = ""
    capped_tokens: int | None = None


@dataclass(slots=True)
class Bill:
    """Whom calls are charged to. `request` is one question's own, never two questions'; an empty `session` is none.

    Calls add themselves to `charges` as they end; those that cost nothing do not.
    """

    request: str
    session: str = ""
    charges: list[Charge] = field(default_factory=list[Charge])


class Allowance(Protocol):
    """A call that may be made, within `async with`. `ask` is the ask as it may be made."""

    ask: Ask

    async def __aenter__(self) -> "Allowance": ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def got(self, reply: Reply | Embeddings) -> None:
        """Say what the call brought: what it cost follows from it. Without this, all it could cost counts."""
        ...


class Purse(Protocol):
    """Says what may be spent."""

    def allow(
        self, student: str, model: ModelSpec, ask: Ask, *, bill: Bill | None = None, on_gpu: bool = False
    ) -> Allowance:
        """Return the call's allowance. Entering it raises SpendingLimit where a cap would be passed."""
        ...


class NoLimits:
    """The purse of who has no governor."""

    def allow(
        self, student: str, model: ModelSpec, ask: Ask, *, bill: Bill | None = None, on_gpu: bool = False
    ) -> Allowance:
        return Unlimited(ask)


class Unlimited:
    """The allowance of a call that costs nothing: it takes no notice."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask

    async def __aenter__(self) -> "Unlimited":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def got(self, reply: Reply | Embeddings) -> None:
        pass


def ask_of(texts: Sequence[str]) -> Ask:
    """Return texts to embed as one ask, which is what they cost at most."""
    return Ask(prompt="\n".join(texts))
