"""Memory for work that is no model: a training run holds a lease, and gives way when a person asks.

A lease is a tenant like any other, placed by the same plan; to the fleet its holder is the engine that
loads in no time and unloads when the holder lets go. It is told to leave, never killed: `asked_to_leave`
is set, and the holder saves its state and calls `pause`, which gives the memory back and waits for it again.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from studium.errors import BadRequest, Unsupported
from studium.fleet.tenancy import LEASE
from studium.records.messages import Ask, Embeddings, Piece, Reply
from studium.records.models import Capabilities, MemoryEstimate, ModelSpec, Residence
from studium.records.scheduling import Priority

if TYPE_CHECKING:
    from studium.fleet.residency import Residency

log = logging.getLogger(__name__)

# A run that gave way asks for its memory again after this long even if questions never stop; its age decides then.
QUIET_AT_MOST_S = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Lease:
    """Memory that is held. Use as an async context manager (`Fleet.lease`).

    `asked_to_leave` is set when somebody more urgent needs the memory; then save what must not be lost
    and await `pause`. Look at it, or wait for it, at least every few seconds.
    """

    def __init__(
        self, leases: "Leases", residency: "Residency", model: ModelSpec, priority: Priority, timeout_s: float
    ) -> None:
        self._leases = leases
        self._residency = residency
        self._model = model
        self._priority = priority
        self._timeout_s = timeout_s
        self.asked_to_leave = asyncio.Event()
        self.held = False

    @property
    def name(self) -> str:
        return self._model.source

    @property
    def tenant(self) -> str:
        """What residency calls it."""
        return self._model.name

    @property
    def num_bytes(self) -> int:
        """The memory it holds while `held`."""
        return int(self._model.options["bytes"])

    @property
    def priority(self) -> Priority:
        return self._priority

    async def pause(self) -> None:
        """Give the memory back, and return when it is there again. Nothing of it may be in use meanwhile.

        Raises EngineTimeout when it does not come back within the lease's limit: the lease is then
        no longer held.
        """
        self._let_go()
        await self._wait_for_quiet()
        await self._take()

    async def __aenter__(self) -> "Lease":
        self._leases.add(self._model.name, self)
        try:
            await self._take()
        except BaseException:
            self._leases.remove(self._model.name)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._let_go()
        await self._residency.evict(self._model.name)
        self._leases.remove(self._model.name)

    async def _take(self) -> None:
        self.asked_to_leave.clear()  # before, not after: it may be set as soon as the seat is granted
        try:
            await self._residency.take(self._model, priority=self._priority, timeout_s=self._timeout_s)
        except BaseException:
            self._leases.let_go(self._model.name)
            raise
        self.held = True

    async def _wait_for_quiet(self) -> None:
        """Questions come in bursts: to take the memory back between two of them would only make the next one wait."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._timeout_s, QUIET_AT_MOST_S)):
                while (left_s := self._leases.quiet_s - self._residency.quiet_s(self._priority)) > 0:  # noqa: ASYNC110
                    await asyncio.sleep(min(left_s, 0.5))

    def _let_go(self) -> None:
        if self.held:
            self.held = False
            self._residency.give_back(self._model)
        self._leases.let_go(self._model.name)


class Leases:
    """Leases as an engine: what it loads is a promise, and unloading waits for the holder. Generates nothing."""

    name = LEASE
    capabilities = Capabilities(manages_memory=True, places_models=True)

    def __init__(self, *, leave_s: float, quiet_s: float) -> None:
        self._leave_s = leave_s
        self.quiet_s = quiet_s
        self._leases: dict[str, Lease] = {}
        self._free: dict[str, asyncio.Event] = {}

    def add(self, name: str, lease: Lease) -> None:
        if name in self._leases:
            raise BadRequest(
                f"a lease called {name.partition(':')[2]!r} is held already",
                expected="one lease of a name at a time",
                try_next="choose another name, or wait for the first to end",
            )
        self._leases[name] = lease
        self._free[name] = asyncio.Event()

    def remove(self, name: str) -> None:
        self.let_go(name)
        self._leases.pop(name, None)
        self._free.pop(name, None)

    def let_go(self, name: str) -> None:
        """The holder uses nothing of it any more."""
        if name in self._free:
            self._free[name].set()

    async def estimate(self, model: ModelSpec) -> MemoryEstimate:
        return MemoryEstimate(0, 0, int(model.options["bytes"]))

    async def load(self, model: ModelSpec, *, timeout_s: float) -> Residence:
        if model.name in self._free:
            self._free[model.name].clear()
        return Residence(model.name, None, None)

    async def unload(self, model: ModelSpec) -> None:
        """Ask the holder to leave and wait until it has, for as long as it takes; a slow one is reported.

        Only for a lease that has its seat, also if its holder has not yet come to know it.
        """
        lease, free = self._leases.get(model.name), self._free.get(model.name)
        if lease is None or free is None:
            return
        lease.asked_to_leave.set()
        try:
            await asyncio.wait_for(free.wait(), self._leave_s)
        except TimeoutError:
            log.warning(
                "the run %s was asked %.0f s ago to give its memory back and still holds it",
                lease.name,
                self._leave_s,
            )
            await free.wait()

    async def residences(self) -> Sequence[Residence]:
        return []

    async def generate(self, model: ModelSpec, ask: Ask) -> AsyncGenerator[Piece | Reply, None]:
        raise Unsupported(f"{model.name} is a lease, which says nothing")
        yield  # pragma: no cover - makes this a generator

    async def embed(self, model: ModelSpec, texts: Sequence[str]) -> Embeddings:
        raise Unsupported(f"{model.name} is a lease, which gives no embeddings")

    async def models(self) -> Sequence[str]:
        return []

    async def close(self) -> None:
        for free in self._free.values():
            free.set()


def lease_model(name: str, num_bytes: int, *, on_gpu: bool) -> ModelSpec:
    """Return a lease as what residency houses. Raises BadRequest for a name or size that cannot be."""
    if not _NAME.fullmatch(name) or num_bytes <= 0:
        raise BadRequest(
            f"a lease {name[:80]!r} of {num_bytes:,} bytes",
            expected="a name of letters, digits, '.', '_', '-' (at most 64), and more than no bytes",
        )
    options = {"bytes": str(num_bytes)}
    return ModelSpec(f"{LEASE}:{name}", LEASE, name, options=options, gpu_layers=int(on_gpu))
