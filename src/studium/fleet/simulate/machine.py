"""A machine on a virtual clock: what is in memory, who runs, who waits. Deterministic.

Policies change it only through `run`, `load`, `evict`, `abandon` and `refuse`, which refuse with a
StudiumBug what a real machine could not do: more memory than there is, a model pushed out at work, an
ask seated twice. Memory is counted from the moment a load starts until it has been given back.
"""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from studium.errors import StudiumBug
from studium.fleet.simulate.world import Trace, VirtualAsk, VirtualDevice, VirtualModel
from studium.fleet.situation import TenantState
from studium.records.scheduling import Priority

# Two moments closer than this are one: what is left after adding and subtracting the same seconds.
SAME_MOMENT_S = 1e-9


@dataclass(slots=True)
class Issued:
    """An ask that was issued: when, what is left to do, and what became of it."""

    ask: VirtualAsk
    issued_s: float
    left_seconds: float
    waiting_since_s: float
    started_s: float | None = None
    seated_s: float = 0.0
    ended_s: float | None = None
    refused: bool = False

    @property
    def number(self) -> int:
        return self.ask.number

    @property
    def model(self) -> str:
        return self.ask.model

    @property
    def priority(self) -> Priority:
        return self.ask.priority

    @property
    def wait_s(self) -> float:
        """Time to start. A training run that was pushed out counts from its first seat."""
        assert self.started_s is not None
        return self.started_s - self.issued_s

    @property
    def finish_s(self) -> float:
        """Time to the end of the answer."""
        assert self.ended_s is not None
        return self.ended_s - self.issued_s


@dataclass(slots=True)
class Resident:
    """A model that holds memory. `used_s`: when it last began or ended an ask, or came in."""

    model: VirtualModel
    device: str
    state: TenantState
    used_s: float
    loaded_s: float = 0.0
    running: dict[int, Issued] = field(default_factory=dict[int, Issued])

    @property
    def idle(self) -> bool:
        return self.state is TenantState.RESIDENT and not self.running

    @property
    def has_free_slot(self) -> bool:
        return self.state is TenantState.RESIDENT and len(self.running) < self.model.slots


@dataclass(slots=True)
class Tally:
    """What is counted while a machine runs. `first_waits`: model, seconds from first wanted to seated."""

    loads: int = 0
    most_bytes: int = 0
    load_seconds: float = 0.0
    first_waits: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])


class Processor:
    """What one device computes. All its asks progress at one pace, which changes with who generates."""

    def __init__(self, slowdown: float, contention: float) -> None:
        self._slowdown = slowdown
        self._contention = contention
        self._done = 0.0  # seconds of work that an ask seated at 0 would have had
        self._at = 0.0
        self._ends: list[tuple[float, int]] = []
        self._target: dict[int, float] = {}
        self.generating: dict[str, int] = {}

    @property
    def pace(self) -> float:
        """Work seconds per second."""
        others = max(0, len(self.generating) - 1)
        return 1.0 / (self._slowdown * (1.0 + self._contention * others))

    def advance(self, now: float) -> None:
        self._done += (now - self._at) * self.pace
        self._at = now

    def begin(self, number: int, model: str, seconds: float) -> None:
        self._target[number] = self._done + seconds
        heapq.heappush(self._ends, (self._target[number], number))
        self.generating[model] = self.generating.get(model, 0) + 1

    def stop(self, number: int, model: str) -> float:
        """Take an ask off; return the work seconds it had left."""
        self.generating[model] -= 1
        if not self.generating[model]:
            del self.generating[model]
        return max(0.0, self._target.pop(number) - self._done)

    def next_end(self) -> float | None:
        """When the next ask ends if nothing changes."""
        while self._ends and self._target.get(self._ends[0][1]) != self._ends[0][0]:
            heapq.heappop(self._ends)
        return self._at + max(0.0, self._ends[0][0] - self._done) / self.pace if self._ends else None

    def next_number(self) -> int:
        return self._ends[0][1]


