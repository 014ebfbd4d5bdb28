"""The exact optimum, against hand-made cases and a slow, obvious search; and the relaxation by hand."""

from collections import Counter
from itertools import chain, combinations

import pytest
from benchmarks.schedule_bound import relaxation
from benchmarks.schedule_optimum import Objective, optimum
from hypothesis import given, settings
from tests.fleet.simulate.worlds import ask, model, trace, traces

from studium.errors import Unsupported
from studium.fleet.simulate.machine import Machine
from studium.fleet.simulate.world import VirtualDevice
from studium.fleet.situation import TenantState


def slowest_search(world, objective: Objective) -> float:
    """Try every set of moves at every event, with the machine itself as the judge of what is possible."""
    best = float("inf")

    def play(history: tuple[tuple[tuple[str, int | str], ...], ...]) -> Machine:
        machine = Machine(world)
        for moves in history:
            machine.advance(machine.next_event())
            for move, what in moves:
                machine.load(what, "memory") if move == "load" else getattr(machine, move)(what)
        return machine

    def search(history) -> None:
        nonlocal best
        machine = play(history)
        if machine.finished:
            issued = list(machine.issued.values())
            if objective is Objective.MAKESPAN:
                value = max(one.ended_s for one in issued) - min(one.issued_s for one in issued)
            else:
                value = sum(one.started_s - one.issued_s for one in issued) / len(issued)
            best = min(best, value)
            return
        event_s = machine.next_event()
        if event_s is None or _at_least(machine, event_s, objective) >= best:
            return
        machine.advance(event_s)
        options = [("run", number) for number in machine.waiting]
        options += [("evict", name) for name, home in machine.residents.items() if home.idle]
        loads = Counter(what for moves in history for move, what in moves if move == "load")
        asks = Counter(one.model for one in world.asks)
        options += [("load", name) for name in machine.wanted() if loads[name] < asks[name]]
        for some in chain.from_iterable(combinations(options, size) for size in range(len(options) + 1)):
            if _possible(machine, some):
                search((*history, some))

    search(())
    return best


def _at_least(machine: Machine, now: float, objective: Objective) -> float:
    """What is already lost, which is all the pruning there is."""
    if objective is Objective.MAKESPAN:
        return now - min((one.issued_s for one in machine.issued.values()), default=now)
    waited = [
        (now if one.started_s is None else one.started_s) - one.issued_s for one in machine.issued.values()
    ]
    return sum(waited) / len(machine.trace.asks)


def _possible(machine: Machine, moves) -> bool:
    """Whether these moves can be made at once: room for the loads, a slot for each run, nobody evicted at work."""
    seated = Counter(machine.waiting[what].ask.model for move, what in moves if move == "run")
    leaving = {what for move, what in moves if move == "evict"}
    needed = sum(machine.trace.models[what].bytes for move, what in moves if move == "load")
    free_slots = {
        name: home.model.slots - len(home.running)
        for name, home in machine.residents.items()
        if home.state is TenantState.RESIDENT
    }
    return (
        needed <= machine.free_bytes("memory")
        and not leaving & seated.keys()
        and all(free_slots.get(name, 0) >= number for name, number in seated.items())
    )


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    world=traces(
        most_asks=3,
        dependent=False,
        classes=False,
        preemptible=False,
        contention=False,
        too_large=False,
        dropped=False,
    )
)
@pytest.mark.parametrize("objective", Objective)
def test_the_optimum_is_that_of_a_search_without_any_short_cut(objective, world):
    assert optimum(world, objective) == pytest.approx(slowest_search(world, objective), abs=1e-6)


def test_the_optimum_serves_both_asks_of_a_model_before_it_leaves():
    """a: load 5, two runs of 10; then unload 1, load 5, run 10."""
    world = trace([model("a", 8), model("b", 8)], [ask(0, "a", 0.0), ask(1, "b", 0.0), ask(2, "a", 0.0)])
    assert optimum(world, Objective.MAKESPAN) == pytest.approx(41.0)


