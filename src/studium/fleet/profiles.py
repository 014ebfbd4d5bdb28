"""What each model costs on this machine: learned from every load and run, forecast with its spread.

Before its first load a model's forecast comes from the engine's estimate of its file, corrected by what
other models of the engine on the same kind of device have taught (`formulas`); each of its own loads and
runs then moves and narrows it (`belief`). Everything is read from memory and from sums, so a forecast
costs the same whatever the history. A profile belongs to one model in one shape on one device.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from studium.fleet.belief import Prior, expected, learned, predict
from studium.fleet.pools import Pools
from studium.records.models import MemoryEstimate, ModelSpec
from studium.records.profiles import Forecast, ModelProfile, Quantity
from studium.records.runs import StudentRun

log = logging.getLogger(__name__)

RESERVED_SHARE = 0.99
"""The memory set aside suffices in this share of cases; the intervals shown hold 90 %."""
# Failures are rare: for their rate about the last fifty runs count.
RUNS_KEPT = 0.98
# How much more than what was too little is taken to be needed: a step that ends the search soon.
RAN_OUT_FACTOR = 1.25
RAN_OUT_AT_MOST = 2
# Priors from other models are looked at again after so many observations of a model's own.
REVIEWED = 16
# Below this share of a run's time left for the answer, its tokens came all at once: then the time to the
# first says nothing of how the time was divided.
_LEAST_ANSWER_SHARE = 0.1


def profile_key(model: ModelSpec, device: str = "") -> str:
    """Return what a profile belongs to: the same model in another shape or elsewhere costs something else.

    An empty `device` is wherever the engine puts it by `gpu_layers`.
    """
    shape = f"{model.context_tokens}x{model.slots}t{model.threads}g{model.gpu_layers}"
    key = f"{model.name}|{model.engine}|{model.source}|{shape}|{','.join(model.adapters)}"
    return f"{key}|{device}" if device else key


class Profiles:
    """Profiles by model and device, kept in memory; `save` is called with each that changed."""

    def __init__(self, known: Mapping[str, ModelProfile], save: Callable[[ModelProfile], None]) -> None:
        self._known = dict(known)
        self._save = save
        self._pools = Pools(self._known)
        self._priors: dict[tuple[str, Quantity], Prior] = {}

    def of(self, model: ModelSpec, device: str = "") -> ModelProfile:
        """Return the model's profile; an empty one where it never ran."""
        key = profile_key(model, device)
        found = self._known.get(key)
        if found is None:
            return ModelProfile(key, model.name, model.engine, device or _kind(model))
        if found.engine:
            return found
        # Written by the first version of the table, which had the key only.
        return replace(found, name=model.name, engine=model.engine, device=device or _kind(model))

    def memory_bytes(self, model: ModelSpec, device: str = "") -> int | None:
        """Return the bytes to reserve for `model`, at the cautious end; None where it was never measured.

        Never below the highest measured.
        """
        profile = self.of(model, device)
        if profile.peak_bytes is None:
            return None
        return self._reserve(profile, profile.estimate)

    def estimated(self, model: ModelSpec, estimate: MemoryEstimate, device: str = "") -> int:
        """Learn what the engine says of the file now; return the bytes to reserve.

        Another quantisation or size of the weights is another model under the same name: what was measured
        of the old one is put away. While no model of the engine exceeded its estimate, no more than the
        estimate is reserved.
        """
        profile = self.of(model, device)
        if profile.estimate != estimate:
            if profile.estimate is not None and _another_file(profile.estimate, estimate):
                profile = replace(profile, peak_bytes=None, spreads={})
            profile = replace(profile, estimate=estimate)
            self._keep(profile)
        reserve = self._reserve(profile, estimate)
        return estimate.total_bytes if reserve is None else reserve

    def forecast(
        self, model: ModelSpec, estimate: MemoryEstimate | None = None, device: str = ""
    ) -> Forecast:
        """Return what `model` will cost, each quantity with its interval; None where it is unknown.

        `estimate` is the engine's, for a model of which none was learned yet. Reads memory only.
        """
        return self.expect(self.of(model, device), estimate)

    def median(self, model: ModelSpec, quantity: Quantity, device: str = "") -> float | None:
        """Return what to expect of one quantity, for a model that never ran from its file and its like.

        None where nothing is known. Cheaper than a whole `forecast`, for those who plan.
        """
        profile = self.of(model, device)
        prior = self._pools.of(profile).without(profile, quantity).prior(profile.estimate)
        prediction = predict(profile.spread(quantity), prior)
        return None if prediction is None else prediction.quantile(0.5)

    def everywhere(self, model: ModelSpec) -> list[ModelProfile]:
        """Return the profiles of `model` in this shape, one for each device where it was loaded or ran."""
        key = profile_key(model)
        return [one for one in self._known.values() if one.model == key or one.model.startswith(f"{key}|")]

    def expect(self, profile: ModelProfile, estimate: MemoryEstimate | None = None) -> Forecast:
        """Return the forecast of one profile, as `forecast` does."""
        known = profile.estimate or estimate
        pools = self._pools.of(profile)
        ranges = {
            quantity.value: expected(profile.spread(quantity), pools.without(profile, quantity).prior(known))
            for quantity in Quantity
        }
        return Forecast(
            model=profile.name,
            device=profile.device,
            loads=profile.loads,
            runs=profile.runs,
            failures=profile.failures,
            reserve_bytes=self._reserve(profile, known),
            failure_rate=pools.failure_rate(profile),
            **ranges,
        )

    def loaded(self, model: ModelSpec, *, seconds: float, peak_bytes: int | None, device: str = "") -> None:
        """Learn from a load that ended well."""
        profile = _with_peak(self.of(model, device), peak_bytes)
        self._learn(profile, {Quantity.LOAD_SECONDS: seconds}, loads=profile.loads + 1)

    def ran_out(self, model: ModelSpec, *, reserved_bytes: int, device: str = "") -> None:
        """Learn that a load ran out of memory although `reserved_bytes` were there for it: it needs more.

        Up to RAN_OUT_AT_MOST times the engine's estimate: beyond that something else is the cause, and a
        model must not be priced out of every budget for it.
        """
        profile = self.of(model, device)
        raised = math.ceil(reserved_bytes * RAN_OUT_FACTOR)
        if profile.estimate is not None:
            raised = min(raised, RAN_OUT_AT_MOST * profile.estimate.total_bytes)
        self._keep(_with_peak(profile, raised))

    def unloaded(self, model: ModelSpec, *, seconds: float, device: str = "") -> None:
        """Learn how long it took to give the memory back."""
        self._learn(self.of(model, device), {Quantity.UNLOAD_SECONDS: seconds})

    def ran(
        self,
        model: ModelSpec,
        run: StudentRun,
        *,
        generate_seconds: float,
        first_token_s: float | None = None,
        device: str = "",
    ) -> None:
        """Learn from one run, also from a failed one. `first_token_s` is the time to the first token."""
        profile = _with_peak(self.of(model, device), run.memory_bytes)
        measured: dict[Quantity, float] = {}
        if run.memory_bytes is not None:
            measured[Quantity.MEMORY_BYTES] = run.memory_bytes
        if run.success:
            measured |= _speeds(run, generate_seconds, first_token_s)
        self._learn(
            profile,
            measured,
            runs=profile.runs + 1,
            failures=profile.failures + (not run.success),
            recent_failures=RUNS_KEPT * profile.recent_failures + (not run.success),
            recent_successes=RUNS_KEPT * profile.recent_successes + run.success,
        )

    def _learn(self, profile: ModelProfile, measured: Mapping[Quantity, float], **counts: float) -> None:
        spreads = dict(profile.spreads)
        for quantity, value in measured.items():
            if not (math.isfinite(value) and value > 0):
                log.warning("%s: a %s of %r is no measurement: ignored", profile.name, quantity, value)
                continue
            spreads[quantity] = learned(profile.spread(quantity), value, self._prior(profile, quantity))
        self._keep(replace(profile, spreads=spreads, **counts))

    def _prior(self, profile: ModelProfile, quantity: Quantity) -> Prior:
        """What others taught, at most REVIEWED observations old where the model's own count for more."""
        observations = profile.spread(quantity).observations
        prior = self._priors.get((profile.model, quantity))
        if prior is None or observations < REVIEWED or observations % REVIEWED == 0:
            pool = self._pools.of(profile).without(self._known.get(profile.model), quantity)
            prior = self._priors[profile.model, quantity] = pool.prior(profile.estimate)
        return prior

    def _keep(self, profile: ModelProfile) -> None:
        self._known[profile.model] = profile
        self._pools.changed(profile.model)
        self._save(profile)

    def _reserve(self, profile: ModelProfile, estimate: MemoryEstimate | None) -> int | None:
        pools = self._pools.of(profile)
        prior = pools.without(profile, Quantity.MEMORY_BYTES).prior(estimate)
        spread = profile.spread(Quantity.MEMORY_BYTES)
        prediction = predict(spread, prior)
        cautious = None if prediction is None else math.ceil(prediction.quantile(RESERVED_SHARE))
        # An estimate is an upper one: no reserve exceeds it, until a model of this engine did.
        if estimate is not None and (pools.worst_excess <= 1 or not spread.observations):
            most = math.ceil(estimate.total_bytes * max(1.0, pools.worst_excess))
            cautious = most if cautious is None else min(cautious, most)
        known = [value for value in (cautious, profile.peak_bytes) if value is not None]
        return max(known, default=None)


