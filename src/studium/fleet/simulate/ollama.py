"""Ollama's scheduler, from its source as of August 2026 (server/sched.go), re-implemented.

A request for a loaded model goes straight to it. The others stand in one queue that blocks on its head:
a model is loaded beside others if its prediction is at most 80 % of free memory and fewer than three are
there; else one victim leaves, the first idle one sorted by keep-alive and then path, and once its memory
is back the head is looked at again. If nobody is idle, the first of that order is told to leave as soon
as it is. A model unused for five minutes leaves.

Simplified: every model has the same keep-alive, so its name decides; a model too large for the 80 % is
loaded once it is alone (Ollama would put layers on the processor); waiting for memory to come back
(0.5 to 1.5 s there) takes the world's unload seconds; a context is never reduced.
"""

from studium.fleet.simulate.machine import Machine, Resident
from studium.fleet.simulate.policy import refuse_hopeless, seat_all
from studium.fleet.situation import TenantState

MOST_OF_FREE_MEMORY = 0.8
MOST_MODELS_PER_DEVICE = 3
KEEP_ALIVE_S = 300.0


class Ollama:
    def __init__(self) -> None:
        self._expiring: set[str] = set()

    def step(self, machine: Machine) -> None:
        refuse_hopeless(machine)
        seat_all(machine)
        self._expire(machine)
        while head := next(iter(machine.wanted()), None):
            if any(one.state is TenantState.LEAVING for one in machine.residents.values()):
                return  # it waits for the memory to come back before it looks again
            if not self._load(machine, head):
                self._tell_one_to_leave(machine, head)
                return

    def look_again_s(self, machine: Machine) -> float | None:
        ends = [one.used_s + KEEP_ALIVE_S for one in machine.residents.values() if one.idle]
        return max(0.0, min(ends) - machine.now) if ends else None

    def _expire(self, machine: Machine) -> None:
        for home in list(machine.residents.values()):
            unused = machine.now - home.used_s >= KEEP_ALIVE_S - 1e-6
            if home.idle and (unused or home.model.name in self._expiring):
                self._expiring.discard(home.model.name)
                machine.evict(home.model.name)

    def _load(self, machine: Machine, model: str) -> bool:
        need = machine.trace.models[model].bytes
        for device in machine.devices:
            held = len(list(machine.on(device)))
            free = machine.free_bytes(device)
            roomy = need <= MOST_OF_FREE_MEMORY * free and held < MOST_MODELS_PER_DEVICE
            if roomy or (held == 0 and need <= free):
                machine.load(model, device)
                return True
        return False

    def _tell_one_to_leave(self, machine: Machine, head: str) -> None:
        fitting = {
            d.name for d in machine.devices.values() if d.budget_bytes >= machine.trace.models[head].bytes
        }
        there = [
            one
            for one in machine.residents.values()
            if one.device in fitting and one.state is TenantState.RESIDENT
        ]
        by_path = sorted(there, key=lambda one: one.model.name)
        idle = [one for one in by_path if one.idle]
        if idle:
            self._leave_now(machine, idle[0])
        elif by_path and not self._expiring & {one.model.name for one in by_path}:
            self._expiring.add(by_path[0].model.name)

    def _leave_now(self, machine: Machine, home: Resident) -> None:
        self._expiring.discard(home.model.name)
        machine.evict(home.model.name)
