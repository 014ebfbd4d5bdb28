"""Who runs in a cycle: decisions on plain values, no engine and no clock."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from studium.records.sessions import CyclePlan, Turn
from studium.serve.sessions.decide import choose, startable, too_late
from studium.serve.sessions.learn import Trial, learn
from studium.serve.sessions.limits import Allowance
from studium.serve.sessions.worth import Candidate, Outlook, gap

MIB = 2**20


def candidate(name: str, mib: int = 40, **more: object) -> Candidate:
    return Candidate(name, name, mib * MIB, **more)  # type: ignore[arg-type]


def trials(name: str, *useful: int, seconds: float = 1.0, load: float = 0.0, first: int = 1) -> list[Trial]:
    return [
        Trial(name, name, first + index, bool(one), seconds, load_seconds=load, tokens=20, max_tokens=512)
        for index, one in enumerate(useful)
    ]


def decide(
    candidates: list[Candidate],
    history: list[Trial],
    *,
    mib: int = 1000,
    learned: bool = True,
    **more: object,
) -> CyclePlan:
    outlook = Outlook(cycle=5, room_bytes=mib * MIB, remaining_s=1000.0, tokens=Allowance())
    forecasts = learn(history, [one.student for one in candidates])
    return choose(candidates, forecasts, replace(outlook, **more), learned=learned)  # type: ignore[arg-type]


def order(plan: CyclePlan) -> list[str]:
    return [turn.student for turn in plan.turns]


def test_in_the_first_cycle_the_highest_priority_goes_first():
    plan = decide([candidate("a"), candidate("b", priority=5), candidate("c", priority=1)], [], cycle=1)
    assert order(plan) == ["b", "c", "a"]


def test_a_model_that_does_not_fit_is_left_out_with_both_numbers():
    plan = decide([candidate("a", 40), candidate("b", 120)], [], mib=100)
    assert order(plan) == ["a"]
    assert plan.skips[0].reason == "needs 120 MiB, 100 MiB is free for models"


def test_a_model_larger_than_any_one_device_does_not_run_though_all_together_would_hold_it():
    plan = decide([candidate("a", 90)], [], mib=120, largest_bytes=60 * MIB)
    assert plan.skips[0].reason == "needs 90 MiB, 60 MiB is free for models"


def test_measured_yield_outranks_priority():
    history = trials("a", 1, 0, 1, 0) + trials("b", 1, 1, 1, 1)
    assert order(decide([candidate("a", priority=9), candidate("b")], history)) == ["b", "a"]


def test_speed_alone_is_worth_nothing():
    fast_and_useless = trials("fast", 0, 0, 0, 0, seconds=1.0)
    slow_and_useful = trials("slow", 1, 1, 1, 1, seconds=2.0)
    plan = decide([candidate("fast"), candidate("slow")], fast_and_useless + slow_and_useful)
    assert order(plan)[0] == "slow"


def test_nobody_is_left_out_for_being_slow_while_nothing_was_useful():
    history = trials("a", 0, 0, 0, seconds=1.0) + trials("b", 0, 0, 0, seconds=50.0)
    assert order(decide([candidate("a"), candidate("b")], history, mib=50)) == ["a", "b"]


def test_of_equals_the_largest_waits_when_memory_is_tight():
    history = trials("large", 1, 1) + trials("small", 1, 1)
    candidates = [candidate("large", 90, priority=3), candidate("small", 50)]
    assert order(decide(candidates, history, mib=100)) == ["small", "large"]
    assert order(decide(candidates, history, mib=1000)) == ["large", "small"]


def test_who_is_in_memory_goes_first_among_equals():
    history = trials("a", 1, 1, load=2.0) + trials("b", 1, 1, load=2.0)
    candidates = [candidate("a", 80, priority=1), candidate("b", 80, resident=True)]
    assert order(decide(candidates, history, mib=100)) == ["b", "a"]


def test_who_is_in_memory_does_not_drive_out_the_others():
    """Found on the first real session: the resident model, needing no load, made all others seem too slow."""
    history = trials("a", 1, 1, 1, seconds=0.02, load=0.2) + trials("b", 1, 1, 1, seconds=0.02, load=0.2)
    candidates = [candidate("a", 80, resident=True), candidate("b", 80)]
    assert order(decide(candidates, history, mib=100)) == ["a", "b"]


def test_students_of_one_model_follow_each_other_when_memory_is_tight():
    history = [
        Trial(name, model, cycle, True, 1.0, load_seconds=2.0, tokens=5, max_tokens=512)
        for cycle in (1, 2)
        for name, model in (("a", "x"), ("b", "y"), ("c", "x"))
    ]
    candidates = [Candidate(name, model, 80 * MIB) for name, model in (("a", "x"), ("b", "y"), ("c", "x"))]
    assert order(decide(candidates, history, mib=100)) == ["a", "c", "b"]


def test_who_gives_too_little_is_left_out_and_the_next_try_is_named():
    history = trials("good", 1, 1, 1, 1) + trials("useless", 0, 0, 0, 0)
    plan = decide([candidate("good"), candidate("useless")], history, mib=50)
    assert order(plan) == ["good"]
    assert "gives too little" in plan.skips[0].reason
    assert plan.skips[0].reason.endswith("again in cycle 12")


def test_who_was_left_out_is_tried_again_when_the_pause_is_over():
    history = trials("good", 1, 1, 1, 1) + trials("useless", 0, 0, 0, 0)
    plan = decide([candidate("good"), candidate("useless")], history, mib=50, cycle=12)
    assert order(plan) == ["good", "useless"]
    assert plan.turns[1].reason == "tried again after a pause"


def test_who_runs_in_room_that_stands_empty_is_not_left_out():
    """Found by measuring: leaving out who costs no time left half the card unused."""
    history = trials("good", 1, 1, 1, 1) + trials("poor", 0, 0, 0, 0)
    assert order(decide([candidate("good"), candidate("poor")], history, mib=100)) == ["good", "poor"]


def test_who_twice_did_not_get_to_its_model_pauses_and_is_not_called_useless():
    out_of_memory = [Trial("big", "big", cycle, False, 0.0, seated=False) for cycle in (3, 4)]
    plan = decide([candidate("good"), candidate("big")], trials("good", 1, 1) + out_of_memory)
    assert order(plan) == ["good"]
    assert plan.skips[0].reason == "did not get to its model; again in cycle 6"


def test_not_everybody_pauses_at_once():
    out_of_memory = [Trial(name, name, 4, False, 0.0, seated=False) for name in "aabb"]
    assert sorted(order(decide([candidate("a"), candidate("b")], trials("a", 1) + out_of_memory))) == [
        "a",
        "b",
    ]


def test_pauses_double_up_to_a_bound():
    assert [gap(barren) for barren in range(8)] == [2, 2, 2, 4, 8, 8, 8, 8]


def test_a_student_that_becomes_useful_is_back_at_once():
    history = trials("good", 1, 1, 1, 1) + trials("late", 0, 0, 0, 1, 1)
    assert "late" in order(decide([candidate("good"), candidate("late")], history, mib=50, cycle=6))


def test_one_failure_is_no_reason_to_leave_anybody_out():
    history = trials("good", 1, 1, 1) + trials("new", 0)
    assert set(order(decide([candidate("good"), candidate("new")], history, mib=50))) == {"good", "new"}


def test_a_run_that_no_longer_fits_the_time_is_skipped_with_both_numbers():
    history = trials("quick", 1, 1, seconds=2.0) + trials("slow", 1, 1, seconds=3.5)
    plan = decide([candidate("quick"), candidate("slow")], history, remaining_s=3.0)
    assert order(plan) == ["quick"]
    assert plan.skips[0].reason == "expected to take 3.5 s, 3.0 s are left"


def test_without_learning_the_declaration_decides_whatever_was_measured():
    history = trials("a", 0, 0, 0, 0, seconds=9.0) + trials("b", 1, 1, 1, 1, seconds=1.0)
    candidates = [candidate("a", declared_s=1.0), candidate("b", declared_s=2.0)]
    assert order(decide(candidates, history, learned=False)) == ["a", "b"]


def test_limits_follow_what_runs_took():
    history = trials("a", 1, seconds=20.0)
    plan = decide([candidate("a"), candidate("new")], history)
    assert {turn.student: turn.timeout_s for turn in plan.turns} == {"a": 80.0, "new": 180.0}
    hurried = decide([candidate("a")], [], remaining_s=60.0)
    assert hurried.turns[0].timeout_s == 30.0, "a first run may not take all the time there is"


def test_turns_start_together_as_memory_allows_and_small_ones_pass_large_ones():
    candidates = {one.student: one for one in [candidate("a", 60), candidate("b", 60), candidate("c", 30)]}
    turns = [Turn(name, 10, 10.0, "") for name in "abc"]
    assert [t.student for t in startable(turns, [], candidates, 100 * MIB, 6)] == ["a", "c"]
    assert [t.student for t in startable(turns[1:], ["a"], candidates, 100 * MIB, 6)] == ["c"]
    assert [t.student for t in startable(turns, [], candidates, 70 * MIB, 6)] == ["a"]


def test_students_of_one_model_share_its_memory_but_not_more_than_its_slots():
    candidates = {n: Candidate(n, "shared", 80 * MIB, slots=2) for n in "abc"}
    turns = [Turn(name, 10, 10.0, "") for name in "abc"]
    assert [t.student for t in startable(turns, [], candidates, 100 * MIB, 6)] == ["a", "b"]


def test_models_elsewhere_are_limited_in_number():
    candidates = {n: Candidate(n, n, 0) for n in "abc"}
    turns = [Turn(name, 10, 10.0, "") for name in "abc"]
    assert [t.student for t in startable(turns, [], candidates, 0, 2)] == ["a", "b"]


def test_a_turn_without_an_expectation_may_start_until_the_time_is_up():
    turn = Turn("a", 10, 10.0, "")
    assert too_late(turn, 0.1) == ""
    assert too_late(turn, 0.0) == "the time was up"


NAMES = ("a", "b", "c", "d")


@given(
    sizes=st.lists(st.integers(1, 200), min_size=4, max_size=4),
    history=st.lists(
        st.tuples(st.sampled_from(NAMES), st.booleans(), st.floats(0.01, 100), st.floats(0, 30)), max_size=40
    ),
    mib=st.integers(1, 400),
    remaining_s=st.floats(0.1, 1e4),
    left=st.none() | st.integers(0, 5000),
)
def test_every_student_has_a_turn_or_a_reason_and_what_has_a_turn_fits(
    sizes, history, mib, remaining_s, left
):
    candidates = [candidate(name, size) for name, size in zip(NAMES, sizes, strict=True)]
    past = [
        Trial(name, name, cycle + 1, useful, seconds, load_seconds=load, tokens=9, max_tokens=64)
        for cycle, (name, useful, seconds, load) in enumerate(history)
    ]
    plan = decide(
        candidates, past, mib=mib, cycle=len(past) + 1, remaining_s=remaining_s, tokens=Allowance(left, 3.0)
    )
    told = order(plan) + [skip.student for skip in plan.skips]
    assert sorted(told) == sorted(NAMES)
    assert all(sizes[NAMES.index(turn.student)] <= mib for turn in plan.turns)
    assert left is None or sum(turn.max_tokens for turn in plan.turns) <= left
    fitting = [name for name, size in zip(NAMES, sizes, strict=True) if size <= mib]
    if fitting and left is None and remaining_s > 200:
        assert plan.turns, "somebody always runs while there is room and time"
