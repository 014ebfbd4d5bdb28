"""What no scheduler can beat, for traces of any size: relaxations of the problem, each solved exactly.

They hold for every policy of the simulator, also one that knows all coming asks, as long as it loads only
models that are waited for or were announced (the machine sees to that). Three figures are bounded:

*makespan*, by the largest of
- chains: an ask cannot end before the asks it comes after, its own run, and its model's first load;
- slots: the work of a model's asks issued from any moment on, spread over its slots without gaps;
- memory: bytes times seconds that those asks need, over all memory there is;
- the large: on one device, models above half of it work one at a time, each loaded once, the former gone;

*mean wait* (issue to start), by the time to each model's first load, and for a model with one slot and no
dependent asks by shortest-remaining-time-first on that model alone (optimal: Schrage 1968);

*maximum wait*, by the same first loads, and for such models by earliest-due-date-first with preemption
(optimal for the largest lateness: Horn 1974).

Evictions and competition between models enter only through "memory" and "the large", so on workloads where
swapping is most of the wait the bound lies far below what is possible.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple

from studium.fleet.simulate.world import Trace, VirtualAsk

ROUNDS = 10


class Bound(NamedTuple):
    """Seconds that no policy can undercut."""

    makespan_s: float
    wait_mean_s: float
    wait_max_s: float


class _Job(NamedTuple):
    """An ask as the relaxations see it: earliest issue, earliest start, seconds on the fastest device."""

    ask: VirtualAsk
    issue_s: float
    ready_s: float
    seconds: float


def relaxation(trace: Trace) -> Bound:
    """Return the bound of a trace. Asks that fit nowhere are refused at once and count for nothing."""
    jobs = _jobs(trace)
    if not jobs:
        return Bound(0.0, 0.0, 0.0)
    end_s = max(*(job.ready_s + job.seconds for job in jobs), _work_bound(trace, jobs))
    waits = [_waits_of_model(trace, model, jobs) for model in trace.models]
    first_s = min(job.issue_s for job in jobs)
    return Bound(
        end_s - first_s, sum(total for total, _ in waits) / len(jobs), max(most for _, most in waits)
    )


def _jobs(trace: Trace) -> list[_Job]:
    """Return the asks with their earliest times.

    A model is there a load after it was first known, an ask that comes after others is issued when they
    have ended: each round of these two gives later times that still hold for everybody.
    """
    fastest = min(device.slowdown for device in trace.devices)
    largest = max(device.budget_bytes for device in trace.devices)
    jobs = _earliest(trace, fastest, largest, dict.fromkeys(trace.models, 0.0))
    for _ in range(ROUNDS):
        known = {ask.model: 0.0 for ask in trace.asks if ask.announced > 0}
        for job in jobs:
            known[job.ask.model] = min(job.issue_s, known.get(job.ask.model, job.issue_s))
        there = {name: known.get(name, 0.0) + model.load_seconds for name, model in trace.models.items()}
        former, jobs = jobs, _earliest(trace, fastest, largest, there)
        if jobs == former:
            break
    return jobs


def _earliest(trace: Trace, fastest: float, largest: int, there: dict[str, float]) -> list[_Job]:
    ends: dict[int, float] = {}
    jobs: list[_Job] = []
    for ask in trace.coming:
        issue_s = max([ask.at_s, *(ends[number] for number in ask.after)])
        if trace.models[ask.model].bytes > largest:
            ends[ask.number] = issue_s
            continue
        job = _Job(ask, issue_s, max(issue_s, there[ask.model]), ask.run_seconds * fastest)
        ends[ask.number] = job.ready_s + job.seconds
        jobs.append(job)
    return jobs


def _work_bound(trace: Trace, jobs: Sequence[_Job]) -> float:
    """Return the largest end that the work issued from some moment on enforces, over all moments."""
    memory = sum(device.budget_bytes for device in trace.devices)
    firsts = {
        model: min((job.issue_s for job in jobs if job.ask.model == model), default=0.0)
        for model in trace.models
    }
    announced = {ask.model for ask in trace.asks if ask.announced > 0}
    work: dict[str, float] = {}
    from_ready: dict[str, float] = {}
    most = 0.0
    for job in sorted(jobs, key=lambda one: -one.ready_s):
        slots = trace.models[job.ask.model].slots
        from_ready[job.ask.model] = from_ready.get(job.ask.model, 0.0) + job.seconds / slots
        most = max(most, job.ready_s + from_ready[job.ask.model])
    for job in sorted(jobs, key=lambda one: -one.issue_s):
        name, moment_s = job.ask.model, job.issue_s
        work[name] = work.get(name, 0.0) + job.seconds / trace.models[name].slots
        fresh = {one for one in work if firsts[one] >= moment_s and (moment_s == 0 or one not in announced)}
        held = {one: work[one] + (trace.models[one].load_seconds if one in fresh else 0.0) for one in work}
        area = sum(trace.models[one].bytes * seconds for one, seconds in held.items())
        most = max(most, moment_s + area / memory, moment_s + _serial(trace, held))
    return most


def _serial(trace: Trace, held: dict[str, float]) -> float:
    """Return the seconds that models above half the memory need one after the other."""
    if len(trace.devices) > 1:
        return 0.0
    half = trace.devices[0].budget_bytes / 2
    large = [name for name in held if trace.models[name].bytes > half]
    leaving = [trace.models[name].unload_seconds for name in large]
    return sum(held[name] for name in large) + sum(leaving) - max(leaving, default=0.0)


def _waits_of_model(trace: Trace, model: str, jobs: Sequence[_Job]) -> tuple[float, float]:
    """Return the least total and the least largest wait of a model's asks."""
    mine = [job for job in jobs if job.ask.model == model]
    free = [job for job in mine if not job.ask.after]
    total = sum(job.ready_s - job.issue_s for job in free)
    most = max((job.ready_s - job.issue_s for job in free), default=0.0)
    shape = trace.models[model]
    if mine and len(free) == len(mine) and shape.slots == 1 and not shape.preemptible:
        least = sum(job.issue_s + job.seconds for job in mine)
        shortest = _preemptive(mine, lambda job, left: left)
        total = max(total, sum(shortest) - least)
        earliest_due = _preemptive(mine, lambda job, left: job.issue_s + job.seconds)
        most = max(
            most,
            *(end - job.issue_s - job.seconds for job, end in zip(mine, earliest_due, strict=True)),
        )
    return total, most


def _preemptive(jobs: Sequence[_Job], rank: Callable[[_Job, float], float]) -> list[float]:
    """Return when each job ends on one machine that always works on the one of least rank."""
    ends = [0.0] * len(jobs)
    coming = sorted(range(len(jobs)), key=lambda n: -jobs[n].ready_s)
    open_jobs: list[tuple[float, int, float]] = []
    now = 0.0
    while coming or open_jobs:
        if not open_jobs:
            now = max(now, jobs[coming[-1]].ready_s)
        while coming and jobs[coming[-1]].ready_s <= now:
            n = coming.pop()
            heapq.heappush(open_jobs, (rank(jobs[n], jobs[n].seconds), n, jobs[n].seconds))
        _, n, left = heapq.heappop(open_jobs)
        until = min(now + left, jobs[coming[-1]].ready_s) if coming else now + left
        left -= until - now
        now = until
        if left > 1e-12:
            heapq.heappush(open_jobs, (rank(jobs[n], left), n, left))
        else:
            ends[n] = now
    return ends
