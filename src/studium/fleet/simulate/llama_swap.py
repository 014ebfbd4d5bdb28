"""llama-swap's router as of August 2026 (internal/router: fifo.go, group and matrix), re-implemented.

A swap names a model and whom it evicts; requests for that model join it. A request for a ready model that
no swap evicts is granted at once; one that collides with a swap under way, or whose victims are at work,
is queued, and the queue is walked in order whenever a swap is done or a model falls idle. So A B C A B C
is served A A B B C C, and nothing ages.

Two ways to say who leaves: a *group* holds one model at a time; a *matrix* lists sets of models that may
live together, and the set that holds the wanted model and costs least to reach is taken. The matrix here
is the ideal one a patient person would write: every largest set that fits the memory, and as the cost of
an eviction the seconds to load that model again.

Its queue can be given a priority for each model; here, the most urgent class that ever asks for it.
Simplified: one device; no time to live; no limit on requests at once (by default 10 a model, then 429).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from studium.errors import Unsupported
from studium.fleet.simulate.machine import Machine
from studium.fleet.simulate.policy import Policy, refuse_hopeless
from studium.fleet.simulate.world import Trace
from studium.fleet.situation import TenantState

Evictions = Callable[[str, Sequence[str]], list[str]]


@dataclass(slots=True)
class _Swap:
    evict: list[str]
    waiters: list[int] = field(default_factory=list[int])


class LlamaSwap(Policy):
    """The FIFO scheduler; `evictions` says who of the running has to leave for a model."""

    def __init__(self, machine: Machine, evictions: Evictions) -> None:
        self._device = _only_device(machine)
        self._urgency: dict[str, int] = {}
        for ask in machine.trace.asks:
            self._urgency[ask.model] = max(ask.priority, self._urgency.get(ask.model, 0))
        self._evictions = evictions
        self._swaps: dict[str, _Swap] = {}
        self._queued: list[int] = []
        self._granted: dict[str, list[int]] = {}
        self._busy: set[str] = set()
        self._seen = 0

    def step(self, machine: Machine) -> None:
        refuse_hopeless(machine)
        drain = self._finish_swaps(machine) | self._note_idle(machine)
        if drain:
            queued, self._queued = self._queued, []
            for number in queued:
                self._request(machine, number)
        for number in list(machine.issued)[self._seen :]:
            self._seen += 1
            if number in machine.waiting:
                self._request(machine, number)
        self._carry_on(machine)

    def _finish_swaps(self, machine: Machine) -> bool:
        done = [name for name in self._swaps if self._is_ready(machine, name)]
        for name in done:
            self._granted.setdefault(name, []).extend(self._swaps.pop(name).waiters)
        return bool(done)

    def _note_idle(self, machine: Machine) -> bool:
        """Whether a model that worked has nothing left to do."""
        idle = {name for name in self._busy if not self._has_work(machine, name)}
        self._busy -= idle
        return bool(idle)

    def _request(self, machine: Machine, number: int) -> None:
        model = machine.waiting[number].ask.model
        if model in self._swaps:
            self._swaps[model].waiters.append(number)
            return
        # A model on its way out still counts as running, as a process that is being stopped does there.
        running = sorted({*machine.residents, *self._swaps} - {model})
        evict = self._evictions(model, running)
        collides = any(
            other in evict or model in swap.evict or set(evict) & set(swap.evict)
            for other, swap in self._swaps.items()
        )
        if self._is_ready(machine, model) and not evict and not collides:
            self._granted.setdefault(model, []).append(number)
        elif collides or any(self._has_work(machine, name) for name in evict):
            self._enqueue(machine, number)
        else:
            self._swaps[model] = _Swap(evict, [number])

    def _enqueue(self, machine: Machine, number: int) -> None:
        """Queue an ask before the first whose model is less urgent."""
        mine = self._urgency[machine.waiting[number].ask.model]
        for place, other in enumerate(self._queued):
            if self._urgency[machine.waiting[other].ask.model] < mine:
                self._queued.insert(place, number)
                return
        self._queued.append(number)

    def _carry_on(self, machine: Machine) -> None:
        """Do what the decisions amount to: stop the evicted, load where they are gone, seat the granted."""
        for name, swap in self._swaps.items():
            for victim in swap.evict:
                home = machine.residents.get(victim)
                if home is not None and home.idle:
                    machine.evict(victim)
            gone = not any(victim in machine.residents for victim in swap.evict)
            if gone and name not in machine.residents:
                machine.load(name, self._device)
        for name, numbers in self._granted.items():
            home = machine.residents[name] if numbers else None
            while numbers and home is not None and home.has_free_slot:
                machine.run(numbers.pop(0))
                self._busy.add(name)

    def _is_ready(self, machine: Machine, name: str) -> bool:
        home = machine.residents.get(name)
        return home is not None and home.state is TenantState.RESIDENT

    def _has_work(self, machine: Machine, name: str) -> bool:
        home = machine.residents.get(name)
        return bool(self._granted.get(name)) or (home is not None and bool(home.running))


def group(machine: Machine) -> LlamaSwap:
    """One group of all models, one of them in memory at a time."""
    return LlamaSwap(machine, lambda _model, running: list(running))


def ideal_matrix(machine: Machine) -> LlamaSwap:
    """The matrix whose sets are all largest ones that fit."""
    device = _only_device(machine)
    models = machine.trace.models
    sets = largest_sets(machine.trace, machine.devices[device].budget_bytes)

    def evictions(model: str, running: Sequence[str]) -> list[str]:
        def cost(together: frozenset[str]) -> tuple[float, list[str]]:
            leaving = [name for name in running if name not in together]
            return sum(models[name].load_seconds for name in leaving), leaving

        return min(cost(one) for one in sets if model in one)[1]

    return LlamaSwap(machine, evictions)


def largest_sets(trace: Trace, budget_bytes: int) -> list[frozenset[str]]:
    """Return the sets of models that fit together and to which none can be added, in a fixed order."""
    sizes = {name: model.bytes for name, model in trace.models.items() if model.bytes <= budget_bytes}
    found: list[frozenset[str]] = []
    for count in range(len(sizes), 0, -1):
        for names in combinations(sorted(sizes), count):
            one = frozenset(names)
            if sum(sizes[name] for name in names) <= budget_bytes and not any(one < big for big in found):
                found.append(one)
    return found


def _only_device(machine: Machine) -> str:
    if len(machine.devices) > 1:
        raise Unsupported(
            f"llama-swap's rules are simulated for one device, {machine.trace.name} has {len(machine.devices)}",
            expected="a trace with one device",
            try_next="choose other policies with --policy",
        )
    return next(iter(machine.devices))
