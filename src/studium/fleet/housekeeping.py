"""What the planner does unasked: give back memory that is no longer there, stop loads, load ahead."""

from studium.fleet.eviction import Candidate, cheapest
from studium.fleet.ledger import Ledger
from studium.fleet.situation import Expected, Place, Situation, Tenant, TenantState
from studium.fleet.worth import loss_ahead_s, loss_s

# What is expected is loaded ahead at someone's cost only when keeping that one is worth less than this share.
_PREFETCH_WORTH = 0.5


def could_fit(situation: Situation, model: str) -> bool:
    """Whether some device could ever hold a model."""
    budgets = {device.name: device.budget_bytes for device in situation.devices}
    places = situation.places.get(model, ())
    return not places or any(p.bytes == 0 or p.bytes <= budgets.get(p.device, -1) for p in places)


def shrink(ledger: Ledger) -> None:
    """Where more is held than there is (a model grew, another program came), the cheapest to lose go.

    Idle ones at once; where they are not enough, others take no new work until they are idle.
    """
    for device in ledger.situation.devices:
        held = [tenant for tenant in ledger.tenants.values() if tenant.device == device.name]
        staying = [tenant for tenant in held if tenant.state is not TenantState.LEAVING]
        excess = sum(tenant.bytes for tenant in staying)
        excess -= device.budget_bytes - device.taken_elsewhere_bytes
        movable = [t for t in staying if t.state is TenantState.RESIDENT and t.bytes > 0]
        movable.sort(key=lambda t: (t.in_flight > 0, loss_s(ledger, t, _home(t)), t.model))
        for tenant in movable:
            if excess <= 0:
                break
            excess -= tenant.bytes
            ledger.promise(tenant)
            if ledger.is_idle(tenant):
                ledger.clear(tenant, "more memory is in use than the budget allows")


def stop_unwanted_loads(ledger: Ledger) -> None:
    """Stop every load that nobody waits for and nobody expects to need."""
    hinted = {hint.model for hint in ledger.situation.expected}
    for tenant in ledger.tenants.values():
        wanted = tenant.model in ledger.queues or tenant.model in hinted
        if tenant.state is TenantState.LOADING and not wanted and not tenant.in_flight:
            ledger.abandon(tenant, "nobody wants it any more")


def load_ahead(ledger: Ledger) -> None:
    """Load what is expected, soonest first, where that costs nobody much."""
    soonest: dict[str, Expected] = {}
    for hint in sorted(ledger.situation.expected, key=lambda one: (one.in_s, one.model)):
        soonest.setdefault(hint.model, hint)
    for hint in soonest.values():
        if hint.model in ledger.tenants or hint.model in ledger.queues:
            continue
        place = next(iter(ledger.situation.places.get(hint.model, ())), None)
        if place is None or place.bytes == 0 or not could_fit(ledger.situation, hint.model):
            continue
        if not ledger.has_room(place):
            _make_room(ledger, hint, place)
            return  # the next to be needed comes first; nothing later may take its room
        ledger.hold(place)
        ledger.load(hint.model, place, f"expected in {hint.in_s:.0f} s", prefetch=True)


def _make_room(ledger: Ledger, hint: Expected, place: Place) -> None:
    sooner = {one.model for one in ledger.situation.expected if one.in_s <= hint.in_s}
    idle = [
        Candidate(tenant, loss_ahead_s(tenant, hint, place))
        for tenant in ledger.tenants.values()
        if ledger.is_idle(tenant)
        and tenant.device == place.device
        and tenant.bytes > 0
        and tenant.model not in sooner | ledger.promised | ledger.seated
    ]
    chosen = cheapest(idle, ledger.short_later_bytes(place), at_least=int(ledger.is_full_later()))
    if not chosen:
        return
    if sum(one.loss_s for one in chosen) > _PREFETCH_WORTH * hint.probability * place.load_seconds:
        return
    for one in chosen:
        ledger.promise(one.tenant)
        ledger.clear(one.tenant, f"makes room for {hint.model}, expected in {hint.in_s:.0f} s")


def _home(tenant: Tenant) -> Place:
    return Place(tenant.device, tenant.bytes, tenant.load_seconds, tenant.unload_seconds)
