"""Measures memory beside residency's owner loop, at a bounded rate, and brings the books up to date.

Measured at once after memory was freed, so that it is seen to be free before it is given away; else every
`watch_s` while somebody waits, and seldom otherwise.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from studium.fleet.elsewhere import Elsewhere, Holding
from studium.fleet.housing import Housing
from studium.fleet.mover import Mover, Sight
from studium.fleet.situation import TenantState
from studium.fleet.tenancy import House

log = logging.getLogger(__name__)

# How often memory is measured while nobody waits.
IDLE_WATCH_S = 2.0


class Watch:
    """Keeps `house.taken` and `house.kept` true. All but the measuring runs inside the owner loop."""

    def __init__(
        self,
        house: House,
        housing: Housing,
        mover: Mover,
        *,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._house = house
        self._housing = housing
        self._mover = mover
        self._post = post
        self._elsewhere = Elsewhere(house.limits.homes)
        self._looked_at: float | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def must_look_first(self) -> bool:
        """Whether nothing is to be decided before memory was measured."""
        return self._mover.measures and (self._looked_at is None or self._housing.freed)

    @property
    def longest_sleep_s(self) -> float | None:
        """Seconds until the next look where nothing happens; None: no need for one."""
        watched = self._house.kept or (self._mover.measures and self._house.tenants)
        return IDLE_WATCH_S if watched else None

    def look_when_due(self) -> None:
        """Start to measure where that is worth it."""
        if self.task is not None or not (self._mover.measures or self._house.kept):
            return
        pressed = self._house.waiting or self._house.overfull()
        every_s = self._house.limits.watch_s if pressed else IDLE_WATCH_S
        if self.must_look_first or self._looked_at is None or time.monotonic() - self._looked_at >= every_s:
            self.task = asyncio.create_task(self._look(), name="look at memory")

    async def _look(self) -> None:
        changes = self._housing.changes
        kinds = {home.name: home.kind for home in self._house.limits.homes}
        held = [(one.model, one.device) for one in self._house.tenants.values()]
        held += [(one.model, one.device) for one in self._house.kept.values()]
        sight: Sight | None = None
        try:
            sight = await self._mover.look({model.name: (model, kinds[device]) for model, device in held})
        except Exception:  # a measurement that fails must not stop those who wait
            log.exception("memory could not be measured")
        finally:
            self._post(lambda: self._looked(sight, changes))

    def _looked(self, sight: Sight | None, changes: int) -> None:
        self.task = None
        if sight is not None and changes != self._housing.changes:
            return  # somebody came or went meanwhile: what is free and what is held do not belong together
        self._housing.freed = False
        self._looked_at = time.monotonic()
        if sight is None:
            return
        for name, kept in list(self._house.kept.items()):
            if kept.model.engine not in sight.answered:
                continue
            if listed := sight.listed.get(name, 0):
                self._house.kept[name] = replace(kept, bytes=listed)
            else:
                del self._house.kept[name]
        self._house.taken |= self._elsewhere.measured(sight.available, self._holdings(sight))

    def _holdings(self, sight: Sight) -> list[Holding]:
        """Return what our models hold. One that is coming or going holds anything up to what is set aside."""
        found = [Holding(kept.device, kept.bytes, kept.bytes) for kept in self._house.kept.values()]
        for tenant in self._house.tenants.values():
            held = sight.held.get(tenant.name)
            if held is not None and tenant.state is TenantState.RESIDENT:
                found.append(Holding(tenant.device, held, held))
            else:
                found.append(Holding(tenant.device, 0, max(tenant.bytes, held or 0)))
        return found
