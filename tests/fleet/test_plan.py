"""The planner's promises, on situations small enough to check by eye."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from studium.fleet.plan import Evict, Load, Refuse, Run, Situation, Tenant, TenantState, Waiting, plan

SITUATION = Situation(
    waiting=[], tenants=[], needs={"a": 40, "b": 40, "c": 40}, budget_bytes=100, max_models=6, patience_s=10.0
)


def resident(
    model: str, *, in_flight: int = 0, idle_s: float = 1.0, slots: int = 1, bytes: int = 40
) -> Tenant:
    return Tenant(model, TenantState.RESIDENT, bytes, slots, in_flight, idle_s, load_seconds=1.0)


def waiting(ask: int, model: str, *, priority: int = 0, waited_s: float = 0.0) -> Waiting:
    return Waiting(ask, model, priority, waited_s)


def moves(**changes: object) -> list[object]:
    return list(plan(replace(SITUATION, **changes)))  # type: ignore[arg-type]


def test_an_ask_whose_model_is_resident_runs():
    assert moves(waiting=[waiting(1, "a")], tenants=[resident("a")]) == [Run(1)]


def test_an_ask_waits_for_a_free_slot():
    assert moves(waiting=[waiting(1, "a")], tenants=[resident("a", in_flight=1)]) == []


def test_slots_are_filled_by_priority_and_then_age():
    asks = [waiting(1, "a"), waiting(2, "a", waited_s=5), waiting(3, "a", priority=1)]
    assert moves(waiting=asks, tenants=[resident("a", slots=2)]) == [Run(3), Run(2)]


def test_a_model_is_loaded_where_memory_is_free():
    assert [type(move) for move in moves(waiting=[waiting(1, "a")])] == [Load]


def test_one_load_serves_every_ask_for_the_model():
    found = moves(waiting=[waiting(1, "a"), waiting(2, "a")])
    assert [move.model for move in found if isinstance(move, Load)] == ["a"]


def test_only_as_many_models_are_loaded_as_fit():
    found = moves(waiting=[waiting(1, "a"), waiting(2, "b"), waiting(3, "c")])
    assert [move.model for move in found if isinstance(move, Load)] == ["a", "b"]


def test_an_idle_model_makes_room_and_the_load_waits_until_it_is_gone():
    tenants = [resident("a", idle_s=9), resident("b", idle_s=1)]
    found = moves(waiting=[waiting(1, "c")], tenants=tenants)
    assert [(type(move), move.model) for move in found] == [(Evict, "a")]  # type: ignore[union-attr]


def test_a_model_at_work_is_never_evicted():
    tenants = [resident("a", in_flight=1), resident("b", in_flight=1)]
    assert moves(waiting=[waiting(1, "c", waited_s=100)], tenants=tenants) == []


def test_a_model_on_its_way_out_is_waited_for_rather_than_a_second_one_evicted():
    leaving = Tenant("a", TenantState.LEAVING, 40, 1, 0, 1.0, 1.0)
    assert moves(waiting=[waiting(1, "c")], tenants=[leaving, resident("b")]) == []


def test_what_can_never_fit_is_refused_and_others_go_on():
    found = moves(waiting=[waiting(1, "a"), waiting(2, "b")], needs={"a": 101, "b": 40})
    assert found[0] == Refuse(1, 101)
    assert [move.model for move in found if isinstance(move, Load)] == ["b"]


def test_no_more_models_are_held_than_allowed():
    found = moves(waiting=[waiting(1, "c")], tenants=[resident("a", bytes=10)], max_models=1)
    assert [(type(move), move.model) for move in found] == [(Evict, "a")]  # type: ignore[union-attr]


def test_a_model_that_holds_no_memory_of_ours_is_always_let_in():
    tenants = [resident("a", in_flight=1, bytes=100)]
    found = moves(waiting=[waiting(1, "c")], tenants=tenants, needs={"c": 0}, max_models=1)
    assert [type(move) for move in found] == [Load]


def test_an_ask_past_its_patience_bars_new_work_from_the_model_whose_place_it_needs():
    tenants = [resident("a", slots=2, in_flight=1, bytes=100)]
    asks = [waiting(1, "c", waited_s=11), waiting(2, "a")]
    assert moves(waiting=asks, tenants=tenants) == []
    assert moves(waiting=[waiting(1, "c", waited_s=1), waiting(2, "a")], tenants=tenants) == [Run(2)]


def test_a_small_ask_may_pass_a_blocked_one_only_while_it_is_young():
    tenants = [resident("a", in_flight=1, bytes=60)]
    needs = {"big": 90, "small": 30}
    young = [waiting(1, "big", waited_s=2), waiting(2, "small", waited_s=1)]
    old = [waiting(1, "big", waited_s=12), waiting(2, "small", waited_s=1)]
    assert [move.model for move in moves(waiting=young, tenants=tenants, needs=needs)] == ["small"]  # type: ignore[union-attr]
    assert moves(waiting=old, tenants=tenants, needs=needs) == []


def test_models_that_grew_past_the_budget_leave_when_idle():
    found = moves(tenants=[resident("a", bytes=70), resident("b", bytes=70, in_flight=1)])
    assert [(type(move), move.model) for move in found] == [(Evict, "a")]  # type: ignore[union-attr]


NAMES = "abcdefg"


@settings(max_examples=300, deadline=None)
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
        ),
        unique_by=lambda tenant: tenant.model,
        max_size=5,
    ),
    asks=st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 2), st.floats(0, 20)), max_size=8),
    needs=st.fixed_dictionaries({name: st.integers(0, 130) for name in NAMES}),
    max_models=st.integers(1, 6),
)
def test_no_plan_ever_promises_memory_it_does_not_have(tenants, asks, needs, max_models):
    situation = Situation(
        waiting=[waiting(number, model, priority=p, waited_s=s) for number, (model, p, s) in enumerate(asks)],
        tenants=tenants,
        needs=needs,
        budget_bytes=100,
        max_models=max_models,
        patience_s=10.0,
    )
    found = plan(situation)
    held = sum(tenant.bytes for tenant in tenants)
    loads = [move.model for move in found if isinstance(move, Load)]
    loaded = sum(needs[model] for model in loads)
    assert not loaded or held + loaded <= 100
    assert len(set(loads)) == len(loads)
    assert not set(loads) & {tenant.model for tenant in tenants}
    by_name = {tenant.model: tenant for tenant in tenants}
    seated: dict[str, int] = {}
    for move in found:
        if isinstance(move, Run):
            model = asks[move.ask][0]
            seated[model] = seated.get(model, 0) + 1
        if isinstance(move, Evict):
            assert by_name[move.model].state is TenantState.RESIDENT
            assert by_name[move.model].in_flight == 0
            assert move.model not in seated
    for model, number in seated.items():
        assert by_name[model].state is TenantState.RESIDENT
        assert number + by_name[model].in_flight <= by_name[model].slots
    answered = [move.ask for move in found if isinstance(move, Run | Refuse)]
    assert len(set(answered)) == len(answered)
