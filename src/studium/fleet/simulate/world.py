"""The nouns of a simulated machine: devices, models, asks, and the trace that holds them. Seconds and bytes.

A trace is all a simulation needs besides a policy and a seed. What it leaves out: prompt lengths and the
KV cache (in `bytes`), disks that get slower when two models load at once, failures.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from studium.errors import ConfigurationError
from studium.records.scheduling import Priority

GB = 10**9


@dataclass(frozen=True, slots=True)
class VirtualDevice:
    """Memory that models share. `slowdown` multiplies the seconds of every ask that runs there."""

    name: str
    budget_bytes: int
    slowdown: float = 1.0


@dataclass(frozen=True, slots=True)
class VirtualModel:
    """A model: `unload_seconds` is how long its memory stays taken after it was told to leave.

    A `preemptible` model may be told to leave while it works: what it did so far counts, the rest of the
    ask waits again (a training run that saves its state as it leaves).
    """

    name: str
    bytes: int
    load_seconds: float
    unload_seconds: float = 1.0
    slots: int = 1
    preemptible: bool = False


@dataclass(frozen=True, slots=True)
class VirtualAsk:
    """One ask: `run_seconds` alone on a device of slowdown 1, `deadline_s` after it was issued.

    It is issued at `at_s`, or when all asks it comes `after` have ended, whichever is later. `announced`
    is the probability with which whoever asks says beforehand that it will come; 0: nobody can know. One
    that does not come after all (`comes` False: the question was settled before) is dropped, with those
    that come after it, when it would have been issued. An answer after the deadline is given, but late.
    """

    number: int
    model: str
    priority: Priority
    at_s: float
    run_seconds: float
    deadline_s: float | None = None
    after: tuple[int, ...] = ()
    announced: float = 0.0
    comes: bool = True


@dataclass(frozen=True)
class Trace:
    """A world and what is asked of it.

    `contention` is how much models that generate at the same time on one device slow each other: of
    n such models each runs at 1 / (1 + contention * (n - 1)) of its speed. 0: not at all, 1: they share it.
    Raises ConfigurationError where the parts do not belong together.
    """

    name: str
    devices: Sequence[VirtualDevice]
    models: Mapping[str, VirtualModel]
    asks: Sequence[VirtualAsk]
    contention: float = 0.0

    def __post_init__(self) -> None:
        _check(bool(self.devices), f"the trace {self.name} has no device", "at least one device")
        _check(0 <= self.contention <= 1, f"contention is {self.contention}", "a number from 0 to 1")
        twice = [name for name, times in Counter(one.name for one in self.devices).items() if times > 1]
        _check(not twice, f"there are two devices called {', '.join(twice)}", "one name for each device")
        seen = set[int]()
        for ask in self.asks:
            _check(ask.number not in seen, f"ask {ask.number} is there twice", "a number for each ask")
            _check(
                ask.model in self.models,
                f"ask {ask.number} wants {ask.model!r}, which the trace does not declare",
                f"one of {', '.join(self.models) or 'no models'}",
            )
            unknown = [number for number in ask.after if number not in seen]
            _check(
                not unknown,
                f"ask {ask.number} comes after {', '.join(map(str, unknown))}, not seen before it",
                "asks that stand earlier in the trace",
            )
            seen.add(ask.number)

    @cached_property
    def mean_run_seconds(self) -> Mapping[str, float]:
        """What a profile would have learned: the mean seconds of each model's asks."""
        total, count = Counter[str](), Counter[str]()
        for ask in self.coming:
            total[ask.model] += ask.run_seconds  # pyright: ignore[reportArgumentType]
            count[ask.model] += 1
        return {model: total[model] / count[model] for model in count}

    @cached_property
    def coming(self) -> Sequence[VirtualAsk]:
        """The asks that are issued in the end."""
        dropped = set[int]()
        for ask in self.asks:
            if not ask.comes or dropped & set(ask.after):
                dropped.add(ask.number)
        return [ask for ask in self.asks if ask.number not in dropped]

    @cached_property
    def followers(self) -> Mapping[int, Sequence[VirtualAsk]]:
        """The asks that wait for an ask to end, by its number."""
        found: dict[int, list[VirtualAsk]] = {}
        for ask in self.asks:
            for number in ask.after:
                found.setdefault(number, []).append(ask)
        return found

    @cached_property
    def announces(self) -> bool:
        """Whether anybody says beforehand what will be asked."""
        return any(ask.announced > 0 for ask in self.asks)


def _check(holds: bool, happened: str, expected: str) -> None:
    if not holds:
        raise ConfigurationError(happened, expected=expected, try_next="correct the trace")
