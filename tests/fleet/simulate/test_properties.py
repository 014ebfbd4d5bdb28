"""What holds for every policy on every world, ours and the peers."""

import pytest
from benchmarks.schedule_bound import relaxation
from benchmarks.schedule_optimum import Objective, optimum
from hypothesis import HealthCheck, given, settings
from tests.fleet.simulate.worlds import BUDGET, traces

from studium.fleet.simulate import POLICIES, simulate

CLOSE = 1e-6


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trace=traces())
def test_memory_holds_and_every_ask_is_served_once_or_refused(policy, trace):
    """Moves no machine could make, and asks left waiting for ever, are raised by the simulation itself."""
    outcome = simulate(trace, POLICIES[policy], seed=1)
    assert sorted(one.number for one in outcome.served) == [ask.number for ask in trace.coming]
    assert outcome.tally.most_bytes <= BUDGET
    for one in outcome.served:
        assert one.refused == (one.model == "giant")
        if not one.refused:
            assert one.issued_s <= one.started_s <= one.ended_s
    assert outcome == simulate(trace, POLICIES[policy], seed=1)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trace=traces())
def test_no_policy_beats_the_relaxation(policy, trace):
    outcome = simulate(trace, POLICIES[policy], seed=1)
    bound = relaxation(trace)
    waits = outcome.waits()
    if waits:
        assert outcome.makespan_s >= bound.makespan_s - CLOSE
        assert sum(waits) / len(waits) >= bound.wait_mean_s - CLOSE
        assert max(waits) >= bound.wait_max_s - CLOSE


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trace=traces(most_asks=5, preemptible=False, contention=False, too_large=False, dropped=False))
def test_the_relaxation_never_exceeds_the_optimal_makespan_and_no_policy_beats_it(trace):
    best = optimum(trace, Objective.MAKESPAN)
    assert relaxation(trace).makespan_s <= best + CLOSE
    for policy in POLICIES.values():
        assert simulate(trace, policy).makespan_s >= best - CLOSE, policy.name


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    trace=traces(
        most_asks=5, dependent=False, preemptible=False, contention=False, too_large=False, dropped=False
    )
)
def test_the_relaxation_never_exceeds_the_optimal_mean_wait_and_no_policy_beats_it(trace):
    best = optimum(trace, Objective.MEAN_WAIT)
    assert relaxation(trace).wait_mean_s <= best + CLOSE
    for policy in POLICIES.values():
        waits = simulate(trace, policy).waits()
        assert sum(waits) / len(waits) >= best - CLOSE, policy.name
