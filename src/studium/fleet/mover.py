"""Performs loads and unloads with the engines and reads what they hold. Decides nothing, keeps no books.

What an engine says it freed is believed once it no longer lists it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from studium.engines.protocol import Engine
from studium.errors import StudiumError
from studium.fleet.elsewhere import held_bytes
from studium.fleet.limits import Limits
from studium.fleet.tenancy import LEASE
from studium.records.hardware import DeviceKind
from studium.records.models import ModelSpec, Residence

log = logging.getLogger(__name__)

# An engine that does not answer must not keep anybody from knowing what the others hold.
LOOK_TIMEOUT_S = 2.0
UNLOAD_TIMEOUT_S = 60.0
_FIRST_POLL_S = 0.02
_LONGEST_POLL_S = 0.5


class Unloaded(NamedTuple):
    """What came of an unload: `kept_bytes` are still held although the engine says it is done."""

    seconds: float
    kept_bytes: int
    note: str


class Sight(NamedTuple):
    """One look around: free bytes by device, what each model holds, and which engines answered.

    `held` maps a model's name to the bytes it takes from what is free, None where nobody can tell;
    `listed` to the most its engine admits.
    """

    available: Mapping[str, int]
    held: Mapping[str, int | None]
    listed: Mapping[str, int]
    answered: Collection[str]


class Mover:
    """Moves models in and out of memory. `available` measures the free bytes of each device; it may block."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        limits: Limits,
        available: Callable[[], Mapping[str, int]] | None,
    ) -> None:
        self._engines = engines
        self._limits = limits
        self._available = available

    @property
    def measures(self) -> bool:
        """Whether free memory is measured at all."""
        return self._available is not None

    async def unload(self, model: ModelSpec) -> Unloaded:
        """Have the engine give a model's memory back; wait until it is seen to be free, within a limit."""
        began, note = time.monotonic(), ""
        limit_s = None if model.engine == LEASE else UNLOAD_TIMEOUT_S
        try:
            async with asyncio.timeout(limit_s):
                await self._engines[model.engine].unload(model)
        except StudiumError as error:  # the engine lost it: what it still holds is seen below
            note = error.happened
        except TimeoutError:
            note = f"its engine did not unload it within {UNLOAD_TIMEOUT_S:.0f} s"
        kept = await self._kept_bytes(model, time.monotonic() + self._limits.settle_s)
        if kept:
            note = f"{note}; its engine still holds {kept:,} bytes".removeprefix("; ")
        return Unloaded(time.monotonic() - began, kept, note)

    async def look(self, models: Mapping[str, tuple[ModelSpec, DeviceKind]]) -> Sight:
        """Measure what is free and what `models` hold, by name. Takes milliseconds; never raises for an engine."""
        residences: dict[str, Residence] = {}
        answered: set[str] = set()
        for name in {model.engine for model, _ in models.values()}:
            with suppress(StudiumError, TimeoutError):
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    found = await self._engines[name].residences()
                residences |= {one.model: one for one in found}
                answered.add(name)
        return Sight(
            await self.free_bytes(),
            {
                name: held_bytes(residences[name], kind)
                for name, (_, kind) in models.items()
                if name in residences
            },
            {name: one.resident_bytes or 0 for name, one in residences.items()},
            answered,
        )

    async def free_bytes(self) -> Mapping[str, int]:
        """Return the bytes free on each device; nothing where that is not measured or takes too long."""
        if self._available is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    return await asyncio.to_thread(self._available)
        return {}

    async def _kept_bytes(self, model: ModelSpec, until: float) -> int:
        """Wait for an unloaded model to vanish from its engine's list; return what it holds after all."""
        pause_s = _FIRST_POLL_S
        while kept := await self._listed_bytes(model):
            if time.monotonic() + pause_s > until:
                log.warning("%s was unloaded, and its engine still holds %s bytes", model.name, f"{kept:,}")
                return kept
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_POLL_S)
        return 0

    async def _listed_bytes(self, model: ModelSpec) -> int:
        with suppress(StudiumError, TimeoutError):
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                for residence in await self._engines[model.engine].residences():
                    if residence.model == model.name:
                        return residence.resident_bytes or 0
        return 0
