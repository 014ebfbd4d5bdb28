"""The virtual machine: time, memory, and the moves it refuses."""

import pytest
from tests.fleet.simulate.worlds import BUDGET, ask, model, trace

from studium.errors import ConfigurationError, StudiumBug
from studium.fleet.simulate.machine import Machine
from studium.fleet.simulate.world import GB, VirtualDevice, VirtualModel
from studium.fleet.situation import TenantState
from studium.records.scheduling import Priority


def until(machine: Machine, moment_s: float) -> None:
    """Let everything happen that happens up to `moment_s`."""
    while (event_s := machine.next_event()) is not None and event_s <= moment_s:
        machine.advance(event_s)


def with_both_running(**more):
    machine = Machine(
        trace([model("a", 4), model("b", 4)], [ask(0, "a", 0.0, 10.0), ask(1, "b", 0.0, 10.0)], **more)
    )
    until(machine, 0.0)
    machine.load("a", "memory")
    machine.load("b", "memory")
    until(machine, 5.0)
    machine.run(0)
    machine.run(1)
    return machine


@pytest.mark.parametrize(("contention", "end_s"), [(0.0, 15.0), (0.5, 20.0), (1.0, 25.0)])
def test_models_at_work_on_one_device_slow_each_other_by_the_contention(contention, end_s):
    machine = with_both_running(contention=contention)
    until(machine, 100.0)
    assert [one.ended_s for one in machine.issued.values()] == pytest.approx([end_s, end_s])


def test_who_is_left_alone_runs_at_full_pace_again():
    """Full contention: 4 s of work and 10 s share until the first ends at 8, the other has 6 left."""
    machine = Machine(
        trace(
            [model("a", 4, load=0.0), model("b", 4, load=0.0)],
            [ask(0, "a", 0.0, 4.0), ask(1, "b", 0.0, 10.0)],
            contention=1.0,
        )
    )
    until(machine, 0.0)
    machine.load("a", "memory")
    machine.load("b", "memory")
    until(machine, 0.0)
    machine.run(0)
    machine.run(1)
    until(machine, 100.0)
    assert [one.ended_s for one in machine.issued.values()] == pytest.approx([8.0, 14.0])


def test_slots_of_one_model_do_not_slow_each_other():
    machine = Machine(trace([model("a", 4, slots=2)], [ask(0, "a", 0.0), ask(1, "a", 0.0)], contention=1.0))
    until(machine, 0.0)
    machine.load("a", "memory")
    until(machine, 5.0)
    machine.run(0)
    machine.run(1)
    until(machine, 100.0)
    assert [one.ended_s for one in machine.issued.values()] == pytest.approx([15.0, 15.0])


def test_a_slow_device_takes_longer():
    devices = [VirtualDevice("processor", BUDGET, slowdown=3.0)]
    machine = Machine(trace([model("a", 4)], [ask(0, "a", 0.0, 10.0)], devices=devices))
    until(machine, 0.0)
    machine.load("a", "processor")
    until(machine, 5.0)
    machine.run(0)
    until(machine, 100.0)
    assert machine.issued[0].ended_s == pytest.approx(35.0)


def test_memory_is_taken_from_the_start_of_a_load_until_it_is_given_back():
    machine = Machine(trace([model("a", 4, load=5.0, unload=2.0)], [ask(0, "a", 0.0, 10.0)]))
    until(machine, 0.0)
    machine.load("a", "memory")
    assert machine.free_bytes("memory") == 7 * GB
    until(machine, 5.0)
    machine.evict("a")
    assert machine.free_bytes("memory") == 7 * GB
    assert machine.returning_bytes("memory") == 4 * GB
    until(machine, 7.0)
    assert machine.free_bytes("memory") == BUDGET


def test_an_abandoned_load_gives_its_memory_back_and_never_arrives():
    machine = Machine(trace([model("a", 4, load=5.0, unload=1.0)], [ask(0, "a", 0.0)]))
    until(machine, 0.0)
    machine.load("a", "memory")
    machine.abandon("a")
    until(machine, 1.0)
    assert machine.free_bytes("memory") == BUDGET
    until(machine, 50.0)
    assert not machine.residents


def test_a_dependent_ask_is_issued_when_the_last_it_comes_after_has_ended():
    machine = Machine(
        trace(
            [model("a", 4, load=0.0, slots=2)],
            [ask(0, "a", 0.0, 3.0), ask(1, "a", 0.0, 8.0), ask(2, "a", 1.0, 1.0, after=(0, 1))],
        )
    )
    until(machine, 0.0)
    machine.load("a", "memory")
    until(machine, 0.0)
    machine.run(0)
    machine.run(1)
    until(machine, 100.0)
    assert machine.issued[2].issued_s == pytest.approx(8.0)


