"""Strategies at work on a simulated machine: whom a question asks next may depend on who is in memory just then.

`studium.fleet.simulate` runs asks that a trace lays down. Here a trace lays down everything that could be asked,
and the very generators that serve questions say, as answers come in, which of it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from studium.fleet.simulate.machine import Machine
from studium.fleet.simulate.policy import Named
from studium.fleet.simulate.run import virtual_limit_s
from studium.fleet.simulate.workloads import MEMORY_GB, model
from studium.fleet.simulate.world import GB, Trace, VirtualAsk, VirtualDevice
from studium.fleet.situation import TenantState
from studium.records.answers import Fate, MemberReply
from studium.records.models import Capabilities, Student
from studium.records.scheduling import Priority
from studium.serve.calls import Batch, Outlook, Strategy, Verdict

RATES_PER_S = (0.02, 0.01)
RUN_SECONDS = 6.0
Begin = Callable[[int, Outlook], Strategy]
Said = Callable[[int, str], MemberReply]


def lay_down(
    names: Sequence[str], sizes_gb: Sequence[float], questions: int, seed: int, rate_per_s: float
) -> Trace:
    """Return questions as they arrive (Poisson), each with every student it could ask; 6 s each, log-normal."""
    random = Random(f"questions {seed}")
    models = {name: model(name, size) for name, size in zip(names, sizes_gb, strict=True)}
    asks: list[VirtualAsk] = []
    at_s = 0.0
    for _ in range(questions):
        at_s += random.expovariate(rate_per_s)
        for name in names:
            seconds = RUN_SECONDS * random.lognormvariate(-0.125, 0.5)
            asks.append(VirtualAsk(len(asks), name, Priority.INTERACTIVE, at_s, seconds))
    return Trace("questions", [VirtualDevice("memory", round(MEMORY_GB * GB))], models, asks)


@dataclass(slots=True)
class Asked:
    """One question on its way: `asked` by name with the replies that have come, and the verdict once there is one."""

    at_s: float
    strategy: Strategy
    batch: Batch = field(default_factory=lambda: Batch(()))
    asked: dict[str, MemberReply | None] = field(default_factory=dict[str, MemberReply | None])
    verdict: Verdict | None = None
    ended_s: float = 0.0

    @property
    def got(self) -> list[MemberReply]:
        replies = [self.asked[call.student.name] for call in self.batch.calls]
        return [reply for reply in replies if reply is not None]


class AskingMachine(Machine):
    """A machine whose asks come from strategies. Asks not needed any more are withdrawn while they wait."""

    def __init__(self, trace: Trace, begin: Begin, said: Said) -> None:
        super().__init__(trace)
        self.questions: list[Asked] = []
        self._names = list(trace.models)
        self._begin, self._said = begin, said

    def _issue(self, number: int) -> None:
        question, place = divmod(number, len(self._names))
        if place:
            return  # the first of a question's possible asks stands for its arrival
        one = Asked(self.now, self._begin(question, Present(self)))
        self.questions.append(one)
        self._go_on(question, one, None)

    def _end(self, number: int, device: str) -> None:
        super()._end(number, device)
        question, place = divmod(number, len(self._names))
        one = self.questions[question]
        if one.verdict is not None:
            return
        name = self._names[place]
        one.asked[name] = self._said(question, name)
        if len(one.got) == len(one.batch.calls) or one.batch.settled(one.got):
            self._withdraw(question, one)
            self._go_on(question, one, [self._reply(one, call.student.name) for call in one.batch.calls])

    def _go_on(self, question: int, one: Asked, replies: Sequence[MemberReply] | None) -> None:
        try:
            one.batch = next(one.strategy) if replies is None else one.strategy.send(replies)
        except StopIteration as stopped:
            one.verdict, one.ended_s = stopped.value, self.now
            self._open -= len(self._names) - len(one.asked)  # those that will never be asked
            return
        for call in one.batch.calls:
            one.asked[call.student.name] = None
            super()._issue(self._number(question, call.student.name))

    def _withdraw(self, question: int, one: Asked) -> None:
        for call in one.batch.calls:
            number = self._number(question, call.student.name)
            if self.waiting.pop(number, None) is not None:
                del one.asked[call.student.name]

    def _reply(self, one: Asked, name: str) -> MemberReply:
        return one.asked.get(name) or MemberReply(name, Fate.NOT_NEEDED)

    def _number(self, question: int, name: str) -> int:
        return question * len(self._names) + self._names.index(name)


class Present:
    """What a strategy may know of the machine: what a fleet would tell it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def seconds_to_answer(self, student: Student) -> float:
        """Return a load, where one is needed, everybody who is before in the queue, and the answer itself."""
        machine, name = self._machine, student.name
        home = machine.residents.get(name)
        before = sum(one.ask.model == name for one in machine.waiting.values())
        before += len(home.running) if home else 0
        return self.seconds_to_load(student) + RUN_SECONDS * (before + 1)

    def seconds_to_load(self, student: Student) -> float:
        machine, name = self._machine, student.name
        wanted = machine.trace.models[name]
        home = machine.residents.get(name)
        if home is not None and home.state is TenantState.RESIDENT:
            return 0.0
        if home is not None and home.state is TenantState.LOADING:
            return max(0.0, home.used_s + wanted.load_seconds - machine.now)
        fits = any(wanted.bytes <= machine.free_bytes(device) for device in machine.devices)
        return wanted.load_seconds + (0.0 if fits else wanted.unload_seconds)

    def fit_together(self, students: Sequence[Student]) -> bool:
        needed = sum(self._machine.trace.models[name].bytes for name in {one.name for one in students})
        return needed <= max(device.budget_bytes for device in self._machine.devices.values())

    def seconds_left(self) -> float:
        return 3_600.0

    def capabilities(self, student: Student) -> Capabilities:
        return Capabilities(manages_memory=True)


def work(trace: Trace, policy: Named, begin: Begin, said: Said, *, seed: int = 0) -> AskingMachine:
    """Let `policy` house the models until every question has its verdict; return the machine as it is then."""
    machine = AskingMachine(trace, begin, said)
    mind = policy.make(machine, seed)
    limit_s = virtual_limit_s(trace)
    while not machine.finished:
        again = mind.look_again_s(machine) if machine.issued else None
        events = (machine.next_event(), None if again is None else machine.now + again)
        moments = [one for one in events if one is not None]
        if not moments or min(moments) > limit_s:
            raise RuntimeError(f"{policy.name} leaves questions unanswered at {machine.now:.0f} s")
        machine.advance(min(moments))
        mind.step(machine)
    return machine


def play(strategy: Strategy, said: Mapping[str, MemberReply]) -> tuple[Verdict, list[str]]:
    """Run a strategy on what students said, one call after the other; return its verdict and who was asked."""
    asked: list[str] = []
    try:
        batch = next(strategy)
        while True:
            got: list[MemberReply] = []
            for call in batch.calls:
                if got and batch.settled(got):
                    break
                asked.append(call.student.name)
                got.append(said[call.student.name])
            rest = [MemberReply(one.student.name, Fate.NOT_NEEDED) for one in batch.calls[len(got) :]]
            batch = strategy.send([*got, *rest])
    except StopIteration as stopped:
        return stopped.value, asked