def test_the_optimum_waits_for_a_short_ask_it_knows_will_come():
    """b's second ask comes just after the first ends: swapping to a in between would cost two swaps more."""
    world = trace(
        [model("a", 8), model("b", 8)], [ask(0, "b", 0.0, 2.0), ask(1, "a", 1.0, 10.0), ask(2, "b", 8.0, 1.0)]
    )
    assert optimum(world, Objective.MAKESPAN) == pytest.approx(25.0)  # b until 9, unload 1, load 5, run 10


def test_the_optimum_lets_two_leave_at_one_instant_whatever_they_are_called():
    """At 0 s both have run; the quick one's room is enough for the large one, and the slow one may leave beside it."""
    for number in range(8):
        quick, slow = f"a{number}", f"b{number}"
        models = [
            model(quick, 1, load=0.0, unload=0.0),
            model(slow, 2, load=0.0, unload=1.0),
            model("z", 9, load=0.0),
        ]
        asks = [ask(0, slow, 0.0, 0.0), ask(1, quick, 0.0, 0.0), ask(2, "z", 0.0, 0.0, after=(0,))]
        world = trace(models, asks, devices=[VirtualDevice("memory", models[1].bytes + models[2].bytes)])
        assert optimum(world, Objective.MAKESPAN) == pytest.approx(0.0)


def test_the_optimum_of_nothing_to_wait_for_is_the_load():
    world = trace([model("a", 4)], [ask(0, "a", 3.0)])
    assert optimum(world, Objective.MEAN_WAIT) == pytest.approx(5.0)
    assert optimum(world, Objective.MAKESPAN) == pytest.approx(15.0)


@pytest.mark.parametrize(
    "world",
    [
        trace([model("a", 4)], [ask(n, "a", 0.0) for n in range(13)]),
        trace([model("a", 4)], [ask(0, "a", 0.0)], contention=0.5),
        trace([model("a", 4)], [ask(0, "a", 0.0)], devices=[VirtualDevice("x", 9), VirtualDevice("y", 9)]),
        trace([model("a", 4)], [ask(0, "a", 0.0), ask(1, "a", 0.0, after=(0,))]),
    ],
)
def test_what_the_optimum_cannot_tell_is_refused(world):
    with pytest.raises(Unsupported, match="relaxation"):
        optimum(world, Objective.MEAN_WAIT)


def test_models_above_half_the_memory_are_bounded_as_coming_one_after_the_other():
    """Two loads, two runs and one unload; each alone would be done in 15."""
    world = trace([model("a", 8), model("b", 8)], [ask(0, "a", 0.0), ask(1, "b", 0.0)])
    assert relaxation(world).makespan_s == pytest.approx(31.0)


def test_slots_bound_the_makespan():
    world = trace([model("a", 4, slots=2)], [ask(n, "a", 0.0) for n in range(4)])
    assert relaxation(world).makespan_s == pytest.approx(25.0)


def test_chains_bound_the_makespan():
    asks = [ask(0, "a", 0.0), ask(1, "b", 0.0, after=(0,)), ask(2, "a", 0.0, after=(1,))]
    assert relaxation(trace([model("a", 2), model("b", 2)], asks)).makespan_s == pytest.approx(40.0)


def test_the_queue_of_one_slot_bounds_waits():
    """Three asks of 10 s at once: they start at 5, 15 and 25."""
    bound = relaxation(trace([model("a", 4)], [ask(n, "a", 0.0) for n in range(3)]))
    assert bound.wait_mean_s == pytest.approx(15.0)
    assert bound.wait_max_s == pytest.approx(25.0)


def test_an_announced_model_is_bounded_as_being_there():
    asks = [ask(0, "a", 0.0), ask(1, "b", 0.0, after=(0,), announced=1.0)]
    bound = relaxation(trace([model("a", 2), model("b", 2)], asks))
    assert bound.makespan_s == pytest.approx(25.0)
    assert bound.wait_mean_s == pytest.approx(2.5)
