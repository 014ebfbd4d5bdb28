"""Every policy on every workload: memory is never exceeded, every ask is served once, the same seed is the same run."""

import pytest

from studium.fleet.simulate import PEERS, POLICIES, WORKLOADS, replay, simulate


@pytest.mark.parametrize("workload", ["burst", "committees", "hog-88"])
@pytest.mark.parametrize("policy", PEERS)
def test_every_ask_is_served_once_and_the_same_seed_gives_the_same_run(workload, policy):
    trace = WORKLOADS[workload](3)
    first, second = (simulate(trace, POLICIES[policy], seed=5) for _ in range(2))
    assert sorted(one.number for one in first.served) == [ask.number for ask in trace.asks]
    assert all(one.ended_s is not None and not one.refused for one in first.served)
    assert first.tally.most_bytes <= trace.devices[0].budget_bytes
    assert first == second


def test_a_trace_of_two_devices_is_replayed_by_those_whose_rules_know_several():
    trace = WORKLOADS["two-devices"](0)
    outcomes = {one.policy: one for one in replay(trace)}
    assert outcomes.keys() == POLICIES.keys() - {"llama-swap-group", "llama-swap-matrix"}
    for outcome in outcomes.values():
        assert sorted(one.number for one in outcome.served) == [ask.number for ask in trace.asks]


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_the_same_for_the_same_seed_and_another_for_another(name):
    make = WORKLOADS[name]
    assert make(1).asks == make(1).asks
    assert make(1).asks != make(2).asks
    assert make(1).name == name
