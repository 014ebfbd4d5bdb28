"""Every policy on every workload: memory is never exceeded, every ask is served once, the same seed is the same run."""

import pytest

from studium.fleet.simulate import PEERS, POLICIES, WORKLOADS, simulate


@pytest.mark.parametrize("workload", ["burst", "committees", "hog-88"])
@pytest.mark.parametrize("policy", PEERS)
def test_every_ask_is_served_once_and_the_same_seed_gives_the_same_run(workload, policy):
    trace = WORKLOADS[workload](3)
    first, second = (simulate(trace, POLICIES[policy], seed=5) for _ in range(2))
    assert sorted(one.number for one in first.served) == [ask.number for ask in trace.asks]
    assert all(one.ended_s is not None and not one.refused for one in first.served)
    assert first.tally.most_bytes <= trace.devices[0].budget_bytes
    assert first == second
