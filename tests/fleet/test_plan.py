"""The planner's promises, on situations small enough to check by eye, and on many at random."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from studium.fleet.plan import plan
from studium.fleet.situation import (
    Abandon,
    Device,
    Evict,
    Expected,
    Load,
    Move,
    Place,
    Refuse,
    Rules,
    Run,
    Situation,
    Tenant,
    TenantState,
    Waiting,
)
from studium.records.scheduling import Priority

SLOW_TO_LOAD_S = 4.0


def place(bytes: int, *, load_seconds: float = 1.0, device: str = "memory", slowdown: float = 1.0) -> Place:
    return Place(device, bytes, load_seconds, slowdown=slowdown)


SITUATION = Situation(
    waiting=[],
    tenants=[],
    places={"a": [place(40)], "b": [place(40)], "c": [place(40)]},
    devices=[Device("memory", 100)],
)


def resident(
    model: str, *, in_flight: int = 0, idle_s: float = 1.0, slots: int = 1, bytes: int = 40, **more: Any
) -> Tenant:
    more.setdefault("load_seconds", 1.0)
    return Tenant(model, TenantState.RESIDENT, bytes, slots, in_flight, idle_s, **more)


def waiting(
    ask: int, model: str, *, priority: Priority = Priority.INTERACTIVE, waited_s: float = 0.0, **more: Any
) -> Waiting:
    return Waiting(ask, model, priority, waited_s, **more)


def moves(**changes: Any) -> list[Move]:
    return plan(replace(SITUATION, **changes))


def short(found: list[Move]) -> list[tuple[str, Any]]:
    """Return moves without their reasons."""
    return [
        (type(move).__name__, move.ask if isinstance(move, Run | Refuse) else move.model) for move in found
    ]


def test_an_ask_whose_model_is_resident_runs():
    assert moves(waiting=[waiting(1, "a")], tenants=[resident("a")]) == [Run(1)]


def test_an_ask_waits_for_a_free_slot():
    assert moves(waiting=[waiting(1, "a")], tenants=[resident("a", in_flight=1)]) == []


def test_slots_are_filled_by_class_and_then_age():
    asks = [
        waiting(1, "a", priority=Priority.SESSION),
        waiting(2, "a", priority=Priority.SESSION, waited_s=5),
        waiting(3, "a"),
    ]
    assert moves(waiting=asks, tenants=[resident("a", slots=2)]) == [Run(3), Run(2)]


def test_who_would_answer_too_late_goes_first_within_a_class():
    asks = [waiting(1, "a", waited_s=5), waiting(2, "a", deadline_s=2.5, run_seconds=1.0)]
    assert moves(waiting=asks, tenants=[resident("a")]) == [Run(2)]


def test_a_class_unserved_for_its_patience_gets_one_ask_through_and_no_more():
    asks = [waiting(n, "a", priority=Priority.SESSION, waited_s=1000 - n) for n in range(3)]
    asks.append(waiting(9, "a"))
    tenants = [resident("a", slots=2)]
    assert moves(waiting=asks, tenants=tenants) == [Run(0), Run(9)]
    served = {Priority.SESSION: 3.0}
    assert moves(waiting=asks, tenants=tenants, served_s_ago=served) == [Run(9), Run(0)]


def test_a_model_is_loaded_where_memory_is_free():
    assert short(moves(waiting=[waiting(1, "a")])) == [("Load", "a")]


def test_one_load_serves_every_ask_for_the_model():
    assert short(moves(waiting=[waiting(1, "a"), waiting(2, "a")])) == [("Load", "a")]


def test_only_as_many_models_are_loaded_as_fit():
    found = moves(waiting=[waiting(1, "a"), waiting(2, "b"), waiting(3, "c")])
    assert short(found) == [("Load", "a"), ("Load", "b")]


def test_an_idle_model_makes_room_and_the_load_waits_until_it_is_gone():
    tenants = [resident("a", idle_s=9), resident("b", idle_s=1)]
    assert short(moves(waiting=[waiting(1, "c")], tenants=tenants)) == [("Evict", "a")]


def test_the_model_that_is_seldom_asked_for_leaves_though_it_was_used_last():
    tenants = [resident("a", idle_s=9, uses_per_second=0.5), resident("b", idle_s=1, uses_per_second=0.001)]
    assert short(moves(waiting=[waiting(1, "c")], tenants=tenants)) == [("Evict", "b")]


def test_of_two_as_often_used_the_one_that_comes_back_sooner_leaves():
    tenants = [resident("a", uses_per_second=0.1, load_seconds=9), resident("b", uses_per_second=0.1)]
    assert short(moves(waiting=[waiting(1, "c")], tenants=tenants)) == [("Evict", "b")]


def test_one_large_model_leaves_rather_than_three_small_ones_that_are_used():
    small = [resident(name, bytes=20, uses_per_second=0.1) for name in "xyz"]
    tenants = [*small, resident("large", bytes=40, uses_per_second=0.1)]
    assert short(moves(waiting=[waiting(1, "c")], tenants=tenants)) == [("Evict", "large")]


def test_what_is_expected_back_soon_stays():
    tenants = [resident("a", idle_s=9), resident("b", idle_s=1)]
    found = moves(waiting=[waiting(1, "c")], tenants=tenants, expected=[Expected("a", in_s=2)])
    assert short(found) == [("Evict", "b")]


def test_a_model_at_work_is_never_evicted():
    tenants = [resident("a", in_flight=1), resident("b", in_flight=1)]
    assert moves(waiting=[waiting(1, "c", waited_s=100)], tenants=tenants) == []


def test_a_training_lease_gives_way_to_a_person_and_to_nobody_below_it():
    lease = resident("lease", in_flight=1, bytes=90, preemptible=True, priority=Priority.CAMPAIGN)
    assert short(moves(waiting=[waiting(1, "a")], tenants=[lease])) == [("Evict", "lease")]
    low = waiting(1, "a", priority=Priority.TRAINING)
    assert moves(waiting=[low], tenants=[lease]) == []


def test_a_model_on_its_way_out_is_waited_for_rather_than_a_second_one_evicted():
    leaving = Tenant("a", TenantState.LEAVING, 40, 1, 0, 1.0, 1.0)
    assert moves(waiting=[waiting(1, "c")], tenants=[leaving, resident("b")]) == []


def test_what_can_never_fit_is_refused_and_others_go_on():
    found = moves(waiting=[waiting(1, "a"), waiting(2, "b")], places={"a": [place(101)], "b": [place(40)]})
    assert found[0] == Refuse(1, 101, 100)
    assert short(found[1:]) == [("Load", "b")]


def test_who_is_there_is_not_refused_though_more_is_set_aside_for_it_by_now():
    grown = {"a": [place(101)]}
    assert moves(waiting=[waiting(1, "a")], tenants=[resident("a")], places=grown) == [Run(1)]


def test_memory_taken_by_others_is_waited_for_not_refused_and_makes_idle_models_leave():
    thief = [Device("memory", 100, taken_elsewhere_bytes=50)]
    assert moves(waiting=[waiting(1, "big")], places={"big": [place(90)]}, devices=thief) == []
    tenants = [resident("a", idle_s=9), resident("b", idle_s=1)]
    assert short(moves(tenants=tenants, devices=thief)) == [("Evict", "a")]


def test_no_more_models_are_held_than_allowed():
    found = moves(waiting=[waiting(1, "c")], tenants=[resident("a", bytes=10)], rules=Rules(max_models=1))
    assert short(found) == [("Evict", "a")]


def test_a_model_that_holds_no_memory_of_ours_is_always_let_in():
    tenants = [resident("a", in_flight=1, bytes=100)]
    found = moves(
        waiting=[waiting(1, "c")], tenants=tenants, places={"c": [place(0)]}, rules=Rules(max_models=1)
    )
    assert short(found) == [("Load", "c")]


def test_a_model_in_use_keeps_its_place_for_its_turn_and_then_takes_no_new_work():
    asks = [waiting(1, "c", waited_s=60), waiting(2, "a", waited_s=90)]
    in_its_turn = [resident("a", slots=2, in_flight=1, bytes=100, resident_s=50)]
    beyond_it = [resident("a", slots=2, in_flight=1, bytes=100, resident_s=500)]
    assert moves(waiting=asks, tenants=in_its_turn) == [Run(2)]
    assert moves(waiting=asks, tenants=beyond_it) == []


def test_a_model_in_use_makes_way_for_an_ask_that_would_else_be_too_late():
    tenants = [resident("a", slots=2, in_flight=1, bytes=100, resident_s=50, busy_s=2)]
    for deadline_s, barred in ((30.0, False), (5.0, True), (1.0, False)):
        asks = [waiting(1, "c", waited_s=9, deadline_s=deadline_s), waiting(2, "a")]
        assert (moves(waiting=asks, tenants=tenants) == []) is barred


def test_a_person_does_not_wait_for_the_queue_of_a_campaign():
    tenants = [resident("a", bytes=100)]
    asks = [waiting(1, "a", priority=Priority.CAMPAIGN, waited_s=90), waiting(2, "c")]
    assert short(moves(waiting=asks, tenants=tenants)) == [("Evict", "a")]


def test_a_small_ask_may_pass_a_blocked_one_only_while_it_is_young():
    tenants = [resident("a", in_flight=1, bytes=60)]
    places = {"big": [place(90)], "small": [place(30)]}
    young = [waiting(1, "big", waited_s=1.5), waiting(2, "small", waited_s=1)]
    old = [waiting(1, "big", waited_s=70), waiting(2, "small", waited_s=1)]
    assert short(moves(waiting=young, tenants=tenants, places=places)) == [("Load", "small")]
    assert moves(waiting=old, tenants=tenants, places=places) == []


def test_models_that_grew_past_the_budget_leave_when_idle():
    found = moves(tenants=[resident("a", bytes=70), resident("b", bytes=70, in_flight=1)])
    assert short(found) == [("Evict", "a")]


def test_what_is_expected_is_loaded_while_another_works():
    found = moves(tenants=[resident("a", in_flight=1)], expected=[Expected("b", in_s=3)])
    assert short(found) == [("Load", "b")]
    assert isinstance(found[0], Load) and found[0].prefetch


def test_nothing_is_loaded_ahead_while_somebody_waits_for_memory():
    tenants = [resident("a", in_flight=1, bytes=60)]
    places = {"b": [place(40)], "big": [place(90)]}
    asks = [waiting(1, "big")]
    assert moves(waiting=asks, tenants=tenants, places=places, expected=[Expected("b", in_s=3)]) == []


def test_loading_ahead_does_not_cost_a_model_that_is_worth_as_much():
    hot = [resident("a", bytes=90, uses_per_second=1.0)]
    cold = [resident("a", bytes=90, idle_s=900)]
    hint = [Expected("b", in_s=3)]
    assert moves(tenants=hot, expected=hint) == []
    assert short(moves(tenants=cold, expected=hint)) == [("Evict", "a")]


def test_who_was_just_given_work_does_not_make_room_for_what_is_expected():
    tenants = [resident("a", bytes=90, idle_s=900)]
    assert moves(waiting=[waiting(1, "a")], tenants=tenants, expected=[Expected("b", in_s=3)]) == [Run(1)]


def test_who_is_needed_farthest_from_now_makes_room_for_what_is_needed_next():
    tenants = [resident("a", idle_s=1), resident("b", in_flight=1)]
    hints = [Expected("c", in_s=5), Expected("a", in_s=40)]
    assert short(moves(tenants=tenants, expected=hints)) == [("Evict", "a")]


def test_models_that_load_at_once_serve_before_they_change_places():
    tenants = [resident("a", bytes=100, load_seconds=0.0, resident_s=0.0)]
    places = {"b": [place(100, load_seconds=0.0)]}
    asks = [waiting(1, "b", waited_s=5), waiting(2, "a", waited_s=5)]
    assert moves(waiting=asks, tenants=tenants, places=places) == [Run(2)]


def test_memory_is_kept_together_for_a_model_long_away_and_not_for_one_that_just_left():
    tenants = [resident("x", bytes=40, in_flight=1)]
    places = {"big": [place(90)], "small": [place(40)]}
    asks = [waiting(1, "big", waited_s=90), waiting(2, "small")]
    just_left = moves(waiting=asks, tenants=tenants, places=places, away_s={"big": 5.0})
    long_away = moves(waiting=asks, tenants=tenants, places=places, away_s={"big": 95.0})
    assert (short(just_left), long_away) == ([("Load", "small")], [])


def test_a_load_nobody_wants_is_stopped_unless_it_is_expected():
    loading = [Tenant("a", TenantState.LOADING, 40, 1, 0, 0.0, 1.0)]
    assert short(moves(tenants=loading)) == [("Abandon", "a")]
    assert moves(tenants=loading, expected=[Expected("a", in_s=1)]) == []


def test_a_load_ahead_gives_way_to_somebody_who_waits():
    loading = [Tenant("a", TenantState.LOADING, 90, 1, 0, 0.0, 1.0)]
    found = moves(waiting=[waiting(1, "b")], tenants=loading, expected=[Expected("a", in_s=1)])
    assert short(found) == [("Abandon", "a")]


TWO_DEVICES = [Device("gpu0", 100), Device("cpu", 100)]
EITHER = [place(80, device="gpu0"), place(80, device="cpu", slowdown=5.0)]


def test_the_processor_is_taken_where_waiting_for_the_gpu_would_take_longer():
    busy = [resident("a", bytes=80, device="gpu0", in_flight=1, busy_s=60.0, load_seconds=SLOW_TO_LOAD_S)]
    found = moves(waiting=[waiting(1, "b")], tenants=busy, places={"b": EITHER}, devices=TWO_DEVICES)
    assert [(move.model, move.device) for move in found if isinstance(move, Load)] == [("b", "cpu")]


def test_the_gpu_is_taken_where_it_is_free():
    found = moves(waiting=[waiting(1, "b")], places={"b": EITHER}, devices=TWO_DEVICES)
    assert [(move.model, move.device) for move in found if isinstance(move, Load)] == [("b", "gpu0")]


NAMES = "abcdefg"
DEVICES = ("one", "two")


@settings(max_examples=300, deadline=None, report_multiple_bugs=False)
@given(
    tenants=st.lists(
        st.builds(
            Tenant,
            model=st.sampled_from(NAMES),
            state=st.sampled_from(list(TenantState)),
            bytes=st.integers(0, 60),
            slots=st.integers(1, 3),
            in_flight=st.integers(0, 3),
            idle_s=st.floats(0, 100),
            load_seconds=st.floats(0, 10),
            device=st.sampled_from(DEVICES),
            unload_seconds=st.floats(0, 2),
            resident_s=st.floats(0, 300),
            busy_s=st.floats(0, 60),
            uses_per_second=st.floats(0, 2),
            priority=st.sampled_from(list(Priority)),
            preemptible=st.booleans(),
        ),
        unique_by=lambda tenant: tenant.model,
        max_size=5,
    ),
    asks=st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.sampled_from(list(Priority)),
            st.floats(0, 2000),
            st.none() | st.floats(0, 50),
        ),
        max_size=8,
    ),
    places=st.fixed_dictionaries(
        {
            name: st.lists(
                st.builds(
                    Place,
                    device=st.sampled_from(DEVICES),
                    bytes=st.integers(0, 130),
                    load_seconds=st.floats(0, 10),
                    unload_seconds=st.floats(0, 2),
                    slowdown=st.floats(1, 10),
                ),
                min_size=1,
                max_size=2,
            )
            for name in NAMES
        }
    ),
    expected=st.lists(
        st.builds(Expected, st.sampled_from(NAMES), st.floats(0, 100), st.floats(0, 1)), max_size=3
    ),
    budgets=st.tuples(st.integers(0, 120), st.integers(0, 120)),
    taken=st.integers(0, 60),
    max_models=st.integers(1, 6),
)
def test_no_plan_ever_promises_memory_it_does_not_have(
    tenants, asks, places, expected, budgets, taken, max_models
):
    devices = [Device("one", budgets[0], taken), Device("two", budgets[1])]
    situation = Situation(
        waiting=[
            waiting(number, model, priority=p, waited_s=s, deadline_s=d)
            for number, (model, p, s, d) in enumerate(asks)
        ],
        tenants=tenants,
        places=places,
        devices=devices,
        rules=Rules(max_models=max_models),
        expected=expected,
    )
    found = plan(situation)
    assert found == plan(situation)
    loads = [move for move in found if isinstance(move, Load)]
    for device in devices:
        held = sum(tenant.bytes for tenant in tenants if tenant.device == device.name)
        loaded = sum(
            min(one.bytes for one in places[move.model] if one.device == device.name)
            for move in loads
            if move.device == device.name
        )
        assert not loaded or held + loaded <= device.budget_bytes - device.taken_elsewhere_bytes
    models = [move.model for move in loads]
    assert len(set(models)) == len(models)
    assert not set(models) & {tenant.model for tenant in tenants}
    by_name = {tenant.model: tenant for tenant in tenants}
    seated: dict[str, int] = {}
    for move in found:
        if isinstance(move, Run):
            model = asks[move.ask][0]
            seated[model] = seated.get(model, 0) + 1
    refused = {move.ask for move in found if isinstance(move, Refuse)}
    wanted = {model for number, (model, *_) in enumerate(asks) if number not in refused}
    for move in found:
        if isinstance(move, Evict):
            assert by_name[move.model].state is TenantState.RESIDENT
            assert by_name[move.model].in_flight == 0 or by_name[move.model].preemptible
            assert move.model not in seated
        if isinstance(move, Abandon):
            assert by_name[move.model].state is TenantState.LOADING
            assert move.model not in wanted
    for model, number in seated.items():
        assert by_name[model].state is TenantState.RESIDENT
        assert number + by_name[model].in_flight <= by_name[model].slots
    answered = [move.ask for move in found if isinstance(move, Run | Refuse)]
    assert len(set(answered)) == len(answered)
    evicted = [move.model for move in found if isinstance(move, Evict)]
    assert len(set(evicted)) == len(evicted)
