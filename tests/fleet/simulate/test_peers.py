"""Each peer does what its public description says, on worlds small enough to follow by hand."""

import pytest
from tests.fleet.simulate.worlds import ask, model, trace

from studium.errors import Unsupported
from studium.fleet.simulate import POLICIES, simulate
from studium.fleet.simulate.llama_swap import largest_sets
from studium.fleet.simulate.world import GB, VirtualDevice
from studium.records.scheduling import Priority


def order_of_starts(policy: str, world) -> list[str]:
    outcome = simulate(world, POLICIES[policy])
    return [one.model for one in sorted(outcome.served, key=lambda one: (one.started_s, one.number))]


def starts(policy: str, world) -> list[float]:
    return [
        one.started_s for one in sorted(simulate(world, POLICIES[policy]).served, key=lambda one: one.number)
    ]


def in_turn(*names: str, every_s: float = 0.01, run_seconds: float = 10.0):
    return [ask(n, name, n * every_s, run_seconds) for n, name in enumerate(names)]


def test_llama_swaps_fifo_serves_a_b_c_a_b_c_as_a_a_b_b_c_c():
    world = trace([model(name, 8) for name in "abc"], in_turn(*"abcabc"))
    assert "".join(order_of_starts("llama-swap-group", world)) == "aabbcc"
    assert "".join(order_of_starts("llama-swap-matrix", world)) == "aabbcc"


def test_llama_swaps_group_holds_one_model_though_two_would_fit():
    world = trace([model("a", 4), model("b", 4)], in_turn("a", "b"))
    assert starts("llama-swap-group", world) == pytest.approx([5.0, 21.0])  # load, run, unload, load
    assert starts("llama-swap-matrix", world) == pytest.approx([5.0, 5.01])


def test_llama_swaps_matrix_reaches_the_set_that_costs_least():
    """c fits beside either a or b; b loads faster, so b is the one to go."""
    models = [model("a", 5, load=9.0), model("b", 5, load=2.0), model("c", 5, load=5.0)]
    world = trace(
        models, [ask(0, "a", 0.0, 1.0), ask(1, "b", 0.0, 1.0), ask(2, "c", 30.0), ask(3, "a", 50.0)]
    )
    assert starts("llama-swap-matrix", world) == pytest.approx([9.0, 2.0, 36.0, 50.0])


def test_llama_swaps_queue_is_told_which_models_are_urgent():
    models = [model("a", 8), model("b", 8), model("c", 8)]
    asks = [ask(0, "a", 0.0), ask(1, "b", 0.1, priority=Priority.CAMPAIGN), ask(2, "c", 0.2)]
    assert "".join(order_of_starts("llama-swap-group", trace(models, asks))) == "acb"


def test_the_ideal_sets_are_all_largest_ones_that_fit():
    world = trace([model("a", 8), model("b", 3), model("c", 4), model("d", 4)], [ask(0, "a", 0.0)])
    found = {"".join(sorted(one)) for one in largest_sets(world, 11 * GB)}
    assert found == {"ab", "bcd"}


def test_llama_swap_is_simulated_for_one_device_only():
    devices = [VirtualDevice("one", 11 * GB), VirtualDevice("two", 11 * GB)]
    with pytest.raises(Unsupported, match="one device"):
        simulate(trace([model("a", 4)], [ask(0, "a", 0.0)], devices=devices), POLICIES["llama-swap-group"])


def test_ollamas_victim_is_the_first_by_path_not_the_least_recently_used():
    """b was used last, yet a goes when a is the first name; byte-aware LRU lets the older z go."""
    first = [ask(0, "z", 0.0, 1.0), ask(1, "a", 10.0, 1.0), ask(2, "m", 20.0, 1.0), ask(3, "a", 60.0, 1.0)]
    world = trace([model("a", 4), model("z", 4), model("m", 4)], first)
    assert starts("ollama", world)[3] > 60.0
    assert starts("byte-lru", world)[3] == 60.0


def test_ollama_leaves_a_fifth_of_free_memory_unused():
    """6 + 4.5 GB fit 11, but 4.5 is more than 80 % of the 5 left: the first has to go. LRU loads both."""
    world = trace([model("a", 6), model("b", 4.5)], [ask(0, "a", 0.0, 1.0), ask(1, "b", 20.0, 1.0)])
    assert starts("ollama", world)[1] == pytest.approx(26.0)
    assert starts("byte-lru", world)[1] == pytest.approx(25.0)


def test_ollama_holds_three_models_at_most():
    world = trace([model(name, 1) for name in "abcd"], in_turn(*"abcd", run_seconds=1.0))
    assert starts("ollama", world)[3] == pytest.approx(5.03 + 1.0 + 5.0 - 0.03 + 0.97, abs=0.1)
    assert starts("byte-lru", world)[3] == pytest.approx(5.03)


def test_ollamas_queue_blocks_on_its_head():
    """b waits for a to end though c would fit beside a; LRU also lets only the head load. Parallel does not."""
    world = trace([model("a", 6), model("b", 8), model("c", 2)], in_turn("a", "b", "c"))
    assert starts("ollama", world)[2] > 15.0
    assert starts("parallel", world)[2] == pytest.approx(5.02)


def test_ollama_lets_a_model_go_after_five_idle_minutes():
    world = trace([model("a", 4)], [ask(0, "a", 0.0, 1.0), ask(1, "a", 200.0, 1.0), ask(2, "a", 600.0, 1.0)])
    assert simulate(world, POLICIES["ollama"]).tally.loads == 2
    assert simulate(world, POLICIES["byte-lru"]).tally.loads == 1


def test_requests_for_a_loaded_model_pass_those_that_wait_for_another():
    world = trace([model("a", 8), model("b", 8)], in_turn("a", "b", "a", "a"))
    for policy in ("ollama", "byte-lru", "parallel", "llama-swap-group"):
        assert "".join(order_of_starts(policy, world)) == "aaab", policy
    assert "".join(order_of_starts("fifo", world)) == "abaa"


def test_byte_lru_evicts_no_more_than_it_must():
    """d needs 4 GB: the oldest (a) is enough, b and c stay."""
    models = [model("a", 4), model("b", 3), model("c", 3), model("d", 4)]
    asks = [ask(n, name, 10.0 * n, 1.0) for n, name in enumerate("abcdbc")]
    assert simulate(trace(models, asks), POLICIES["byte-lru"]).tally.loads == 4


def test_parallel_pushes_out_idle_models_even_where_that_is_not_enough():
    """b (8 GB) cannot come in beside a at work, but the idle c is gone all the same and has to come back."""
    models = [model("a", 5), model("b", 8), model("c", 2)]
    asks = [ask(0, "c", 0.0, 1.0), ask(1, "a", 0.0, 60.0), ask(2, "b", 20.0), ask(3, "c", 30.0)]
    assert starts("parallel", trace(models, asks))[3] == pytest.approx(35.0)
    assert starts("byte-lru", trace(models, asks))[3] == pytest.approx(30.0)


def test_every_policy_says_that_it_is_re_implemented():
    assert all("re-implemented" in one.about for name, one in POLICIES.items() if "studium" not in name)
