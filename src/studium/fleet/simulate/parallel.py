"""No scheduler: everybody asks at once, and every ask fetches its model as soon as it can.

Our description of programs that call `load(model)` from many threads over a shared cache: each ask for a
model that is not in memory pushes out idle models, least recently used first, whether or not that will be
enough, and takes room as soon as there is any. Nobody queues, so whoever needs least is served first.
Simplified: models are not pushed out at work, which such programs do not always guarantee.
"""

from studium.fleet.simulate.machine import Machine
from studium.fleet.simulate.policy import least_recently_used, load_where_it_fits, refuse_hopeless, seat_all


class Parallel:
    def step(self, machine: Machine) -> None:
        refuse_hopeless(machine)
        seat_all(machine)
        for model in machine.wanted():
            if not load_where_it_fits(machine, model):
                self._push_out(machine, machine.trace.models[model].bytes)

    def look_again_s(self, machine: Machine) -> float | None:
        return None

    def _push_out(self, machine: Machine, need_bytes: int) -> None:
        for device in machine.devices.values():
            if device.budget_bytes < need_bytes:
                continue
            for home in least_recently_used(one for one in machine.on(device.name) if one.idle):
                if machine.free_bytes(device.name) + machine.returning_bytes(device.name) >= need_bytes:
                    return
                machine.evict(home.model.name)
