"""What a policy is, and the parts that simple ones share. Each peer has a file of its own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from studium.fleet.simulate.machine import Machine, Resident
from studium.fleet.simulate.world import Trace


class Policy(Protocol):
    """Decides what a machine does next. It sees the machine's present and past, never the trace's future."""

    def step(self, machine: Machine) -> None:
        """Do what is to be done now; called whenever something happened."""
        ...

    def look_again_s(self, machine: Machine) -> float | None:
        """Return after how many seconds to be asked again although nothing happens; None: not at all."""
        return None


@dataclass(frozen=True, slots=True)
class Named:
    """A policy by name: where its rules come from and what was left out; `make` is told the seed."""

    name: str
    about: str
    make: Callable[[Machine, int], Policy]
    most_devices: int | None = None

    def suits(self, trace: Trace) -> bool:
        """Whether its rules say what to do on so many devices."""
        return self.most_devices is None or len(trace.devices) <= self.most_devices


def refuse_hopeless(machine: Machine) -> None:
    """Turn away asks for models that no device could hold."""
    largest = max(device.budget_bytes for device in machine.devices.values())
    for number, one in list(machine.waiting.items()):
        if machine.trace.models[one.ask.model].bytes > largest:
            machine.refuse(number)


def seat_all(machine: Machine) -> None:
    """Seat whoever finds a free slot, first come first served."""
    for number, one in list(machine.waiting.items()):
        home = machine.residents.get(one.ask.model)
        if home is not None and home.has_free_slot:
            machine.run(number)


def least_recently_used(idle: Iterable[Resident]) -> list[Resident]:
    return sorted(idle, key=lambda one: (one.used_s, one.model.name))


def load_where_it_fits(machine: Machine, model: str) -> bool:
    """Begin to load on the first device with room; False where there is none."""
    for device in machine.devices:
        if machine.trace.models[model].bytes <= machine.free_bytes(device):
            machine.load(model, device)
            return True
    return False
