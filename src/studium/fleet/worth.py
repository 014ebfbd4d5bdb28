"""What a place is worth to who has it, and who may take it. Pure; all in seconds."""

from studium.fleet.ledger import Ledger
from studium.fleet.ranking import Ranked
from studium.fleet.situation import Expected, Place, Rules, Tenant, TenantState, Waiting

# A model's use counts this many swaps ahead: what is asked for later would be displaced anyway.
_SWAPS_AHEAD = 10
_SHORTEST_TURN_S = 1.0


def swap_s(tenant: Tenant, place: Place) -> float:
    """Return what putting another model into a tenant's place costs, its own way back included."""
    return tenant.unload_seconds + place.load_seconds + tenant.load_seconds


def turn_s(rules: Rules, one_swap_s: float) -> float:
    """Return how long a model others wait for keeps its place; never so short that it serves nobody."""
    return max(_SHORTEST_TURN_S, rules.turn_swaps * one_swap_s)


def loss_ahead_s(tenant: Tenant, hint: Expected, place: Place) -> float:
    """Return the seconds lost by a tenant's leaving for a load ahead: its way back, if needed before that is used.

    Later than that it can be loaded ahead in its turn (Belady: who is needed farthest from now leaves).
    """
    horizon_s = hint.in_s + swap_s(tenant, place)
    needed = tenant.uses_per_second * horizon_s
    return tenant.load_seconds * needed / (1 + needed)


def loss_s(ledger: Ledger, tenant: Tenant, place: Place) -> float:
    """Return the seconds lost by a tenant's leaving: its way back, as likely as it is to be needed.

    Plus the wait for what it has in flight. Of two that are as likely, the longest unused loses less.
    """
    if ledger.queues.get(tenant.model):
        return tenant.load_seconds + tenant.busy_s
    horizon_s = _SWAPS_AHEAD * swap_s(tenant, place) + 1.0
    needed = tenant.uses_per_second * horizon_s
    for hint in ledger.situation.expected:
        if hint.model == tenant.model and hint.in_s < horizon_s:
            needed += hint.probability * horizon_s / (hint.in_s + 1.0)
    fresh = horizon_s / (horizon_s + tenant.idle_s)
    return tenant.load_seconds * (needed + 0.1 * fresh) / (1 + needed) + tenant.busy_s


def may_take(ledger: Ledger, first: Ranked, tenant: Tenant, place: Place) -> bool:
    """Whether a tenant may be made to leave for an ask: at once if idle, else when it is done.

    It may if nobody as urgent uses or wants it, if its turn is over, or if the ask's last chance to be
    answered in time has come. A load under way that only somebody's expectation started may be stopped.
    """
    if tenant.bytes == 0 or tenant.model in ledger.promised or ledger.is_leaving(tenant.model):
        return False
    queue = ledger.queues.get(tenant.model, ())
    if tenant.state is TenantState.LOADING:
        return not queue and not tenant.in_flight
    if tenant.state is not TenantState.RESIDENT:
        return False
    if tenant.preemptible and tenant.in_flight:
        return first.level > tenant.priority
    rivals = any(one.level >= first.level for one in queue)
    if not rivals and (not tenant.in_flight or tenant.priority < first.level):
        return True
    one_swap_s = swap_s(tenant, place)
    if min(first.ask.waited_s, tenant.resident_s) >= turn_s(ledger.rules, one_swap_s):
        return True
    return tenant.resident_s >= one_swap_s and _is_last_chance(first.ask, tenant, place)


def _is_last_chance(ask: Waiting, tenant: Tenant, place: Place) -> bool:
    """Whether an ask would be answered in time if the tenant began to leave now, and not much later."""
    if ask.deadline_s is None:
        return False
    done_s = tenant.busy_s + tenant.unload_seconds + place.load_seconds + ask.run_seconds * place.slowdown
    return abs(ask.deadline_s - done_s) <= swap_s(tenant, place)
