"""Runs a policy over a trace on the virtual clock."""

from collections.abc import Iterable, Sequence

from studium.errors import StudiumBug
from studium.fleet.simulate.machine import Machine
from studium.fleet.simulate.measures import Outcome
from studium.fleet.simulate.policies import POLICIES
from studium.fleet.simulate.policy import Named
from studium.fleet.simulate.world import Trace

# How many times as long as everything one after the other, each with a load of its own, a run may take.
PATIENCE = 4.0
SLACK_S = 600.0
# Loads and runs may take no time, so a moment may have many steps; a policy that goes in circles has no end.
STEPS_IN_A_MOMENT = 1_000


def simulate(trace: Trace, policy: Named, *, seed: int = 0) -> Outcome:
    """Run `policy` over `trace` until every ask was served or refused; the same seed gives the same run.

    Raises StudiumBug when the policy makes a move no machine could make, or leaves asks waiting for ever.
    """
    machine = Machine(trace)
    mind = policy.make(machine, seed)
    limit_s = virtual_limit_s(trace)
    steps_left = STEPS_IN_A_MOMENT
    while not machine.finished:
        event_s = machine.next_event()
        again = mind.look_again_s(machine) if machine.issued else None
        moments = [
            one for one in (event_s, None if again is None else machine.now + again) if one is not None
        ]
        steps_left = steps_left - 1 if moments and min(moments) <= machine.now else STEPS_IN_A_MOMENT
        if not moments or min(moments) > limit_s or not steps_left:
            raise _stuck(machine, policy.name)
        machine.advance(min(moments))
        mind.step(machine)
    return Outcome(policy.name, trace.name, seed, list(machine.issued.values()), machine.tally)


def replay(
    trace: Trace, policies: Iterable[Named] | None = None, *, seeds: Sequence[int] = (0,)
) -> list[Outcome]:
    """Run each of `policies` over `trace`, once per seed, and return the outcomes in order.

    By default all whose rules suit the trace: llama-swap's are for one device. See `tabulate` for a table.
    """
    chosen = [one for one in POLICIES.values() if one.suits(trace)] if policies is None else list(policies)
    return [simulate(trace, policy, seed=seed) for policy in chosen for seed in seeds]


def virtual_limit_s(trace: Trace) -> float:
    """Return the second by which any policy that never stops working is done, generously."""
    slowest = max(device.slowdown for device in trace.devices)
    turns = sum(
        ask.run_seconds * slowest
        + trace.models[ask.model].load_seconds
        + sum(model.unload_seconds for model in trace.models.values())
        for ask in trace.asks
    )
    last = max((ask.at_s for ask in trace.asks), default=0.0)
    return last + PATIENCE * turns * (1.0 + trace.contention * len(trace.models)) + SLACK_S


def _stuck(machine: Machine, policy: str) -> StudiumBug:
    waiting = ", ".join(f"{one.ask.number} ({one.ask.model})" for one in list(machine.waiting.values())[:5])
    return StudiumBug(
        f"{policy} leaves asks of {machine.trace.name} waiting at {machine.now:.1f} s: {waiting or 'none issued'}",
        expected="every ask served or refused within the limit of virtual time",
        try_next="report this with the trace and the policy's name",
    )