def test_an_announced_ask_that_does_not_come_is_dropped_with_those_after_it():
    machine = Machine(
        trace(
            [model("a", 4, load=0.0), model("b", 4)],
            [
                ask(0, "a", 0.0, 3.0),
                ask(1, "b", 0.0, after=(0,), announced=0.5, comes=False),
                ask(2, "b", 0.0, after=(1,), announced=0.5),
                ask(3, "a", 0.0, 1.0, after=(0,)),
            ],
        )
    )
    until(machine, 0.0)
    machine.load("a", "memory")
    machine.load("b", "memory")  # announced, so it may be brought in
    until(machine, 0.0)
    machine.run(0)
    until(machine, 5.0)
    machine.run(3)
    until(machine, 50.0)
    assert machine.finished
    assert list(machine.issued) == [0, 3]


def test_a_preemptible_model_told_to_leave_keeps_what_it_did():
    training = VirtualModel("training", 6 * GB, 5.0, 1.0, preemptible=True)
    machine = Machine(trace([training], [ask(0, "training", 0.0, 100.0, Priority.TRAINING)]))
    until(machine, 0.0)
    machine.load("training", "memory")
    until(machine, 5.0)
    machine.run(0)
    machine.advance(35.0)
    machine.evict("training")
    assert machine.waiting[0].left_seconds == pytest.approx(70.0)
    until(machine, 36.0)
    machine.load("training", "memory")
    until(machine, 41.0)
    machine.run(0)
    until(machine, 500.0)
    assert machine.issued[0].started_s == pytest.approx(5.0)
    assert machine.issued[0].ended_s == pytest.approx(111.0)
    assert machine.finished


def test_how_long_an_absent_model_took_to_start_is_counted_once_an_absence():
    machine = with_both_running()
    assert machine.tally.first_waits == [("a", 5.0), ("b", 5.0)]


def _waiting_for_a():
    machine = Machine(trace([model("a", 6), model("b", 6)], [ask(0, "a", 0.0), ask(1, "b", 0.0)]))
    until(machine, 0.0)
    machine.load("a", "memory")
    return machine


def test_more_memory_than_there_is_cannot_be_taken():
    with pytest.raises(StudiumBug, match="12,000,000,000 bytes"):
        _waiting_for_a().load("b", "memory")


def test_nobody_is_seated_at_a_model_that_still_loads():
    with pytest.raises(StudiumBug, match="no free slot"):
        _waiting_for_a().run(0)


def test_nobody_is_seated_twice():
    machine = _waiting_for_a()
    until(machine, 5.0)
    machine.run(0)
    with pytest.raises(StudiumBug, match="does not wait"):
        machine.run(0)


def test_a_model_at_work_is_not_pushed_out():
    machine = _waiting_for_a()
    until(machine, 5.0)
    machine.run(0)
    with pytest.raises(StudiumBug, match="pushed out at work"):
        machine.evict("a")


def test_a_model_nobody_asked_for_or_announced_is_not_loaded():
    machine = Machine(trace([model("a", 4), model("b", 4)], [ask(0, "a", 0.0), ask(1, "b", 60.0)]))
    until(machine, 0.0)
    with pytest.raises(StudiumBug, match="nobody can know"):
        machine.load("b", "memory")


def test_an_announced_model_may_be_loaded_ahead():
    machine = Machine(
        trace(
            [model("a", 4), model("b", 4)],
            [ask(0, "a", 0.0), ask(1, "b", 0.0, after=(0,), announced=0.5)],
        )
    )
    until(machine, 0.0)
    machine.load("b", "memory")
    assert machine.residents["b"].state is TenantState.LOADING


def test_an_ask_that_fits_is_not_refused():
    with pytest.raises(StudiumBug, match="but fits"):
        _waiting_for_a().refuse(1)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda: trace([model("a", 4)], [ask(0, "z", 0.0)]), "'z'"),
        (lambda: trace([model("a", 4)], [ask(0, "a", 0.0), ask(0, "a", 1.0)]), "twice"),
        (lambda: trace([model("a", 4)], [ask(0, "a", 0.0, after=(1,)), ask(1, "a", 1.0)]), "after 1"),
        (lambda: trace([model("a", 4)], [ask(0, "a", 0.0)], contention=2.0), "contention is 2"),
        (
            lambda: trace(
                [model("a", 4)], [ask(0, "a", 0.0)], devices=[VirtualDevice("x", 1), VirtualDevice("x", 2)]
            ),
            "two devices called x",
        ),
    ],
)
def test_a_world_whose_parts_do_not_belong_together_is_refused(broken, says):
    with pytest.raises(ConfigurationError, match=says):
        broken()
