"""Decides who runs, who is loaded and who has to leave. Pure: no clock, no I/O, no randomness.

`plan` looks at one `Situation` and returns the moves to start now; when any of them ends, or time has
passed, it is asked again. In order:

1. Refuse asks whose model no device could ever hold.
2. Rank the rest (`ranking`): class, then age.
3. For each absent model, in the rank of its first ask, choose the device where that ask would be done
   soonest, weighed against what would be lost there (`worth`, `eviction`): load where memory is free, else start
   the evictions that make room, else reserve and wait.
4. Seat asks at resident models with a free slot, unless the model has to leave for one ranked above.
5. Stop loads nobody wants; with nobody blocked, load ahead what is expected (`housekeeping`).

Among asks of one class a model in use is served until its queue is empty (exhaustive service, as in
polling systems: batches grow with the load, so swaps do not), but nobody's place outlasts `turn_swaps`
once others wait for it, nor makes an ask miss a deadline that could still be met. Work of a lower class
never delays a higher one by more than what is in flight.
Memory is counted at its cautious end, from the moment a load starts until the engine has given it back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from studium.fleet.eviction import Candidate, cheapest
from studium.fleet.housekeeping import could_fit, load_ahead, shrink, stop_unwanted_loads
from studium.fleet.ledger import Ledger
from studium.fleet.ranking import Ranked, rank
from studium.fleet.situation import Move, Place, Refuse, Run, Situation, Tenant, TenantState, Waiting
from studium.fleet.worth import loss_s, may_take, turn_s


def plan(situation: Situation) -> list[Move]:
    """Return the moves to start now, in the order to start them."""
    at_home = {tenant.model for tenant in situation.tenants}
    asked = {ask.model for ask in situation.waiting}
    fits = {model: model in at_home or could_fit(situation, model) for model in asked}
    refused = [_refuse(situation, ask) for ask in situation.waiting if not fits[ask.model]]
    fitting = [ask for ask in situation.waiting if fits[ask.model]]
    ledger = Ledger(situation, rank(fitting, situation.rules, situation.served_s_ago))
    shrink(ledger)
    somebody_is_blocked = _bring_in(ledger)
    runs = _seat(ledger)
    stop_unwanted_loads(ledger)
    if situation.rules.prefetch and not somebody_is_blocked:
        load_ahead(ledger)
    return [*refused, *runs, *ledger.moves]


def _refuse(situation: Situation, ask: Waiting) -> Move:
    needed = min(place.bytes for place in situation.places[ask.model])
    return Refuse(ask.ask, needed, max((device.budget_bytes for device in situation.devices), default=0))


def _seat(ledger: Ledger) -> Sequence[Move]:
    """Give free slots to those ranked first, at models whose place is not promised away."""
    free_slots = {
        tenant.model: tenant.slots - tenant.in_flight
        for tenant in ledger.tenants.values()
        if tenant.state is TenantState.RESIDENT and tenant.model not in ledger.promised
    }
    runs: list[Move] = []
    for one in ledger.ranked:
        if free_slots.get(one.ask.model, 0) > 0:
            free_slots[one.ask.model] -= 1
            ledger.seated.add(one.ask.model)
            runs.append(Run(one.ask.ask))
    return runs


@dataclass(frozen=True, slots=True)
class _Option:
    """A way to bring a model in: where, at whose cost, and what that comes to in seconds."""

    place: Place
    victims: tuple[Tenant, ...]
    cost_s: float


def _bring_in(ledger: Ledger) -> bool:
    """Start loads and evictions for absent models; True where somebody stays without a place."""
    blocked = False
    for model, queue in ledger.queues.items():
        if model in ledger.tenants:
            continue
        first = queue[0]
        options = [
            option
            for place in _places(ledger, model)
            if (option := _option(ledger, first, place)) is not None
        ]
        if options:
            blocked |= not _take(ledger, first, min(options, key=lambda option: option.cost_s))
        else:
            blocked = True
            _reserve(ledger, first)
    return blocked


def _places(ledger: Ledger, model: str) -> Sequence[Place]:
    return ledger.situation.places.get(model) or (Place(ledger.situation.devices[0].name, 0, 0.0),)


def _option(ledger: Ledger, first: Ranked, place: Place) -> _Option | None:
    """Return how `place` could be had for a model, or None where it cannot be for now."""
    alone_s = place.load_seconds + first.ask.run_seconds * place.slowdown
    if ledger.has_room(place):
        return _Option(place, (), alone_s)
    is_full, short_bytes = ledger.is_full_later(), ledger.short_later_bytes(place)
    if short_bytes <= 0 and not is_full:
        leaving = [t.unload_seconds for t in ledger.tenants.values() if t.state is TenantState.LEAVING]
        return _Option(place, (), max(leaving, default=0.0) + alone_s)
    candidates = [
        Candidate(tenant, loss_s(ledger, tenant, place))
        for tenant in ledger.tenants.values()
        if (tenant.device == place.device or is_full) and may_take(ledger, first, tenant, place)
    ]
    if short_bytes > 0:  # what lies elsewhere frees nothing here
        candidates = [one for one in candidates if one.tenant.device == place.device]
    chosen = cheapest(candidates, short_bytes, at_least=int(is_full))
    if chosen is None:
        return None
    drain_s = max((one.tenant.busy_s + one.tenant.unload_seconds for one in chosen), default=0.0)
    return _Option(
        place, tuple(one.tenant for one in chosen), drain_s + alone_s + sum(one.loss_s for one in chosen)
    )


def _take(ledger: Ledger, first: Ranked, option: _Option) -> bool:
    """Load now, or clear the way; False where the model has to wait for those it displaces."""
    place, model = option.place, first.ask.model
    at_once = ledger.has_room(place) and not option.victims
    for tenant in option.victims:
        ledger.promise(tenant)
        ledger.clear(tenant, f"makes room for {model}")
    ledger.hold(place)
    if at_once:
        ledger.load(model, place, f"asked for {first.ask.waited_s:.1f} s ago")
    return at_once


def _reserve(ledger: Ledger, first: Ranked) -> None:
    """Keep others off the memory a model waits for that was away for a turn, so that it adds up."""
    place = _places(ledger, first.ask.model)[0]
    away_s = min(first.ask.waited_s, ledger.situation.away_s.get(first.ask.model, first.ask.waited_s))
    if first.overdue or away_s >= turn_s(ledger.rules, 2 * place.load_seconds + place.unload_seconds):
        ledger.reserve(place)
