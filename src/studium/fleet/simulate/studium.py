"""Studium's own planner on the simulated machine: the very same `plan`, given what residency would give it.

Forecasts of an ask's seconds are the mean of its model's asks times noise (log-normal, sigma NOISE), never
the truth. Coming asks are told only where whoever asks honestly knows them (`VirtualAsk.announced`): those
that follow on asks already issued, HORIZON deep. Without hints, nothing is told.
"""

from collections.abc import Iterator
from itertools import islice
from math import exp
from random import Random

from studium.fleet.demand import Demand
from studium.fleet.outlook import WORTH_LOADING_AHEAD_S
from studium.fleet.plan import plan
from studium.fleet.residency import LOOK_AGAIN_S
from studium.fleet.simulate.machine import Issued, Machine, Resident
from studium.fleet.simulate.world import VirtualAsk
from studium.fleet.situation import (
    Abandon,
    Device,
    Evict,
    Expected,
    Load,
    Place,
    Refuse,
    Rules,
    Run,
    Situation,
    Tenant,
    TenantState,
    Waiting,
)
from studium.records.scheduling import Priority

NOISE = 0.3
HORIZON = 6


class Studium:
    """Fills in a `Situation`, asks `plan`, performs its moves."""

    def __init__(self, machine: Machine, seed: int, *, hints: bool, rules: Rules | None = None) -> None:
        self._hints = hints and machine.trace.announces
        self._rules = rules or Rules()
        self._demand = Demand()
        self._seen = 0
        self._something_to_load_ahead = False
        self._served_at: dict[Priority, float] = {}
        noise = Random(f"forecast {seed}")
        means = machine.trace.mean_run_seconds
        self._forecast = {
            ask.number: means.get(ask.model, ask.run_seconds) * exp(noise.gauss(0.0, NOISE))
            for ask in machine.trace.asks
        }
        self._places = {
            name: tuple(
                Place(device.name, model.bytes, model.load_seconds, model.unload_seconds, device.slowdown)
                for device in machine.devices.values()
            )
            for name, model in machine.trace.models.items()
        }
        self._devices = [Device(one.name, one.budget_bytes) for one in machine.devices.values()]

    def step(self, machine: Machine) -> None:
        """Do one round of residency's loop."""
        for number in islice(machine.issued, self._seen, None):
            self._demand.asked(machine.issued[number].ask.model, machine.now)
        self._seen = len(machine.issued)
        expected = list(self._expected(machine)) if self._hints else []
        self._something_to_load_ahead = any(one.model not in machine.residents for one in expected)
        loading = any(one.state is TenantState.LOADING for one in machine.residents.values())
        if not (machine.waiting or loading or self._something_to_load_ahead):
            return
        for move in plan(self.situation(machine, expected)):
            match move:
                case Run(number):
                    self._served_at[machine.waiting[number].ask.priority] = machine.now
                    machine.run(number)
                case Load(model, device):
                    machine.load(model, device)
                case Evict(model):
                    machine.evict(model)
                case Abandon(model):
                    machine.abandon(model)
                case Refuse(number):
                    machine.refuse(number)

    def look_again_s(self, machine: Machine) -> float | None:
        return LOOK_AGAIN_S if machine.waiting or self._something_to_load_ahead else None

    def situation(self, machine: Machine, expected: list[Expected]) -> Situation:
        """Return what `plan` may know of the machine now."""
        wanted = {one.ask.model for one in machine.waiting.values()} | {one.model for one in expected}
        return Situation(
            waiting=[self._waiting(one, machine.now) for one in machine.waiting.values()],
            tenants=[self._tenant(one, machine) for one in machine.residents.values()],
            places={model: self._places[model] for model in wanted},
            devices=self._devices,
            rules=self._rules,
            expected=expected,
            served_s_ago={priority: machine.now - at for priority, at in self._served_at.items()},
            away_s={model: machine.now - at for model, at in machine.left_s.items() if model in wanted},
        )

    def _waiting(self, one: Issued, now: float) -> Waiting:
        ask = one.ask
        forecast = self._forecast[ask.number]
        if one.left_seconds < ask.run_seconds:  # it was pushed out at work
            forecast = max(0.1, forecast - (ask.run_seconds - one.left_seconds))
        left = None if ask.deadline_s is None else ask.deadline_s - (now - one.issued_s)
        return Waiting(ask.number, ask.model, ask.priority, now - one.waiting_since_s, forecast, left)

    def _tenant(self, home: Resident, machine: Machine) -> Tenant:
        model, now = home.model, machine.now
        slowdown = machine.devices[home.device].slowdown
        return Tenant(
            model=model.name,
            state=home.state,
            bytes=model.bytes,
            slots=model.slots,
            in_flight=len(home.running),
            idle_s=0.0 if home.running else now - home.used_s,
            load_seconds=model.load_seconds,
            device=home.device,
            unload_seconds=model.unload_seconds,
            resident_s=0.0 if home.state is TenantState.LOADING else now - home.loaded_s,
            busy_s=max((self._left_s(one, now, slowdown) for one in home.running.values()), default=0.0),
            uses_per_second=self._demand.rate(model.name, now),
            priority=max((one.ask.priority for one in home.running.values()), default=Priority.INTERACTIVE),
            preemptible=model.preemptible,
        )

    def _left_s(self, one: Issued, now: float, slowdown: float) -> float:
        """Forecast how long an ask in flight still takes."""
        done_s = one.ask.run_seconds - one.left_seconds  # before it was last seated
        return max(0.0, (self._forecast[one.ask.number] - done_s) * slowdown - (now - one.seated_s))

    def _expected(self, machine: Machine) -> Iterator[Expected]:
        """Return the announced asks that follow on what is under way, with when they may come."""
        now = machine.now
        ends = {number: now + self._forecast[number] for number in machine.waiting}
        for home in machine.residents.values():
            slowdown = machine.devices[home.device].slowdown
            ends |= {number: now + self._left_s(one, now, slowdown) for number, one in home.running.items()}
        front = list(ends)
        for _ in range(HORIZON):
            coming: dict[int, VirtualAsk] = {}
            for number in front:
                for ask in machine.trace.followers.get(number, ()):
                    if ask.announced > 0 and self._is_near(machine, ask, ends):
                        coming[ask.number] = ask
            for ask in coming.values():
                at = max([ask.at_s, now, *(ends[before] for before in ask.after if before in ends)])
                ends[ask.number] = at + self._forecast[ask.number]
                resident = ask.model in machine.residents
                if resident or machine.trace.models[ask.model].load_seconds >= WORTH_LOADING_AHEAD_S:
                    yield Expected(ask.model, at - now, ask.announced)
            front = list(coming)

    def _is_near(self, machine: Machine, ask: VirtualAsk, ends: dict[int, float]) -> bool:
        """Whether all it comes after is under way, foreseen or over."""
        return ask.number not in ends and all(
            before in ends or (before in machine.issued and machine.issued[before].ended_s is not None)
            for before in ask.after
        )
