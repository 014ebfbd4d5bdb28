"""Least recently used, aware of bytes: evict idle models, longest unused first, until the next one fits.

What most servers with a memory ceiling describe (LocalAI's is LRU by count with an optional ceiling).
An ask whose model is resident runs at once; the models others want are fetched in the order of their
first ask, and the first that cannot be placed keeps the rest from taking what it waits for.
"""

from studium.fleet.simulate.machine import Machine
from studium.fleet.simulate.policy import least_recently_used, load_where_it_fits, refuse_hopeless, seat_all


class ByteLru:
    def step(self, machine: Machine) -> None:
        refuse_hopeless(machine)
        seat_all(machine)
        for model in machine.wanted():
            if not load_where_it_fits(machine, model):
                make_room(machine, machine.trace.models[model].bytes)
                return

    def look_again_s(self, machine: Machine) -> float | None:
        return None


def make_room(machine: Machine, need_bytes: int) -> bool:
    """Evict idle models, least recently used first, if that makes room on some device; whether it does."""
    for device in machine.devices:
        coming = machine.free_bytes(device) + machine.returning_bytes(device)
        victims: list[str] = []
        for home in least_recently_used(one for one in machine.on(device) if one.idle):
            if coming >= need_bytes:
                break
            coming += home.model.bytes
            victims.append(home.model.name)
        if coming >= need_bytes:
            for victim in victims:
                machine.evict(victim)
            return True
    return False
