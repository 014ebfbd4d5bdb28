"""Two ways to house models that Studium's planner is compared with, in the place of `plan`. Pure.

Both look at the same `Situation`, know nothing of forecasts, classes or what is expected, and are written
from their common descriptions: strict order of arrival, and least recently used by bytes.
"""

from collections.abc import Iterable, Sequence

from studium.fleet.situation import Evict, Load, Move, Run, Situation, Tenant, TenantState, Waiting


def ask_in_order(situation: Situation) -> Sequence[Move]:
    """Serve asks strictly as they came: nobody passes whoever is first; idle models leave, least recent first."""
    room = _Room(situation)
    for ask in _as_they_came(situation):
        if not room.seat(ask):
            room.bring_in(ask)
            break
    return room.moves


def byte_lru(situation: Situation) -> Sequence[Move]:
    """Serve whoever can be served; for a model that is absent, the least recently used idle ones make room."""
    room = _Room(situation)
    for ask in _as_they_came(situation):
        if not room.seat(ask):
            room.bring_in(ask)
    return room.moves


def _as_they_came(situation: Situation) -> Iterable[Waiting]:
    return sorted(situation.waiting, key=lambda ask: ask.ask)


class _Room:
    """What is free while one call decides. One device only."""

    def __init__(self, situation: Situation) -> None:
        self.moves: list[Move] = []
        self._situation = situation
        self._tenants = {tenant.model: tenant for tenant in situation.tenants}
        self._busy = {tenant.model: tenant.in_flight for tenant in situation.tenants}
        (device,) = situation.devices
        self._device = device.name
        held = sum(tenant.bytes for tenant in situation.tenants)
        self._free = device.budget_bytes - device.taken_elsewhere_bytes - held
        self._coming = sum(t.bytes for t in situation.tenants if t.state is TenantState.LEAVING)
        self._models = len(situation.tenants)
        self._started = set[str]()

    def seat(self, ask: Waiting) -> bool:
        tenant = self._tenants.get(ask.model)
        if tenant is None or tenant.state is not TenantState.RESIDENT or ask.model in self._started:
            return False
        if self._busy[ask.model] >= tenant.slots:
            return False
        self._busy[ask.model] += 1
        self.moves.append(Run(ask.ask))
        return True

    def bring_in(self, ask: Waiting) -> None:
        if ask.model in self._tenants or ask.model in self._started:
            return
        self._started.add(ask.model)
        needed = self._situation.places[ask.model][0].bytes
        few_enough = self._models < self._situation.rules.max_models
        if needed <= self._free and few_enough:
            self._free -= needed
            self._models += 1
            self.moves.append(Load(ask.model, self._device, "asked for"))
            return
        for tenant in self._idle():
            leaving = self._coming or self._free < needed
            if needed <= self._free + self._coming and leaving and (few_enough or self._coming):
                break
            self._started.add(tenant.model)
            self._coming += tenant.bytes
            self.moves.append(Evict(tenant.model, f"least recently used, for {ask.model}"))
        self._free -= needed  # kept for it, so that nobody behind takes what it waits for

    def _idle(self) -> list[Tenant]:
        """Return who may leave, the least recently used first."""
        idle = [
            tenant
            for tenant in self._tenants.values()
            if tenant.state is TenantState.RESIDENT
            and not self._busy[tenant.model]
            and tenant.model not in self._started
        ]
        return sorted(idle, key=lambda tenant: (-tenant.idle_s, tenant.model))
