"""Decides who runs, who is loaded and who has to leave. Pure: no clock, no I/O, no randomness.

`plan` looks at one `Situation` and returns the moves to start now; when any of them ends, or time has
passed, it is asked again. In order:

1. Refuse asks whose model no device could ever hold.
2. Rank the rest (`ranking`): class, then age.
3. For each absent model, in the rank of its first ask, choose the device where that ask would be done
   soonest, weighed against what would be lost there (`eviction`): load where memory is free, else start
   the evictions that make room, else reserve and wait.
4. Seat asks at resident models with a free slot, unless the model has to leave for one ranked above.
5. Stop loads nobody wants; with nobody blocked, load ahead what is expected.

Among asks of one class a model in use is served until its queue is empty (exhaustive service, as in
polling systems: batches grow with the load, so swaps do not), but nobody's place outlasts `turn_swaps`
once others wait for it, nor makes an ask miss its deadline that could still be met. Work of a lower class never delays a higher one by more than what is in flight.
Memory is counted at its cautious end, from the moment a load starts until the engine has given it back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from studium.fleet.eviction import Candidate, cheapest
from studium.fleet.ranking import Ranked, rank
from studium.fleet.situation import (
    Abandon,
    Evict,
    Expected,
    Load,
    Move,
    Place,
    Refuse,
    Run,
    Situation,
    Tenant,
    TenantState,
    Waiting,
)

# What is expected is loaded ahead at someone's cost only when keeping that one is worth less than this share.
_PREFETCH_WORTH = 0.5
_SHRUNK = 0  # the level of a promise that is made to nobody


def plan(situation: Situation) -> list[Move]:
    """Return the moves to start now, in the order to start them."""
    fits = {model: _could_fit(situation, model) for model in {ask.model for ask in situation.waiting}}
    ranked = rank(
        [ask for ask in situation.waiting if fits[ask.model]], situation.rules, situation.served_s_ago
    )
    refused = [_refuse(situation, ask) for ask in situation.waiting if not fits[ask.model]]
    return refused + _Planner(situation, ranked).moves()


def _refuse(situation: Situation, ask: Waiting) -> Move:
    needed = min(place.bytes for place in situation.places[ask.model])
    return Refuse(ask.ask, needed, max((device.budget_bytes for device in situation.devices), default=0))


def _could_fit(situation: Situation, model: str) -> bool:
    budgets = {device.name: device.budget_bytes for device in situation.devices}
    places = situation.places.get(model, ())
    return not places or any(p.bytes == 0 or p.bytes <= budgets.get(p.device, -1) for p in places)


@dataclass(frozen=True, slots=True)
class _Option:
    """A way to bring a model in: where, at whose cost, and how long until its first ask is done."""

    place: Place
    victims: tuple[Tenant, ...]
    cost_s: float


class _Planner:
    """The bookkeeping of one call: what is free, who is busy, whose place is promised to whom."""

    def __init__(self, situation: Situation, ranked: Sequence[Ranked]) -> None:
        self._situation = situation
        self._rules = situation.rules
        self._ranked = ranked
        self._tenants = {tenant.model: tenant for tenant in situation.tenants}
        self._queues: dict[str, list[Ranked]] = {}
        for one in ranked:
            self._queues.setdefault(one.ask.model, []).append(one)
        # Free now, and free once everybody who is leaving has left; reservations are taken from both.
        self._free = {
            device.name: device.budget_bytes - device.taken_elsewhere_bytes for device in situation.devices
        }
        for tenant in situation.tenants:
            self._free[tenant.device] = self._free.get(tenant.device, 0) - tenant.bytes
        self._coming = dict(self._free)
        for tenant in situation.tenants:
            if tenant.state is TenantState.LEAVING:
                self._coming[tenant.device] += tenant.bytes
        self._held = sum(1 for tenant in situation.tenants if tenant.bytes > 0)
        self._promised: dict[str, int] = {}  # a resident's model -> the level it is promised to
        self._moves: list[Move] = []

    def moves(self) -> list[Move]:
        self._shrink()
        blocked = self._bring_in()
        runs = self._seat()
        self._abandon()
        if not blocked and self._rules.prefetch:
            self._prefetch()
        return [*runs, *self._moves]

    # --- absent models ---------------------------------------------------------------------------

    def _bring_in(self) -> bool:
        """Start loads and evictions for absent models; True where somebody stays without a place."""
        blocked = False
        for model, queue in self._queues.items():  # in the rank of their first asks
            if model in self._tenants:
                continue
            first = queue[0]
            options = [option for place in self._places(model) if (option := self._option(first, place))]
            if not options:
                blocked = True
                self._reserve_for(first)
                continue
            best = min(options, key=lambda option: option.cost_s)
            blocked |= not self._take(best, first)
        return blocked

    def _places(self, model: str) -> Sequence[Place]:
        return self._situation.places.get(model) or (Place(self._situation.devices[0].name, 0, 0.0),)

    def _option(self, first: Ranked, place: Place) -> _Option | None:
        """Return how `place` could be had for a model, or None where it cannot be for now."""
        run_s = first.ask.run_seconds * place.slowdown
        if place.bytes == 0:
            return _Option(place, (), place.load_seconds + run_s)
        count_short = self._held >= self._rules.max_models
        short = place.bytes - self._free.get(place.device, 0)
        if short <= 0 and not count_short:
            return _Option(place, (), place.load_seconds + run_s)
        short_later = place.bytes - self._coming.get(place.device, 0)
        count_later = self._held - self._leaving() >= self._rules.max_models
        if short_later <= 0 and not count_later:
            leaving_s = max((t.unload_seconds for t in self._tenants.values()), default=0.0)
            return _Option(place, (), leaving_s + place.load_seconds + run_s)
        candidates = [
            Candidate(tenant, self._loss_s(tenant, place))
            for tenant in self._tenants.values()
            if self._may_take(first, tenant, place) and (tenant.device == place.device or count_later)
        ]
        chosen = cheapest(candidates, short_later, at_least=1 if count_later else 0)
        if chosen is None:
            return None
        drain_s = max((one.tenant.busy_s for one in chosen), default=0.0)
        unload_s = max((one.tenant.unload_seconds for one in chosen), default=0.0)
        loss_s = sum(one.loss_s for one in chosen)
        cost_s = drain_s + unload_s + place.load_seconds + run_s + loss_s
        return _Option(place, tuple(one.tenant for one in chosen), cost_s)

    def _take(self, option: _Option, first: Ranked) -> bool:
        """Load now, or clear the way; False where the model has to wait for those it displaces."""
        place, model = option.place, first.ask.model
        now = place.bytes == 0 or (
            not option.victims
            and place.bytes <= self._free.get(place.device, 0)
            and self._held < self._rules.max_models
        )
        for tenant in option.victims:
            self._promised[tenant.model] = first.level
            self._coming[tenant.device] += tenant.bytes
            if self._idle(tenant) or tenant.preemptible:
                self._evict(tenant, f"makes room for {model}")
        self._free[place.device] = self._free.get(place.device, 0) - place.bytes
        self._coming[place.device] = self._coming.get(place.device, 0) - place.bytes
        self._held += place.bytes > 0
        if now:
            self._moves.append(Load(model, place.device, f"asked for {first.ask.waited_s:.1f} s ago"))
        return now

    def _reserve_for(self, first: Ranked) -> None:
        """Nobody ranked below may take what an ask that has waited long enough is waiting for."""
        place = self._places(first.ask.model)[0]
        if first.overdue or first.ask.waited_s >= self._rules.turn_swaps * (place.load_seconds + 1.0):
            self._free[place.device] = self._free.get(place.device, 0) - place.bytes
            self._coming[place.device] = self._coming.get(place.device, 0) - place.bytes

    def _may_take(self, first: Ranked, tenant: Tenant, place: Place) -> bool:
        """Whether `tenant` may be made to leave for an ask: at once if idle, else when it is done."""
        if tenant.state is not TenantState.RESIDENT or tenant.bytes == 0 or tenant.model in self._promised:
            return False
        if tenant.preemptible and tenant.in_flight:
            return first.level > tenant.priority
        rivals = [one for one in self._queues.get(tenant.model, ()) if one.level >= first.level]
        if not rivals and (not tenant.in_flight or tenant.priority < first.level):
            return True
        swap_s = self._swap_s(tenant, place)
        if min(first.ask.waited_s, tenant.resident_s) >= self._rules.turn_swaps * swap_s:
            return True
        return tenant.resident_s >= swap_s and self._is_last_chance(first.ask, tenant, place, swap_s)

    def _is_last_chance(self, ask: Waiting, tenant: Tenant, place: Place, swap_s: float) -> bool:
        """Whether an ask would be answered in time if the tenant began to leave now, and not much later."""
        if ask.deadline_s is None:
            return False
        done_s = tenant.busy_s + tenant.unload_seconds + place.load_seconds + ask.run_seconds * place.slowdown
        return abs(ask.deadline_s - done_s) <= swap_s

    def _swap_s(self, tenant: Tenant, place: Place) -> float:
        return tenant.unload_seconds + place.load_seconds + tenant.load_seconds

    def _loss_s(self, tenant: Tenant, place: Place) -> float:
        """Return the seconds lost by a tenant's leaving: its way back, as likely as it is to be needed.

        Needed within about ten swaps, that is: what is asked for later would be displaced anyway.
        """
        if self._queues.get(tenant.model):
            return tenant.load_seconds + tenant.busy_s
        horizon_s = 10 * self._swap_s(tenant, place) + 1.0
        needed = tenant.uses_per_second * horizon_s
        for hint in self._situation.expected:
            if hint.model == tenant.model and hint.in_s < horizon_s:
                needed += hint.probability * horizon_s / (hint.in_s + 1.0)
        fresh = horizon_s / (horizon_s + tenant.idle_s)  # of equals, the longest unused leaves
        return tenant.load_seconds * (needed + 0.1 * fresh) / (1 + needed) + tenant.busy_s

    # --- resident models -------------------------------------------------------------------------

    def _seat(self) -> list[Move]:
        runs: list[Move] = []
        free_slots = {
            tenant.model: tenant.slots - tenant.in_flight
            for tenant in self._tenants.values()
            if tenant.state is TenantState.RESIDENT and not self._evicted(tenant)
        }
        for one in self._ranked:
            model = one.ask.model
            if free_slots.get(model, 0) <= 0 or model in self._promised:
                continue
            free_slots[model] -= 1
            runs.append(Run(one.ask.ask))
        return runs

    # --- keeping house ---------------------------------------------------------------------------

    def _abandon(self) -> None:
        hinted = {hint.model for hint in self._situation.expected}
        for tenant in self._tenants.values():
            unwanted = tenant.model not in self._queues and tenant.model not in hinted
            if tenant.state is TenantState.LOADING and unwanted and not tenant.in_flight:
                self._moves.append(Abandon(tenant.model, "nobody wants it any more"))

    def _shrink(self) -> None:
        """More is held than there is (a model grew, another program came): the cheapest to lose go.

        Idle ones at once; where they are not enough, others take no new work until they are idle.
        """
        for device in self._situation.devices:
            held = [tenant for tenant in self._tenants.values() if tenant.device == device.name]
            staying = [tenant for tenant in held if tenant.state is not TenantState.LEAVING]
            there = device.budget_bytes - device.taken_elsewhere_bytes
            excess = sum(tenant.bytes for tenant in staying) - there
            movable = [t for t in staying if t.state is TenantState.RESIDENT and t.bytes > 0]
            for tenant in sorted(
                movable, key=lambda t: (t.in_flight > 0, self._loss_s(t, _home(t)), t.model)
            ):
                if excess <= 0:
                    break
                excess -= tenant.bytes
                self._coming[device.name] += tenant.bytes
                self._promised[tenant.model] = _SHRUNK
                if self._idle(tenant):
                    self._evict(tenant, "more memory is in use than the budget allows")

    def _prefetch(self) -> None:
        soonest: dict[str, Expected] = {}
        for hint in sorted(self._situation.expected, key=lambda one: (one.in_s, one.model)):
            soonest.setdefault(hint.model, hint)
        for hint in soonest.values():
            if hint.model in self._tenants or hint.model in self._queues:
                continue
            place = next(iter(self._situation.places.get(hint.model, ())), None)
            if place is None or place.bytes == 0 or not _could_fit(self._situation, hint.model):
                continue
            if not self._load_ahead(hint, place):
                return  # the next to be needed comes first; nothing later may take its room

    def _load_ahead(self, hint: Expected, place: Place) -> bool:
        if place.bytes <= self._free.get(place.device, 0) and self._held < self._rules.max_models:
            self._free[place.device] -= place.bytes
            self._held += 1
            self._moves.append(
                Load(hint.model, place.device, f"expected in {hint.in_s:.0f} s", prefetch=True)
            )
            return True
        sooner = {one.model for one in self._situation.expected if one.in_s <= hint.in_s}
        idle = [
            Candidate(tenant, self._loss_s(tenant, place))
            for tenant in self._tenants.values()
            if self._idle(tenant)
            and tenant.device == place.device
            and tenant.bytes > 0
            and tenant.model not in sooner
            and not self._evicted(tenant)
        ]
        short = place.bytes - self._coming.get(place.device, 0)
        chosen = cheapest(idle, short, at_least=int(self._held - self._leaving() >= self._rules.max_models))
        if not chosen:
            return False
        if sum(one.loss_s for one in chosen) > _PREFETCH_WORTH * hint.probability * place.load_seconds:
            return False
        for one in chosen:
            self._evict(one.tenant, f"makes room for {hint.model}, expected in {hint.in_s:.0f} s")
        return False

    def _idle(self, tenant: Tenant) -> bool:
        return tenant.state is TenantState.RESIDENT and not tenant.in_flight

    def _leaving(self) -> int:
        going = sum(1 for t in self._tenants.values() if t.state is TenantState.LEAVING and t.bytes > 0)
        return going + len(self._promised)

    def _evict(self, tenant: Tenant, reason: str) -> None:
        self._promised.setdefault(tenant.model, _SHRUNK)
        self._moves.append(Evict(tenant.model, reason))

    def _evicted(self, tenant: Tenant) -> bool:
        return any(isinstance(move, Evict) and move.model == tenant.model for move in self._moves)


def _home(tenant: Tenant) -> Place:
    return Place(tenant.device, tenant.bytes, tenant.load_seconds, tenant.unload_seconds)