def _kind(model: ModelSpec) -> str:
    return "gpu" if model.gpu_layers else ""


def _another_file(before: MemoryEstimate, now: MemoryEstimate) -> bool:
    return (before.weights_bytes, before.quantisation) != (now.weights_bytes, now.quantisation)


def _with_peak(profile: ModelProfile, peak_bytes: int | None) -> ModelProfile:
    if peak_bytes is None or (profile.peak_bytes or 0) >= peak_bytes:
        return profile
    return replace(profile, peak_bytes=peak_bytes)


def _speeds(run: StudentRun, seconds: float, first_token_s: float | None) -> dict[Quantity, float]:
    """What a successful run says of time and tokens. Nothing is made up where no tokens were counted."""
    found = {Quantity.RUN_SECONDS: seconds}
    if run.completion_tokens <= 0:
        return found
    found[Quantity.TOKENS_PER_ANSWER] = run.completion_tokens
    if not seconds > 0:
        return found
    answer_s = seconds - (first_token_s or 0.0)
    if not first_token_s or answer_s < _LEAST_ANSWER_SHARE * seconds or run.completion_tokens < 2:
        found[Quantity.TOKENS_PER_SECOND] = run.completion_tokens / seconds
        return found
    found[Quantity.TOKENS_PER_SECOND] = (run.completion_tokens - 1) / answer_s
    if run.prompt_tokens > 0:
        found[Quantity.PROMPT_TOKENS_PER_SECOND] = run.prompt_tokens / first_token_s
    return found
