"""Decides who runs, who is loaded and who has to leave. Pure: no clock, no I/O, no randomness.

`plan` looks at one `Situation` and returns the moves to start now; when any of them ends, residency
asks again. In order:

1. Refuse asks whose model can never fit the budget.
2. Rank the rest: priority first, then age.
3. Run asks whose model is resident and has a free slot, unless that model has to leave for one who
   has waited past `patience_s`.
4. For the others, in rank: load where memory is free; else evict idle models, those cheapest to bring
   back first, if that makes enough room; else wait.
5. A blocked ask may be passed by smaller ones only until it has waited `patience_s`.

Memory is counted at its cautious end: what a model was measured or forecast to need at most, from the
moment its load starts until its engine has given it back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class TenantState(StrEnum):
    LOADING = "loading"
    RESIDENT = "resident"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Tenant:
    """A model that holds memory now. `idle_s` counts since its last run ended."""

    model: str
    state: TenantState
    bytes: int
    slots: int
    in_flight: int
    idle_s: float
    load_seconds: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """An ask that has no seat yet."""

    ask: int
    model: str
    priority: int
    waited_s: float


@dataclass(frozen=True, slots=True)
class Situation:
    """All that `plan` may know. `needs` holds the cautious bytes of every model that is waited for."""

    waiting: Sequence[Waiting]
    tenants: Sequence[Tenant]
    needs: Mapping[str, int]
    budget_bytes: int
    max_models: int
    patience_s: float


@dataclass(frozen=True, slots=True)
class Run:
    ask: int


@dataclass(frozen=True, slots=True)
class Load:
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Evict:
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    ask: int
    needed_bytes: int


Move = Run | Load | Evict | Refuse


def plan(situation: Situation) -> list[Move]:
    """Return the moves to start now, in the order to start them."""
    moves: list[Move] = []
    fitting: list[Waiting] = []
    for ask in sorted(situation.waiting, key=lambda one: (-one.priority, -one.waited_s, one.ask)):
        if situation.needs[ask.model] > situation.budget_bytes:
            moves.append(Refuse(ask.ask, situation.needs[ask.model]))
        else:
            fitting.append(ask)
    return moves + _Planner(situation).place(fitting)


class _Planner:
    """The bookkeeping of one call of `plan`: what is free, who is busy, who must leave."""

    def __init__(self, situation: Situation) -> None:
        self.situation = situation
        self.tenants = {tenant.model: tenant for tenant in situation.tenants}
        self.busy = {tenant.model: tenant.in_flight for tenant in situation.tenants}
        self.leaving = {t.model for t in situation.tenants if t.state is TenantState.LEAVING}
        self.loading = {t.model for t in situation.tenants if t.state is TenantState.LOADING}
        self.free_bytes = situation.budget_bytes - sum(tenant.bytes for tenant in situation.tenants)
        self.moves: list[Move] = []

    def place(self, ranked: Sequence[Waiting]) -> list[Move]:
        barred = self._barred(ranked)
        homeless = [ask for ask in ranked if not self._seat(ask, barred)]
        for ask in homeless:
            if ask.model in self.tenants or ask.model in self.loading:
                continue
            placed = self._load(ask) or self._make_room(ask)
            if not placed and ask.waited_s >= self.situation.patience_s:
                break  # nobody may take what this one is waiting for
        if self.free_bytes < 0:
            self._shrink()
        return self.moves

    def _barred(self, ranked: Sequence[Waiting]) -> set[str]:
        """Models that take no new work because an ask past its patience needs their place."""
        starving = next(
            (a for a in ranked if a.waited_s >= self.situation.patience_s and a.model not in self.tenants),
            None,
        )
        if starving is None:
            return set()
        residents = self._residents(only_idle=False)
        victims = self._victims(self._shortfall(starving), residents)
        return {tenant.model for tenant in residents} if victims is None else set(victims)

    def _seat(self, ask: Waiting, barred: set[str]) -> bool:
        tenant = self.tenants.get(ask.model)
        if tenant is None or tenant.state is not TenantState.RESIDENT or ask.model in barred:
            return False
        if self.busy[ask.model] >= tenant.slots:
            return False
        self.busy[ask.model] += 1
        self.moves.append(Run(ask.ask))
        return True

    def _load(self, ask: Waiting) -> bool:
        if self._shortfall(ask) > 0 or not self._has_place(ask):
            return False
        self.free_bytes -= self.situation.needs[ask.model]
        self.loading.add(ask.model)
        self.moves.append(Load(ask.model, f"asked for, {ask.waited_s:.1f} s ago"))
        return True

    def _make_room(self, ask: Waiting) -> bool:
        """Start evictions that, once done, let `ask` load; False where even they would not do."""
        returning = sum(self.tenants[model].bytes for model in self.leaving)
        shortfall = self._shortfall(ask) - returning
        idle = self._residents(only_idle=True)
        victims = self._victims(shortfall, idle)
        if victims is not None and not victims and not self._has_place(ask) and not self.leaving:
            victims = [tenant.model for tenant in idle[:1]] or None
        if victims is None:
            return False
        for model in victims:
            self.leaving.add(model)
            self.moves.append(Evict(model, f"makes room for {ask.model}"))
        return True

    def _shrink(self) -> None:
        """More is held than the budget allows (a model grew): let idle models go until it fits."""
        returning = sum(self.tenants[model].bytes for model in self.leaving)
        for tenant in self._residents(only_idle=True):
            if self.free_bytes + returning >= 0:
                return
            returning += tenant.bytes
            self.leaving.add(tenant.model)
            self.moves.append(Evict(tenant.model, "the budget was exceeded"))

    def _shortfall(self, ask: Waiting) -> int:
        return self.situation.needs[ask.model] - self.free_bytes

    def _has_place(self, ask: Waiting) -> bool:
        """Whether one more model is allowed; models that hold no memory of ours do not count."""
        if self.situation.needs[ask.model] == 0:
            return True
        held = sum(1 for tenant in self.tenants.values() if tenant.bytes > 0) + len(
            self.loading - set(self.tenants)
        )
        return held < self.situation.max_models

    def _residents(self, *, only_idle: bool) -> list[Tenant]:
        """Resident models that could leave, cheapest to bring back per second unused first."""
        candidates = [
            tenant
            for tenant in self.tenants.values()
            if tenant.state is TenantState.RESIDENT
            and tenant.model not in self.leaving
            and tenant.bytes > 0
            and not (only_idle and self.busy[tenant.model])
        ]
        return sorted(candidates, key=lambda t: (t.load_seconds / (t.idle_s + 0.1), t.model))

    def _victims(self, shortfall: int, candidates: Sequence[Tenant]) -> list[str] | None:
        """The first candidates that cover `shortfall`, without those that prove superfluous."""
        chosen: list[Tenant] = []
        for tenant in candidates:
            if sum(one.bytes for one in chosen) >= shortfall:
                break
            chosen.append(tenant)
        surplus = sum(one.bytes for one in chosen) - shortfall
        if surplus < 0:
            return None
        for tenant in sorted(chosen, key=lambda one: -one.bytes):
            if tenant.bytes <= surplus:
                surplus -= tenant.bytes
                chosen.remove(tenant)
        return [tenant.model for tenant in chosen]
