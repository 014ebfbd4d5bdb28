"""The promised longest wait, kept by the planner on every simulated world."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from tests.fleet.simulate.worlds import traces

from studium.fleet.simulate import simulate
from studium.fleet.simulate.machine import Machine
from studium.fleet.simulate.policy import Named
from studium.fleet.simulate.studium import NOISE, Studium
from studium.fleet.situation import Rules
from studium.fleet.waits import Costs, longest_wait_s
from studium.records.scheduling import Priority

# The simulator hands the planner forecasts with noise; a turn may be that much longer than it is taken to be.
FORECAST_ERROR = 1 + 3 * NOISE


class Promising(Studium):
    """Studium's planner, which writes down what each ask is promised as it comes."""

    def __init__(self, machine: Machine, seed: int, promised: dict[int, float], rules: Rules) -> None:
        super().__init__(machine, seed, hints=False, rules=rules)
        self._promised = promised
        self._limits = rules
        models = machine.trace.models.values()
        self._costs = Costs(
            max(model.load_seconds for model in models),
            max(model.unload_seconds for model in models),
            max((ask.run_seconds for ask in machine.trace.asks), default=0.0) * FORECAST_ERROR,
        )

    def step(self, machine: Machine) -> None:
        for number, one in machine.waiting.items():
            if number not in self._promised:
                ahead = sum(
                    other.ask.priority >= one.ask.priority and before < number
                    for before, other in machine.waiting.items()
                )
                self._promised[number] = longest_wait_s(self._limits, one.ask.priority, ahead, self._costs)
        super().step(machine)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trace=traces(preemptible=False, contention=False))
def test_no_ask_waits_longer_than_it_was_promised(trace: Any):
    promised: dict[int, float] = {}
    rules = Rules(patience_s=2.0, turn_swaps=3.0)
    policy = Named("studium", "for a test", lambda machine, seed: Promising(machine, seed, promised, rules))
    outcome = simulate(trace, policy, seed=1)
    waited = {one.number: one.wait_s for one in outcome.served if not one.refused}
    assert all(seconds <= promised[number] for number, seconds in waited.items())


def test_the_promise_grows_with_the_queue_and_the_lower_class():
    costs, rules = Costs(2.0, 1.0, 3.0), Rules()
    first = longest_wait_s(rules, Priority.INTERACTIVE, 0, costs)
    assert longest_wait_s(rules, Priority.INTERACTIVE, 1, costs) == 2 * first
    assert longest_wait_s(rules, Priority.CAMPAIGN, 0, costs) == first + 30 * rules.patience_s
