"""What `plan` is told: residency's books and the learned profiles as one `Situation`. Pure but for reading both."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from studium.engines.protocol import Engine
from studium.fleet.limits import homes_of, placed
from studium.fleet.profiles import Profiles
from studium.fleet.situation import Device, Expected, Place, Rules, Situation, Tenant, Waiting
from studium.fleet.tenancy import LEASE, House, Housed
from studium.fleet.waits import Costs
from studium.records.hardware import DeviceBudget, DeviceKind
from studium.records.models import ModelSpec
from studium.records.profiles import Quantity

# Stand in until something was measured: only the order of moves hangs on them.
UNKNOWN_LOAD_S = 1.0
UNKNOWN_RUN_S = 1.0
# What loads faster than this is not loaded ahead: it would cost those who run more than it spares anybody.
WORTH_LOADING_AHEAD_S = 0.25
# Asks at once to a server that schedules its own work; ours would only hold it back.
SLOTS_ELSEWHERE = 1_000

Shape = Callable[[ModelSpec], ModelSpec]


class Outlook:
    """Tells what is known. `shape` says in which shape a model would be started now."""

    def __init__(self, house: House, engines: Mapping[str, Engine], profiles: Profiles, shape: Shape) -> None:
        self._house = house
        self._engines = engines
        self._profiles = profiles
        self._shape = shape

    def situation(self, now: float) -> Situation:
        """Return all that `plan` may know at `now`, in seconds of residency's clock."""
        house = self._house
        asks = house.waiting.values()
        needs: dict[str, tuple[ModelSpec, Mapping[str, int]]]
        needs = {ask.model.name: (ask.model, ask.needs) for ask in asks}
        run_seconds = {name: self.run_seconds(model) for name, (model, _) in needs.items()}
        expected = [
            Expected(hint.model.name, max(0.0, hint.due - now), hint.probability)
            for hint in house.all_hints()
            if hint.model.name in house.tenants or self.worth_loading_ahead(hint.model)
        ]
        for hint in house.all_hints():
            needs.setdefault(hint.model.name, (hint.model, {}))
        return Situation(
            waiting=[
                Waiting(
                    ask.number,
                    ask.model.name,
                    ask.priority,
                    now - ask.since,
                    run_seconds=run_seconds[ask.model.name],
                    deadline_s=ask.until - now,
                )
                for ask in asks
            ],
            tenants=[self._tenant(tenant, now) for tenant in house.tenants.values()],
            places={name: tuple(self.places(model, known)) for name, (model, known) in needs.items()},
            devices=[
                Device(home.name, home.bytes, min(home.bytes, house.not_ours_bytes(home.name)))
                for home in house.limits.homes
            ],
            rules=self.rules(),
            expected=expected,
            served_s_ago={priority: now - at for priority, at in house.served_at.items()},
            away_s={name: now - at for name, at in house.left_at.items() if name in needs},
        )

    def rules(self) -> Rules:
        """Return what `plan` goes by."""
        limits = self._house.limits
        return Rules(max_models=limits.max_models, patience_s=limits.patience_s)

    def longest(self, models: Iterable[ModelSpec]) -> Costs:
        """Return the longest load, unload and run to expect of any of `models`, at the cautious end."""
        costs = Costs(0.0, 0.0, 0.0)
        for model in models:
            home = self.homes(model)[0]
            actual, device = self._at(model, home)
            forecast = self._profiles.forecast(actual, device=device)
            load, unload, run = (forecast.load_seconds, forecast.unload_seconds, forecast.run_seconds)
            costs = Costs(
                max(costs.load_s, load.high if load else UNKNOWN_LOAD_S),
                max(costs.unload_s, unload.high if unload else 0.0),
                max(costs.run_s, home.slowdown * (run.high if run else UNKNOWN_RUN_S)),
            )
        return costs

    def places(self, model: ModelSpec, needs: Mapping[str, int]) -> Iterator[Place]:
        """Yield where `model` could live and at what cost; `needs` where nothing was learned."""
        for home in self.homes(model):
            actual, device = self._at(model, home)
            need = self.need_bytes(actual, home)
            need = needs.get(home.name) if need is None else need
            if need is None:
                continue
            if (kept := self._house.kept.get(model.name)) is not None and need:
                need = max(1, need - kept.bytes)  # by the engines' contract it finds it loaded
            yield Place(
                home.name,
                need,
                self._profiles.median(actual, Quantity.LOAD_SECONDS, device) or UNKNOWN_LOAD_S,
                self._profiles.median(actual, Quantity.UNLOAD_SECONDS, device) or 0.0,
                self._slowdown(model, home),
            )

    def homes(self, model: ModelSpec) -> list[DeviceBudget]:
        """Return the devices `model` may live on, the preferred first.

        Of an engine that decides by itself it is the one where it put the model last. A lease on a GPU is never
        moved to main memory: its holder could do nothing with it there.
        """
        found = self._house.found_on.get(model.name)
        known = [home for home in self._house.limits.homes if home.name == found]
        homes = known or homes_of(model, self._engines[model.engine].capabilities, self._house.limits.homes)
        if model.engine == LEASE and model.gpu_layers:
            return [home for home in homes if home.kind is DeviceKind.GPU] or homes
        return homes

    def need_bytes(self, actual: ModelSpec, home: DeviceBudget) -> int | None:
        """Return what was learned of a model's memory on a device; None where it has to be estimated.

        Caution alone prices no model out: one that was measured to fit needs the whole device at most.
        """
        if actual.engine == LEASE:
            return int(actual.options["bytes"])
        if not self._engines[actual.engine].capabilities.manages_memory:
            return 0
        device = self._house.limits.profile_device(home.name)
        reserve, peak = (
            self._profiles.memory_bytes(actual, device),
            self._profiles.of(actual, device).peak_bytes,
        )
        return min(reserve, home.bytes) if reserve and peak and peak <= home.bytes else reserve

    def slots(self, model: ModelSpec) -> int:
        """Return how many asks a model takes at once."""
        return model.slots if self._engines[model.engine].capabilities.manages_memory else SLOTS_ELSEWHERE

    def run_seconds(self, model: ModelSpec) -> float:
        """Return how long an ask takes that has its seat where the model is preferred, as far as is known."""
        return self._run_seconds(*self._at(model, self.homes(model)[0])) or UNKNOWN_RUN_S

    def _run_seconds(self, actual: ModelSpec, device: str) -> float | None:
        profile = self._profiles.of(actual, device)
        if profile.run_seconds:
            return profile.run_seconds
        if not profile.tokens_per_second or not profile.tokens_per_answer:
            return None
        return profile.tokens_per_answer / profile.tokens_per_second

    def _at(self, model: ModelSpec, home: DeviceBudget) -> tuple[ModelSpec, str]:
        """Return a model as it would be started on a device, and what profiles call the device."""
        return placed(self._shape(model), home), self._house.limits.profile_device(home.name)

    def _slowdown(self, model: ModelSpec, home: DeviceBudget) -> float:
        """Return how many times as long an ask takes on a device: as measured there, else as declared."""
        here = self._run_seconds(*self._at(model, home))
        preferred = self._run_seconds(*self._at(model, self.homes(model)[0]))
        return here / preferred if here and preferred else home.slowdown

    def worth_loading_ahead(self, model: ModelSpec) -> bool:
        """Whether a load spares enough; one that nobody ever saw is not begun on suspicion."""
        actual, device = self._at(model, self.homes(model)[0])
        seconds = self._profiles.of(actual, device).load_seconds
        return (seconds or 0.0) >= WORTH_LOADING_AHEAD_S

    def _tenant(self, tenant: Housed, now: float) -> Tenant:
        device = self._house.limits.profile_device(tenant.device)
        forecast_s = self._run_seconds(tenant.model, device) or UNKNOWN_RUN_S
        return Tenant(
            tenant.name,
            tenant.state,
            tenant.bytes,
            self.slots(tenant.model),
            tenant.in_flight,
            max(0.0, now - tenant.idle_since),
            tenant.load_seconds,
            device=tenant.device,
            unload_seconds=self._profiles.of(tenant.model, device).unload_seconds or 0.0,
            resident_s=max(0.0, now - tenant.loaded_at) if tenant.loaded_at else 0.0,
            busy_s=max(0.0, tenant.busy_since + forecast_s - now) if tenant.in_flight else 0.0,
            uses_per_second=self._house.demand.rate(tenant.name, now),
            priority=tenant.priority,
            preemptible=tenant.model.engine == LEASE,
        )
