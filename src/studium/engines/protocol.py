"""The one interface every engine has. `tests/contracts` holds the behaviour they all share.

An engine does as it is told: it neither decides what is loaded (the fleet does) nor which student
answers (the ensemble does). It does no retries across models and keeps no history.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol, runtime_checkable

from studium.errors import StudiumBug
from studium.records.messages import Ask, Embeddings, Piece, Reply
from studium.records.models import Capabilities, MemoryEstimate, ModelSpec, Residence


@runtime_checkable
class Engine(Protocol):
    """Loads models and generates text with them.

    Every method may be called concurrently from one event loop. Cancelling a call ends the work it
    started: a cancelled `load` leaves nothing in memory, a generator that is closed stops its model.
    """

    name: str
    capabilities: Capabilities

    async def estimate(self, model: ModelSpec) -> MemoryEstimate:
        """Return the memory `model` will need, without loading it.

        Raises UnknownModel where `source` names nothing, ModelBroken where it cannot be read,
        EngineMissing where the engine itself is not there.
        """
        ...

    async def load(self, model: ModelSpec, *, timeout_s: float) -> Residence:
        """Bring `model` into memory, ready to answer; return what it occupies.

        Loading a model that is loaded returns its residence. Raises UnknownModel, ModelBroken,
        EngineMissing, DoesNotFit (the engine ran out of memory) or EngineTimeout.
        """
        ...

    async def unload(self, model: ModelSpec) -> None:
        """Give the model's memory back; return when it is free. Nothing happens if it is not loaded."""
        ...

    async def residences(self) -> Sequence[Residence]:
        """Return what this engine holds in memory now, measured, in no particular order.

        A model whose worker died is not among them.
        """
        ...

    def generate(self, model: ModelSpec, ask: Ask) -> AsyncGenerator[Piece | Reply, None]:
        """Yield pieces as they are generated, then exactly one Reply, whose text is theirs joined.

        The model must be loaded. Raises PromptTooLong (never cuts a prompt), Unsupported,
        EngineDied, EngineTimeout, EngineRefused or BadReply; a stream that ends early raises
        EngineDied. Closing the generator stops the generation.
        """
        ...

    async def embed(self, model: ModelSpec, texts: Sequence[str]) -> Embeddings:
        """Return one vector per text. Raises Unsupported where the model gives none."""
        ...

    async def models(self) -> Sequence[str]:
        """Return the sources this engine could load now, as far as it can list them."""
        ...

    async def close(self) -> None:
        """Unload everything and end every process started. The engine is not used afterwards."""
        ...


async def complete(engine: Engine, model: ModelSpec, ask: Ask) -> Reply:
    """Run one ask to its end and return the reply."""
    async with aclosing(engine.generate(model, ask)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Reply):
                return piece
    raise StudiumBug(f"engine {engine.name} ended a generation without a reply")
