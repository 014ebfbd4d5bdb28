"""What anybody may ask of residency at any time. Reading it is advice: it may be otherwise a moment later.

A read that gates a change belongs into the owner loop (`residency`).
"""

import math
import time
from collections.abc import Iterable

from studium.fleet import refusals
from studium.fleet.housing import Housing
from studium.fleet.outlook import UNKNOWN_LOAD_S, Outlook
from studium.fleet.situation import Place, TenantState
from studium.fleet.tenancy import House
from studium.records.answers import MemoryMove
from studium.records.hardware import DeviceUse
from studium.records.models import ModelSpec
from studium.records.scheduling import Priority


class Advice:
    """Questions about who is in memory, who waits, and what a model would cost. Changes nothing."""

    def __init__(self, house: House, housing: Housing, outlook: Outlook) -> None:
        self.limits = house.limits
        self._house = house
        self._housing = housing
        self._outlook = outlook

    def reserved_bytes(self) -> int:
        """Return the memory set aside for all tenants now."""
        return self._house.reserved_bytes()

    def devices(self) -> list[DeviceUse]:
        """Return each device's budget and what is set aside of it now, the preferred device first."""
        return [
            DeviceUse(
                home.name,
                home.kind,
                home.bytes,
                home.source,
                self._house.reserved_bytes(home.name),
                self._house.not_ours_bytes(home.name),
            )
            for home in self.limits.homes
        ]

    def resident(self) -> list[str]:
        """Return the names of the models that could answer at once."""
        return [name for name, one in self._house.tenants.items() if one.state is TenantState.RESIDENT]

    def whereabouts(self) -> dict[str, str]:
        """Return the device of every model that holds memory, also of those coming and going."""
        return {name: one.device for name, one in self._house.tenants.items()}

    def places(self, model: ModelSpec) -> list[Place]:
        """Return where a model could live and what it would cost there, as far as was learned."""
        return list(self._outlook.places(model, self._house.needs(model.name)))

    def run_seconds(self, model: ModelSpec) -> float:
        """Return how long an ask takes once it has its seat, as far as is known."""
        return self._outlook.run_seconds(model)

    def seconds_to_seat(self, model: ModelSpec) -> float:
        """Return how long an ask that comes now would wait for the model alone, nobody else waiting.

        0 where it is in memory; else its load, and the leaving of others where there is no room beside them.
        """
        if model.name in self.resident():
            return 0.0
        places = self.places(model)
        if not places:
            return UNKNOWN_LOAD_S
        first = places[0]
        crowded = first.bytes > self._free_bytes(first.device)
        return first.load_seconds + (first.unload_seconds if crowded else 0.0)

    def fit_together(self, models: Iterable[ModelSpec]) -> bool:
        """Say whether models could be in memory side by side where they are preferred, as far as was learned.

        What nobody measured yet is taken to fit: the plan finds out.
        """
        needed: dict[str, int] = {}
        by_name = {model.name: model for model in models}
        for model in by_name.values():
            if places := self.places(model):
                needed[places[0].device] = needed.get(places[0].device, 0) + places[0].bytes
        budgets = {
            home.name: home.bytes - self._house.not_ours_bytes(home.name) for home in self.limits.homes
        }
        fits = all(num_bytes <= budgets.get(device, 0) for device, num_bytes in needed.items())
        return fits and len(by_name) <= self.limits.max_models

    def _free_bytes(self, device: str) -> int:
        home = next((one for one in self.limits.homes if one.name == device), None)
        if home is None:
            return 0
        held = sum(one.bytes for one in self._house.tenants.values() if one.device == device)
        return home.bytes - held - self._house.not_ours_bytes(device)

    def quiet_s(self, above: Priority) -> float:
        """Return for how long nobody more urgent than `above` asked for anything: 0 while one waits."""
        if any(ask.priority > above for ask in self._house.waiting.values()):
            return 0.0
        latest = [at for priority, at in self._house.served_at.items() if priority > above]
        return time.monotonic() - max(latest, default=-math.inf)

    def not_ours_bytes(self) -> dict[str, int]:
        """Return what other programs, or engines against their word, hold of each device's budget now."""
        return {home.name: self._house.not_ours_bytes(home.name) for home in self.limits.homes}

    def in_the_way(self) -> str:
        """Say who holds memory now, for people."""
        return refusals.in_the_way(self._house, time.monotonic())

    def moves_since(self, at: float) -> list[MemoryMove]:
        """Return the moves that ended after `at` (`time.monotonic` seconds), oldest first."""
        return self._housing.moves_since(at)
