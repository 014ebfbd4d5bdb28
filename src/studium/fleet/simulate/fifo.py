"""First in, first out: asks start strictly in the order they came.

The plainest queue: whoever is in front and cannot start yet holds up everybody, also those whose model is
in memory. Room is made as in `byte_lru`.
"""

from studium.fleet.simulate.byte_lru import make_room
from studium.fleet.simulate.machine import Machine
from studium.fleet.simulate.policy import load_where_it_fits, refuse_hopeless


class Fifo:
    def step(self, machine: Machine) -> None:
        refuse_hopeless(machine)
        for number, one in list(machine.waiting.items()):
            home = machine.residents.get(one.ask.model)
            if home is not None:
                if not home.has_free_slot:
                    return
                machine.run(number)
                continue
            if not load_where_it_fits(machine, one.ask.model):
                make_room(machine, machine.trace.models[one.ask.model].bytes)
            return

    def look_again_s(self, machine: Machine) -> float | None:
        return None
