"""The best any scheduler could have done on a small trace: exact, by best-first search over all schedules.

Assumes one device, no contention, nothing pushed out at work, and, as the machine demands of every
policy, that only models are loaded that are waited for or were announced. It knows all that will come.
Both aims are regular (nothing is gained by starting later), so some best schedule starts every run, load
and eviction as early as the order of all others allows. Hence choices only at moments when something else
happens; an eviction only when its model falls idle; and what could have been started but was not (it was
`declined`) only after something else took that place. The number of schedules grows exponentially.
"""

import heapq
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import count
from typing import Any, NamedTuple

from studium.errors import Unsupported
from studium.fleet.simulate.world import Trace, VirtualAsk

MOST_ASKS = 12
MOST_STATES = 400_000
LOADING, RESIDENT, LEAVING = 0, 1, 2
NOTHING: frozenset[Any] = frozenset()
FIRST = (0, "", -1)


class Objective(StrEnum):
    MAKESPAN = "makespan"
    MEAN_WAIT = "mean wait"


class _State(NamedTuple):
    """All that matters for what comes after: times are absolute, tuples sorted."""

    now: float
    residents: tuple[tuple[str, int, float], ...]
    running: tuple[tuple[int, float], ...]
    waiting: tuple[tuple[int, float], ...]
    coming: frozenset[int]
    fell_idle: frozenset[str]
    declined: frozenset[int | str]  # asks that had a slot, models that had room
    last: tuple[int, str, int]  # the last choice of this moment: choices are made in one order only


def optimum(trace: Trace, objective: Objective) -> float:
    """Return the least makespan, or the least mean time to start, in seconds. Asks that fit nowhere are left out.

    Raises Unsupported where the trace has several devices, contention, preemptible models or too many
    asks, and for the mean wait where asks depend on others: starting one later may then shorten waits.
    """
    if len(trace.devices) > 1 or trace.contention or len(trace.asks) > MOST_ASKS:
        raise Unsupported(
            f"{trace.name} has {len(trace.asks)} asks, {len(trace.devices)} devices, contention {trace.contention}",
            expected=f"at most {MOST_ASKS} asks on one device without contention",
            try_next="use the relaxation, which bounds any trace",
        )
    if len(trace.coming) < len(trace.asks):
        raise Unsupported(
            f"{trace.name} has announced asks that do not come",
            expected="asks that come",
            try_next="use the relaxation, which bounds any trace",
        )
    dependent = objective is Objective.MEAN_WAIT and any(ask.after for ask in trace.asks)
    if dependent or any(model.preemptible for model in trace.models.values()):
        raise Unsupported(
            f"{trace.name} has {'asks that depend on others' if dependent else 'preemptible models'}",
            expected="independent asks for the mean wait, and no model that is pushed out at work",
            try_next="use the relaxation, which bounds any trace",
        )
    return _Search(trace, objective).solve()


