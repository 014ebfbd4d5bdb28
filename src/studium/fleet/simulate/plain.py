"""Three plain ways to share memory, as most programs do it: by recency, in strict order, and without a queue."""

from studium.fleet.simulate.machine import Machine
from studium.fleet.simulate.policy import (
    Policy,
    least_recently_used,
    load_where_it_fits,
    refuse_hopeless,
    seat_all,
)


class ByteLru(Policy):
    """Least recently used, aware of bytes: evict idle models, longest unused first, until the next one fits.

    What most servers with a memory ceiling describe (LocalAI's is LRU by count with an optional ceiling).
    An ask whose model is resident runs at once; the models others want are fetched in the order of their
    first ask, and the first that cannot be placed keeps the rest from taking what it waits for.
    """

    def step(self, machine: Machine) -> None:
        refuse_hopeless(machine)
        seat_all(machine)
        for model in machine.wanted():
            if not load_where_it_fits(machine, model):
                make_room(machine, machine.trace.models[model].bytes)
                return


class Fifo(Policy):
    """First in, first out: asks start strictly in the order they came.

    The plainest queue: whoever is in front and cannot start yet holds up everybody, also those whose model is
    in memory. Room is made as in `ByteLru`.
    """

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


class Parallel(Policy):
    """No scheduler: everybody asks at once, and every ask fetches its model as soon as it can.

    Our description of programs that call `load(model)` from many threads over a shared cache: each ask for a
    model that is not in memory pushes out idle models, least recently used first, whether or not that will be
    enough, and takes room as soon as there is any. Nobody queues, so whoever needs least is served first.
    Simplified: models are not pushed out at work, which such programs do not always guarantee.
    """

    def step(self, machine: Machine) -> None:
        refuse_hopeless(machine)
        seat_all(machine)
        for model in machine.wanted():
            if not load_where_it_fits(machine, model):
                self._push_out(machine, machine.trace.models[model].bytes)

    def _push_out(self, machine: Machine, need_bytes: int) -> None:
        for device in machine.devices.values():
            if device.budget_bytes < need_bytes:
                continue
            for home in least_recently_used(one for one in machine.on(device.name) if one.idle):
                if machine.free_bytes(device.name) + machine.returning_bytes(device.name) >= need_bytes:
                    return
                machine.evict(home.model.name)


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
