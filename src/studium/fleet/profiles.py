"""What each model costs on this machine, learned from every load and run.

Before the first load the engine's estimate from file metadata stands in; it is cautious. Afterwards
the highest memory ever measured counts, with some room on top that shrinks as runs add up. Forecasts
are read from memory, so their cost does not grow with the history.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from studium.records.models import ModelSpec
from studium.records.runs import ModelProfile, StudentRun

# Weight of the newest run in the moving means: about the last ten runs count.
NEWEST = 0.2


def profile_key(model: ModelSpec) -> str:
    """Return what a profile belongs to: the same model in another shape costs something else."""
    shape = f"{model.context_tokens}x{model.slots}t{model.threads}g{model.gpu_layers}"
    return f"{model.name}|{model.engine}|{model.source}|{shape}|{','.join(model.adapters)}"


class Profiles:
    """Profiles by model, kept in memory; `save` is called with each that changed."""

    def __init__(self, known: Mapping[str, ModelProfile], save: Callable[[ModelProfile], None]) -> None:
        self._known = dict(known)
        self._save = save

    def of(self, model: ModelSpec) -> ModelProfile:
        """Return the model's profile; an empty one where it never ran."""
        key = profile_key(model)
        return self._known.get(key) or ModelProfile(model=key)

    def memory_bytes(self, model: ModelSpec) -> int | None:
        """Return the bytes to reserve for `model`, at the cautious end; None where it was never measured."""
        profile = self.of(model)
        if profile.peak_bytes is None:
            return None
        headroom = 0.10 if profile.runs < 3 else 0.03
        return round(profile.peak_bytes * (1 + headroom))

    def loaded(self, model: ModelSpec, *, seconds: float, peak_bytes: int | None) -> None:
        """Learn from a load that ended well."""
        profile = self._with_peak(self.of(model), peak_bytes)
        self._learn(
            replace(profile, loads=profile.loads + 1, load_seconds=_mean(profile.load_seconds, seconds))
        )

    def unloaded(self, model: ModelSpec, *, seconds: float) -> None:
        """Learn how long it took to give the memory back."""
        profile = self.of(model)
        self._learn(replace(profile, unload_seconds=_mean(profile.unload_seconds, seconds)))

    def ran(self, model: ModelSpec, run: StudentRun, *, generate_seconds: float) -> None:
        """Learn from one run, also from a failed one."""
        profile = self._with_peak(self.of(model), run.memory_bytes)
        speed, tokens = profile.tokens_per_second, profile.tokens_per_answer
        if run.success and run.completion_tokens and generate_seconds > 0:
            speed = _mean(speed, run.completion_tokens / generate_seconds)
            tokens = _mean(tokens, run.completion_tokens)
        self._learn(
            replace(
                profile,
                runs=profile.runs + 1,
                failures=profile.failures + (not run.success),
                tokens_per_second=speed,
                tokens_per_answer=tokens,
            )
        )

    def _with_peak(self, profile: ModelProfile, peak_bytes: int | None) -> ModelProfile:
        if peak_bytes is None or (profile.peak_bytes or 0) >= peak_bytes:
            return profile
        return replace(profile, peak_bytes=peak_bytes)

    def _learn(self, profile: ModelProfile) -> None:
        self._known[profile.model] = profile
        self._save(profile)


def _mean(before: float | None, newest: float) -> float:
    return newest if before is None else before + NEWEST * (newest - before)