class _Search:
    def __init__(self, trace: Trace, objective: Objective) -> None:
        self._trace = trace
        self._budget = trace.devices[0].budget_bytes
        self._slowdown = trace.devices[0].slowdown
        self._asks = {ask.number: ask for ask in trace.asks if trace.models[ask.model].bytes <= self._budget}
        self._by_makespan = objective is Objective.MAKESPAN
        self._first_s = min((ask.at_s for ask in trace.asks if not ask.after), default=0.0)

    def solve(self) -> float:
        """Expand states in the order of what they can still reach; the first finished one is best."""
        start = _State(0.0, (), (), (), frozenset(self._asks), NOTHING, NOTHING, FIRST)
        order = count()
        best: dict[_State, float] = {start: 0.0}
        frontier = [(0.0, next(order), 0.0, start)]
        while frontier:
            _, _, cost, state = heapq.heappop(frontier)
            if cost > best[state]:
                continue
            if not state.coming and not state.waiting and (not state.running or not self._by_makespan):
                return self._value(cost, state)
            for child_cost, child in self._children(cost, state):
                if child_cost < best.get(child, float("inf")):
                    best[child] = child_cost
                    heapq.heappush(
                        # Of equals the newest first: a schedule is finished before its equals are begun.
                        frontier,
                        (self._at_least(child_cost, child), -next(order), child_cost, child),
                    )
            if len(best) > MOST_STATES:
                break
        raise Unsupported(
            f"{self._trace.name} has more than {MOST_STATES:,} states",
            expected="fewer asks or fewer models",
            try_next="use the relaxation, which bounds any trace",
        )

    def _value(self, cost: float, state: _State) -> float:
        if self._by_makespan:
            return max(0.0, cost - self._first_s)
        return cost / len(self._asks) if self._asks else 0.0

    def _children(self, cost: float, state: _State) -> Iterator[tuple[float, _State]]:
        """Yield each way to go on: seat an ask, evict, load (in this order at any moment), or let time pass."""
        models = self._trace.models
        held = {name: code for name, code, _ in state.residents}
        working = [self._asks[number].model for number, _ in state.running]
        wanted = {self._asks[number].model for number, _ in state.waiting}
        ahead = {self._asks[number].model for number in state.coming}
        declined = set[int | str](state.declined)
        for number, issued_s in state.waiting:
            ask = self._asks[number]
            free = working.count(ask.model) < models[ask.model].slots
            if held.get(ask.model) == RESIDENT and free and number not in state.declined:
                declined.add(number)
                if (0, "", number) > state.last:
                    yield self._seat(cost, state, ask, issued_s)
        staying = {name for name, code in held.items() if code != LEAVING}
        # Nobody needs to leave while all that will be wanted has room beside who stays.
        if sum(models[name].bytes for name in staying | wanted | ahead) > self._budget:
            # In the order that `last` keeps: who has no use goes first, and those after it may still follow.
            for name in sorted(state.fell_idle - set(working)):
                if held[name] == RESIDENT and (1, name, 0) > state.last:
                    yield cost, self._evict(state, name)
                    if name not in wanted | ahead:
                        return  # keeping it has no use
        known = wanted | {self._asks[n].model for n in state.coming if self._asks[n].announced > 0}
        free_bytes = self._budget - sum(models[name].bytes for name in held)
        for name in known - held.keys():
            if models[name].bytes <= free_bytes and name not in state.declined:
                declined.add(name)
                if (2, name, 0) > state.last:
                    yield cost, self._load(state, name)
        later = self._later(state._replace(declined=frozenset(declined)))
        if later is not None:
            yield (
                (max(cost, later.now) if self._by_makespan and later.running != state.running else cost),
                later,
            )

    def _seat(self, cost: float, state: _State, ask: VirtualAsk, issued_s: float) -> tuple[float, _State]:
        end_s = state.now + ask.run_seconds * self._slowdown
        return cost if self._by_makespan else cost + state.now - issued_s, state._replace(
            running=tuple(sorted([*state.running, (ask.number, end_s)])),
            waiting=tuple(one for one in state.waiting if one[0] != ask.number),
            declined=self._not_of(state.declined, ask.model),
            last=(0, "", ask.number),
        )

    def _evict(self, state: _State, name: str) -> _State:
        gone_s = state.now + self._trace.models[name].unload_seconds
        return state._replace(
            residents=tuple(one if one[0] != name else (name, LEAVING, gone_s) for one in state.residents),
            declined=self._not_of(state.declined, name),
            last=(1, name, 0),
        )

    def _load(self, state: _State, name: str) -> _State:
        there_s = state.now + self._trace.models[name].load_seconds
        return state._replace(
            residents=tuple(sorted([*state.residents, (name, LOADING, there_s)])),
            declined=frozenset(one for one in state.declined if isinstance(one, int)),
            last=(2, name, 0),
        )

    def _not_of(self, declined: frozenset[int | str], model: str) -> frozenset[int | str]:
        return frozenset(one for one in declined if isinstance(one, str) or self._asks[one].model != model)

    def _later(self, state: _State) -> _State | None:
        """Return the state after the next thing that happens of itself; None where nothing will."""
        unended = state.coming | {n for n, _ in state.waiting} | {n for n, _ in state.running}
        issues = {
            number: max(state.now, self._asks[number].at_s)
            for number in state.coming
            if not unended & set(self._asks[number].after)
        }
        times = [
            *issues.values(),
            *(end_s for _, end_s in state.running),
            *(at_s for _, code, at_s in state.residents if code != RESIDENT),
        ]
        if not times:
            return None
        now = min(times)
        issued = [(number, now) for number, at_s in issues.items() if at_s <= now]
        residents = [
            (name, RESIDENT, 0.0) if code == LOADING and at_s <= now else (name, code, at_s)
            for name, code, at_s in state.residents
            if not (code == LEAVING and at_s <= now)
        ]
        ended = {self._asks[number].model for number, end_s in state.running if end_s <= now}
        return _State(
            now,
            tuple(residents),
            tuple(one for one in state.running if one[1] > now),
            tuple(sorted([*state.waiting, *issued])),
            state.coming - {number for number, _ in issued},
            frozenset(ended),
            state.declined,
            FIRST,
        )

    def _at_least(self, cost: float, state: _State) -> float:
        """Return what the finished schedule costs at least: never more than it will."""
        there = {name: (state.now if code == RESIDENT else at_s) for name, code, at_s in state.residents}
        lost = {name for name, code, _ in state.residents if code == LEAVING}

        def start_s(name: str) -> float:
            load_s = self._trace.models[name].load_seconds
            return there[name] + (load_s if name in lost else 0.0) if name in there else state.now + load_s

        if not self._by_makespan:
            return cost + self._waits_at_least(state, start_s)
        ends = [cost, *(end_s for _, end_s in state.running)]
        work: dict[str, float] = {}
        for number, _ in state.waiting:
            ask = self._asks[number]
            seconds = ask.run_seconds * self._slowdown
            ends.append(start_s(ask.model) + seconds)
            work[ask.model] = work.get(ask.model, 0.0) + seconds / self._trace.models[ask.model].slots
        ends += [start_s(name) + seconds for name, seconds in work.items()]
        for number in state.coming:
            ask = self._asks[number]
            seconds = ask.run_seconds * self._slowdown
            ends.append(ask.at_s + seconds)
            work[ask.model] = work.get(ask.model, 0.0) + seconds / self._trace.models[ask.model].slots
        held = {name: seconds + max(0.0, start_s(name) - state.now) for name, seconds in work.items()}
        large = [name for name in held if self._trace.models[name].bytes > self._budget / 2]
        area = sum(self._trace.models[name].bytes * seconds for name, seconds in held.items())
        ends += [state.now + area / self._budget, state.now + sum(held[name] for name in large)]
        return max(ends)

    def _waits_at_least(self, state: _State, start_s: Callable[[str], float]) -> float:
        """Return what those who wait now will have waited: each model serves its shortest asks first."""
        free_s: dict[str, list[float]] = {}
        for number, end_s in state.running:
            free_s.setdefault(self._asks[number].model, []).append(end_s)
        total = 0.0
        seats: dict[str, list[float]] = {}
        for number, issued_s in sorted(state.waiting, key=lambda one: self._asks[one[0]].run_seconds):
            ask = self._asks[number]
            if ask.model not in seats:
                busy = free_s.get(ask.model, [])
                empty = self._trace.models[ask.model].slots - len(busy)
                seats[ask.model] = [*busy, *[start_s(ask.model)] * empty]
                heapq.heapify(seats[ask.model])
            seat_s = heapq.heappop(seats[ask.model])
            heapq.heappush(seats[ask.model], seat_s + ask.run_seconds * self._slowdown)
            total += seat_s - issued_s
        return total
