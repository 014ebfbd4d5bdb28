"""The bookkeeping of one call of `plan`: what is free, what comes free, whose place is promised, which moves stand."""

from collections.abc import Sequence

from studium.fleet.ranking import Ranked
from studium.fleet.situation import Abandon, Evict, Load, Move, Place, Situation, Tenant, TenantState


class Ledger:
    """Starts from a situation and changes with every move that is entered.

    `queues` holds the waiting asks by model, models in the rank of their first ask. `promised` names the
    tenants that take no new work because somebody else is to have their place, `seated` those that just got some.
    """

    def __init__(self, situation: Situation, ranked: Sequence[Ranked]) -> None:
        self.situation = situation
        self.rules = situation.rules
        self.ranked = ranked
        self.tenants = {tenant.model: tenant for tenant in situation.tenants}
        self.queues: dict[str, list[Ranked]] = {}
        for one in ranked:
            self.queues.setdefault(one.ask.model, []).append(one)
        self.promised: set[str] = set()
        self.seated: set[str] = set()
        self.moves: list[Move] = []
        self._gone: set[str] = set()
        self._held = sum(1 for tenant in situation.tenants if tenant.bytes > 0)
        self._free = {
            device.name: device.budget_bytes - device.taken_elsewhere_bytes for device in situation.devices
        }
        for tenant in situation.tenants:
            self._free[tenant.device] = self._free.get(tenant.device, 0) - tenant.bytes
        self._coming = dict(self._free)
        for tenant in situation.tenants:
            if tenant.state is TenantState.LEAVING:
                self._coming[tenant.device] += tenant.bytes

    def short_bytes(self, place: Place) -> int:
        """Return what `place` lacks now; zero or less where it is free."""
        return place.bytes - self._free.get(place.device, 0)

    def short_later_bytes(self, place: Place) -> int:
        """Return what `place` lacks once everybody who is leaving has left."""
        return place.bytes - self._coming.get(place.device, 0)

    def has_room(self, place: Place) -> bool:
        """Whether a model may be loaded there at once; one that holds no memory of ours always may."""
        return place.bytes == 0 or (self.short_bytes(place) <= 0 and self._held < self.rules.max_models)

    def is_full_later(self) -> bool:
        """Whether there are as many models as allowed even once everybody who is leaving has left."""
        leaving = sum(1 for t in self.tenants.values() if t.state is TenantState.LEAVING and t.bytes > 0)
        return self._held - leaving - len(self.promised) >= self.rules.max_models

    def is_idle(self, tenant: Tenant) -> bool:
        return tenant.state is TenantState.RESIDENT and not tenant.in_flight

    def is_leaving(self, model: str) -> bool:
        """Whether a move of this plan takes the model out."""
        return model in self._gone

    def reserve(self, place: Place) -> None:
        """Set memory aside, so that nobody ranked below takes it."""
        self._free[place.device] = self._free.get(place.device, 0) - place.bytes
        self._coming[place.device] = self._coming.get(place.device, 0) - place.bytes

    def hold(self, place: Place) -> None:
        """Set memory and one of the allowed places aside for a model that comes in."""
        self.reserve(place)
        self._held += place.bytes > 0

    def promise(self, tenant: Tenant) -> None:
        """Give a tenant's place to somebody else: it takes no new work, and leaves when it can."""
        self.promised.add(tenant.model)
        self._coming[tenant.device] += tenant.bytes

    def load(self, model: str, place: Place, reason: str, *, prefetch: bool = False) -> None:
        """Enter a load whose memory is held already."""
        self.moves.append(Load(model, place.device, reason, prefetch))

    def clear(self, tenant: Tenant, reason: str) -> None:
        """Take a promised tenant out as far as that can be done now: else it leaves once it is idle."""
        if tenant.state is TenantState.LOADING:
            self.abandon(tenant, reason)
        elif self.is_idle(tenant) or tenant.preemptible:
            self.moves.append(Evict(tenant.model, reason))
            self._gone.add(tenant.model)

    def abandon(self, tenant: Tenant, reason: str) -> None:
        """Enter the end of a load, once."""
        if tenant.model not in self._gone:
            self.moves.append(Abandon(tenant.model, reason))
            self._gone.add(tenant.model)
