"""What the simulated planner is told: what residency would know, and nothing of the future."""

from dataclasses import replace

import pytest
from tests.fleet.simulate.worlds import ask, model, trace

from studium.fleet import plan as planner
from studium.fleet.simulate import POLICIES, simulate
from studium.fleet.simulate import studium as adapter
from studium.fleet.simulate.machine import Machine
from studium.fleet.simulate.measures import spread
from studium.fleet.simulate.studium import Studium
from studium.fleet.situation import Load, TenantState
from studium.records.scheduling import Priority


def situations(world, *, hints: bool, moves=()):
    """Run `world` to its first decision; return what the planner is told there."""
    machine = Machine(world)
    mind = Studium(machine, 0, hints=hints)
    machine.advance(machine.next_event())
    for name in moves:
        machine.load(name, "memory")
    return mind.situation(machine, list(mind._expected(machine)) if hints else [])


def chain_of_three(announced: float):
    return trace(
        [model("a", 4), model("b", 4), model("c", 4)],
        [
            ask(0, "a", 0.0, 20.0),
            ask(1, "b", 0.0, 30.0, after=(0,), announced=announced),
            ask(2, "c", 0.0, 10.0, after=(1,), announced=announced),
            ask(3, "c", 500.0, 10.0),
        ],
    )


def test_a_known_order_is_told_with_forecast_times(monkeypatch):
    monkeypatch.setattr(adapter, "NOISE", 0.0)
    told = situations(chain_of_three(0.8), hints=True).expected
    assert [(one.model, one.in_s, one.probability) for one in told] == [("b", 20.0, 0.8), ("c", 50.0, 0.8)]


def test_without_hints_and_of_unannounced_asks_nothing_is_told():
    assert not situations(chain_of_three(0.8), hints=False).expected
    assert not situations(chain_of_three(0.0), hints=True).expected


def test_forecasts_are_the_models_mean_with_noise_not_the_truth():
    world = trace([model("a", 4)], [ask(0, "a", 0.0, 4.0), ask(1, "a", 0.0, 16.0)])
    told = [one.run_seconds for one in situations(world, hints=False).waiting]
    assert len(set(told)) == 2
    assert all(3.0 < seconds < 30.0 for seconds in told)
    swapped = replace(world, asks=[replace(one, run_seconds=20.0 - one.run_seconds) for one in world.asks])
    assert [one.run_seconds for one in situations(swapped, hints=False).waiting] == told


def test_the_situation_holds_who_waits_who_is_in_and_where_they_could_live():
    world = trace(
        [model("a", 4, load=3.0, unload=2.0, slots=2), model("b", 5)],
        [ask(0, "a", 0.0, priority=Priority.SESSION, deadline_s=60.0), ask(1, "b", 0.0)],
    )
    told = situations(world, hints=False, moves=["b"])
    assert [(one.ask, one.model, one.priority, one.deadline_s) for one in told.waiting] == [
        (0, "a", Priority.SESSION, 60.0),
        (1, "b", Priority.INTERACTIVE, None),
    ]
    assert [(one.model, one.state, one.bytes) for one in told.tenants] == [
        ("b", TenantState.LOADING, 5_000_000_000)
    ]
    [place] = told.places["a"]
    assert (place.device, place.bytes, place.load_seconds, place.unload_seconds) == (
        "memory",
        4_000_000_000,
        3.0,
        2.0,
    )
    assert [(one.name, one.budget_bytes) for one in told.devices] == [("memory", 11_000_000_000)]


def test_what_comes_later_changes_nothing_before_it():
    """Two worlds alike until 100 s: up to then the planner does the same, hints or not."""
    models = [model("a", 6), model("b", 6), model("c", 3)]
    early = [ask(n, "abc"[n % 3], 7.0 * n) for n in range(12)]
    one = trace(models, [*early, ask(12, "a", 120.0), ask(13, "a", 121.0)])
    other = trace(models, [*early, ask(12, "c", 100.0), ask(13, "b", 100.0)])
    before = [
        [
            (served.number, served.started_s)
            for served in simulate(world, POLICIES["studium"]).served
            if served.started_s < 100.0
        ]
        for world in (one, other)
    ]
    assert before[0] == before[1]
    assert before[0]


def test_the_very_plan_is_asked_again_while_somebody_waits(monkeypatch):
    assert adapter.plan is planner.plan
    asked = []

    def spy(situation):
        asked.append(situation)
        return [Load("a", "memory", "test")] if not situation.tenants else []

    monkeypatch.setattr(adapter, "plan", spy)
    machine = Machine(trace([model("a", 4)], [ask(0, "a", 0.0)]))
    mind = Studium(machine, 0, hints=True)
    machine.advance(0.0)
    mind.step(machine)
    assert machine.residents["a"].state is TenantState.LOADING
    assert len(asked) == 1
    assert mind.look_again_s(machine) == pytest.approx(0.5)


def test_the_spread_takes_the_nearest_rank():
    assert spread(range(1, 101)) == (spread(reversed(range(1, 101))))
    found = spread(range(1, 101))
    assert (found.number, found.mean, found.p95, found.most) == (100, 50.5, 95, 100)
    assert spread([7.0]).p95 == 7.0
    assert spread([]) is None
