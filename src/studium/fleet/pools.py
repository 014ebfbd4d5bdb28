"""What the models of one engine on one kind of device taught together, kept up to date as profiles change."""

from collections.abc import Mapping

from studium.fleet.belief import LEVEL
from studium.fleet.formulas import Pool
from studium.fleet.quantiles import beta
from studium.records.profiles import ModelProfile, Quantity, Range

# A model that nobody measured fails about as often as the others do: worth this many runs of its own.
FAILURE_PRIOR_RUNS = 2.0
# What all models together are taken to have done before any of them ran: one failure in twenty.
POOL_FAILURES, POOL_SUCCESSES = 0.5, 9.5


class Pools:
    """The pools of all engines over `known`, which its owner changes and tells of with `changed`.

    Runs are many and forecasts few: the pools are brought up to date when they are read.
    """

    def __init__(self, known: Mapping[str, ModelProfile]) -> None:
        self._known = known
        self._counted: dict[str, ModelProfile] = {}
        self._changed = set(known)
        self._engines: dict[str, EnginePools] = {}

    def changed(self, key: str) -> None:
        """Note that the profile of this key is another one now."""
        self._changed.add(key)

    def of(self, profile: ModelProfile) -> "EnginePools":
        """Return what the models of the profile's engine and kind of device taught."""
        for key in self._changed:
            if (before := self._counted.get(key)) is not None:
                self._of_engine(before).count(before, -1)
            now = self._counted[key] = self._known[key]
            self._of_engine(now).count(now, 1)
        self._changed.clear()
        return self._of_engine(profile)

    def _of_engine(self, profile: ModelProfile) -> "EnginePools":
        name = f"{profile.engine}|{profile.device}"
        if name not in self._engines:
            self._engines[name] = EnginePools()
        return self._engines[name]


class EnginePools:
    """One pool for each quantity, and how often runs failed.

    `worst_excess` is the most that any model measured was of its engine's estimate, as a ratio.
    """

    def __init__(self) -> None:
        self._pools = {quantity: Pool(quantity) for quantity in Quantity}
        self._failures = 0.0
        self._successes = 0.0
        self.worst_excess = 0.0

    def count(self, profile: ModelProfile, sign: int) -> None:
        """Add a profile's part (`sign` 1) or take it out again (-1)."""
        for pool in self._pools.values():
            pool.count(profile, sign)
        self._failures += sign * profile.recent_failures
        self._successes += sign * profile.recent_successes
        if profile.estimate is not None and profile.estimate.total_bytes and profile.peak_bytes:
            self.worst_excess = max(self.worst_excess, profile.peak_bytes / profile.estimate.total_bytes)

    def without(self, profile: ModelProfile | None, quantity: Quantity) -> Pool:
        """Return what the other models taught: a model's prior must not hold its own measurements."""
        pool = self._pools[quantity]
        return pool if profile is None else pool.less(profile)

    def failure_rate(self, profile: ModelProfile) -> Range | None:
        """Return the Beta posterior of how often a run fails; None before any model of the engine ran."""
        if self._failures + self._successes <= 0:
            return None
        failures = POOL_FAILURES + max(0.0, self._failures - profile.recent_failures)
        successes = POOL_SUCCESSES + max(0.0, self._successes - profile.recent_successes)
        usual = failures / (failures + successes)
        a = FAILURE_PRIOR_RUNS * usual + profile.recent_failures
        b = FAILURE_PRIOR_RUNS * (1 - usual) + profile.recent_successes
        a, b, tail = round(a, 3), round(b, 3), (1 - LEVEL) / 2
        return Range(beta(0.5, a, b), beta(tail, a, b), beta(1 - tail, a, b), profile.runs)