class Machine:
    """The state of one simulation and the five things a policy can do to it."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.now = 0.0
        self.devices: dict[str, VirtualDevice] = {device.name: device for device in trace.devices}
        self.waiting: dict[int, Issued] = {}
        self.residents: dict[str, Resident] = {}
        self.issued: dict[int, Issued] = {}
        self.left_s: dict[str, float] = {}  # when a model's memory last came back
        self.tally = Tally()
        self._taken = dict.fromkeys(self.devices, 0)
        self._processors = {d.name: Processor(d.slowdown, trace.contention) for d in trace.devices}
        self._order = count()
        self._events: list[tuple[float, int, str, int | Resident]] = []
        self._blockers = {ask.number: len(set(ask.after)) for ask in trace.asks}
        self._coming = {ask.number for ask in trace.coming}
        self._open = len(self._coming)
        self._wanted_since: dict[str, float] = {}
        for ask in trace.asks:
            if not ask.after:
                self._at(ask.at_s, "issue", ask.number)
        self._asks = {ask.number: ask for ask in trace.asks}
        self._announced = Counter(ask.model for ask in trace.asks if ask.announced > 0)

    # --- what a policy may look at ---------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self._open == 0

    def free_bytes(self, device: str) -> int:
        """Return what is neither taken nor being given back."""
        return self.devices[device].budget_bytes - self._taken[device]

    def returning_bytes(self, device: str) -> int:
        """Return what is being given back."""
        return sum(one.model.bytes for one in self.on(device) if one.state is TenantState.LEAVING)

    def on(self, device: str) -> Iterator[Resident]:
        return (one for one in self.residents.values() if one.device == device)

    def wanted(self) -> list[str]:
        """Return the models that are waited for and hold no memory, who was asked for first in front."""
        return [
            model
            for model in dict.fromkeys(one.ask.model for one in self.waiting.values())
            if model not in self.residents
        ]

    def is_wanted(self, model: str) -> bool:
        return any(one.ask.model == model for one in self.waiting.values())

    # --- what a policy may do --------------------------------------------------------------------

    def run(self, number: int) -> None:
        """Seat a waiting ask at its model."""
        one = self.waiting.pop(number, None)
        self._must(one is not None, f"ask {number} was seated, but does not wait")
        assert one is not None
        home = self.residents.get(one.ask.model)
        self._must(home is not None and home.has_free_slot, f"{one.ask.model} has no free slot")
        assert home is not None
        one.seated_s = home.used_s = self.now
        if one.started_s is None:
            one.started_s = self.now
        home.running[number] = one
        self._processors[home.device].begin(number, one.ask.model, one.left_seconds)
        since = self._wanted_since.pop(one.ask.model, None)
        if since is not None:
            self.tally.first_waits.append((one.ask.model, self.now - since))

    def load(self, name: str, device: str) -> None:
        """Begin to bring a model in: one that is waited for, or was announced."""
        self._must(name not in self.residents, f"{name} was loaded twice")
        self._must(self._is_known(name), f"{name} was loaded though nobody can know it is wanted")
        model = self.trace.models[name]
        self._taken[device] += model.bytes
        self._must(
            self._taken[device] <= self.devices[device].budget_bytes,
            f"loading {name} takes {self._taken[device]:,} bytes of {device}, "
            f"which has {self.devices[device].budget_bytes:,}",
        )
        self.tally.most_bytes = max(self.tally.most_bytes, self._taken[device])
        self.tally.loads += 1
        self.tally.load_seconds += model.load_seconds
        self.residents[name] = home = Resident(model, device, TenantState.LOADING, self.now)
        self._at(self.now + model.load_seconds, "loaded", home)

    def evict(self, name: str) -> None:
        """Tell an idle model to leave, or a preemptible one at work: its asks wait again."""
        home = self.residents.get(name)
        self._must(home is not None and home.state is TenantState.RESIDENT, f"{name} is not resident")
        assert home is not None
        self._must(not home.running or home.model.preemptible, f"{name} was pushed out at work")
        for number, one in list(home.running.items()):
            one.left_seconds = self._processors[home.device].stop(number, name)
            one.waiting_since_s = self.now
            self.waiting[number] = one
            del home.running[number]
        self._leave(home)

    def abandon(self, name: str) -> None:
        """Stop a load; its memory comes back as if it were unloaded."""
        home = self.residents.get(name)
        self._must(home is not None and home.state is TenantState.LOADING, f"{name} is not loading")
        assert home is not None
        self._leave(home)

    def refuse(self, number: int) -> None:
        """Turn an ask away for good; only right where no device could ever hold its model."""
        one = self.waiting.pop(number, None)
        self._must(one is not None, f"ask {number} was refused, but does not wait")
        assert one is not None
        largest = max(device.budget_bytes for device in self.devices.values())
        self._must(self.trace.models[one.ask.model].bytes > largest, f"ask {number} was refused, but fits")
        one.refused = True
        self._close(one)

    # --- time -------------------------------------------------------------------------------------

    def next_event(self) -> float | None:
        """Return when something happens next if nobody does anything."""
        times = [end for p in self._processors.values() if (end := p.next_end()) is not None]
        if self._events:
            times.append(self._events[0][0])
        return min(times, default=None)

    def advance(self, now: float) -> None:
        """Let time pass until `now`, which may not lie beyond the next event; let what ends there end."""
        self.now = now
        for device, processor in self._processors.items():
            processor.advance(now)
            while (end := processor.next_end()) is not None and end <= now + SAME_MOMENT_S:
                self._end(processor.next_number(), device)
        while self._events and self._events[0][0] <= now + SAME_MOMENT_S:
            _, _, kind, what = heapq.heappop(self._events)
            if isinstance(what, int):
                self._issue(what)
            elif kind == "loaded" and what.state is TenantState.LOADING:
                what.state = TenantState.RESIDENT
                what.used_s = what.loaded_s = now
            elif kind == "gone":
                self._taken[what.device] -= what.model.bytes
                del self.residents[what.model.name]
                self.left_s[what.model.name] = now

    def _at(self, time_s: float, kind: str, what: int | Resident) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), kind, what))

    def _issue(self, number: int) -> None:
        ask = self._asks[number]
        if ask.announced > 0:
            self._announced[ask.model] -= 1
        if number not in self._coming:
            self._let_follow(number)
            return
        self.issued[number] = self.waiting[number] = Issued(ask, self.now, ask.run_seconds, self.now)
        home = self.residents.get(ask.model)
        if home is None or home.state is TenantState.LEAVING:
            self._wanted_since.setdefault(ask.model, self.now)

    def _end(self, number: int, device: str) -> None:
        one = self.issued[number]
        home = self.residents[one.ask.model]
        self._processors[device].stop(number, one.ask.model)
        del home.running[number]
        home.used_s = one.ended_s = self.now
        self._close(one)

    def _close(self, one: Issued) -> None:
        self._open -= 1
        self._let_follow(one.ask.number)

    def _let_follow(self, number: int) -> None:
        """Issue what waited for an ask to be over and for nothing else."""
        for follower in self.trace.followers.get(number, ()):
            self._blockers[follower.number] -= 1
            if not self._blockers[follower.number]:
                self._at(max(self.now, follower.at_s), "issue", follower.number)

    def _leave(self, home: Resident) -> None:
        home.state = TenantState.LEAVING
        if self.is_wanted(home.model.name):
            self._wanted_since.setdefault(home.model.name, self.now)
        self._at(self.now + home.model.unload_seconds, "gone", home)

    def _is_known(self, model: str) -> bool:
        return self._announced[model] > 0 or self.is_wanted(model)

    def _must(self, holds: bool, happened: str) -> None:
        if not holds:
            raise StudiumBug(
                f"{happened} (simulated second {self.now:.1f} of {self.trace.name})",
                expected="moves that a machine could make",
                try_next="report this with the trace and the policy's name",
            )
