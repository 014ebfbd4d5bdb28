"""Synthetic traces, made from a seed. Sizes and timings are invented: 11 GB, load 1.5 s + GB / 1.2, 1 s to
give memory back; models that generate at once do not slow each other (contention 0) but where a name ends in
"shared". What differs is said at each workload; every number is an argument or stands there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import exp
from random import Random

from studium.fleet.simulate.world import GB, Trace, VirtualAsk, VirtualDevice, VirtualModel
from studium.records.scheduling import Priority

MEMORY_GB = 11.0
ZIPF_SIZES_GB = (4.1, 2.0, 5.5, 3.3, 8.0, 4.7, 1.6, 4.4)
STUDENT_SIZES_GB = (4.1, 4.4, 4.7, 4.0, 5.0, 4.2)
HOUR_S = 3_600.0


def model(name: str, size_gb: float, *, preemptible: bool = False) -> VirtualModel:
    """Return a model with the invented timings."""
    return VirtualModel(name, round(size_gb * GB), 1.5 + size_gb / 1.2, 1.0, 1, preemptible)


def zipf(seed: int, *, rate_per_s: float, name: str) -> Trace:
    """An hour of interactive asks (Poisson) for eight models of 1.6 to 8 GB, popularity 1 / rank; 8 s each."""
    random = Random(f"zipf {rate_per_s} {seed}")
    models = [model(f"model-{n}", size) for n, size in enumerate(ZIPF_SIZES_GB)]
    ranked = random.sample(models, len(models))
    asks: list[VirtualAsk] = []
    for at in _poisson(random, rate_per_s, HOUR_S):
        chosen = random.choices(ranked, [1 / rank for rank in range(1, len(ranked) + 1)])[0]
        asks.append(_ask(len(asks), chosen, at, _seconds(random, 8.0)))
    return _trace(name, models, asks)


def committees(seed: int) -> Trace:
    """An hour of questions (Poisson, 0.02/s), each asked of the same five 4-5 GB students at once; 6 s each."""
    random = Random(f"committees {seed}")
    students = [model(f"student-{n}", size) for n, size in enumerate(STUDENT_SIZES_GB[:5])]
    asks: list[VirtualAsk] = []
    for at in _poisson(random, 0.02, HOUR_S):
        for student in students:
            asks.append(_ask(len(asks), student, at, _seconds(random, 6.0)))
    return _trace("committees", students, asks)


def cascade(seed: int) -> Trace:
    """Committees of four asked one after the other (0.015/s) until two to four have answered, as often each.

    A question knows its members, not who will still be needed: the third is announced with two thirds, the
    fourth with one third, and those who are not needed never come.
    """
    random = Random(f"cascade {seed}")
    students = [model(f"student-{n}", size) for n, size in enumerate(STUDENT_SIZES_GB[:5])]
    asks: list[VirtualAsk] = []
    for at in _poisson(random, 0.015, HOUR_S):
        members = random.sample(students, 4)
        needed = random.randint(2, 4)
        for place, chance in enumerate((0.0, 1.0, 2 / 3, 1 / 3)):
            after = (asks[-1].number,) if place else ()
            one = _ask(len(asks), members[place], at, _seconds(random, 6.0), after=after, announced=chance)
            asks.append(replace(one, comes=place < needed))
    return _trace("cascade", students, asks)


def burst(seed: int) -> Trace:
    """Sixty asks within five seconds, for the eight models of `zipf` by popularity; 8 s each."""
    random = Random(f"burst {seed}")
    models = [model(f"model-{n}", size) for n, size in enumerate(ZIPF_SIZES_GB)]
    weights = [1 / rank for rank in range(1, len(models) + 1)]
    times = sorted(random.uniform(0.0, 5.0) for _ in range(60))
    ranked = random.sample(models, len(models))
    return _trace(
        "burst",
        models,
        [
            _ask(n, random.choices(ranked, weights)[0], at, _seconds(random, 8.0))
            for n, at in enumerate(times)
        ],
    )


def two_devices(seed: int) -> Trace:
    """The asks of `zipf` at 0.16/s on two devices, of 11 and of 8 GB."""
    one = zipf(seed, rate_per_s=0.16, name="two-devices")
    return replace(one, devices=[*one.devices, VirtualDevice("second", 8 * GB)])


def shared(make: Callable[[int], Trace], seed: int) -> Trace:
    """Another workload on a device whose models, when they generate at once, fully share its pace."""
    one = make(seed)
    return replace(one, name=f"{one.name}-shared", contention=1.0)


def hog(seed: int, *, load: float) -> Trace:
    """An 8 GB model that is at work `load` of the time (3 s asks), and two of 4 GB asked every 600 s each.

    Neither of the two fits beside it, and each of their turns costs the hog some 15 s of swapping: at 88 %
    it nearly keeps up, at 112 % its queue grows without end. An hour.
    """
    random = Random(f"hog {load} {seed}")
    hungry, seldom = model("hog", 8.0), [model(f"seldom-{n}", 4.0) for n in range(2)]
    calls = [(at, hungry, _seconds(random, 3.0)) for at in _poisson(random, load / 3.0, HOUR_S)]
    for one in seldom:
        calls += [(at, one, _seconds(random, 3.0)) for at in _poisson(random, 1 / 600.0, HOUR_S)]
    calls.sort(key=lambda call: call[0])
    asks = [_ask(n, which, at, seconds) for n, (at, which, seconds) in enumerate(calls)]
    return _trace(f"hog-{load * 100:.0f}", [hungry, *seldom], asks)


def session(seed: int) -> Trace:
    """Forty cycles, about two hours: six 4-5 GB students one after the other, 24 s each, order known."""
    random = Random(f"session {seed}")
    students = [model(f"student-{n}", size) for n, size in enumerate(STUDENT_SIZES_GB)]
    asks: list[VirtualAsk] = []
    for _cycle in range(40):
        for student in students:
            after = (asks[-1].number,) if asks else ()
            asks.append(
                _ask(
                    len(asks),
                    student,
                    0.0,
                    _seconds(random, 24.0),
                    Priority.SESSION,
                    after=after,
                    announced=float(bool(after)),
                )
            )
    return _trace("session", students, asks)


def mixed_day(seed: int) -> Trace:
    """Two hours: interactive asks (0.02/s, five models) over a campaign (200 asks, there from the start, three
    models) over training (6 GB, segments of 150 s, each asked for when the former ended, preemptible).

    Peers do not push out at work, so a segment is an ask like any other to them, and they know no classes,
    but llama-swap's queue is told which models are asked for interactively.
    """
    random = Random(f"mixed day {seed}")
    chats = [model(f"chat-{n}", size) for n, size in enumerate((4.1, 2.0, 3.3, 5.0, 1.6))]
    batch = [model("batch-0", 4.4), model("batch-1", 2.7), chats[0]]
    training = model("training", 6.0, preemptible=True)
    asks: list[VirtualAsk] = []
    for _ in range(200):
        asks.append(_ask(len(asks), random.choice(batch), 0.0, _seconds(random, 10.0), Priority.CAMPAIGN))
    former: tuple[int, ...] = ()
    for _ in range(12):
        asks.append(_ask(len(asks), training, 0.0, 150.0, Priority.TRAINING, after=former))
        former = (asks[-1].number,)
    for at in _poisson(random, 0.02, 2 * HOUR_S):
        chosen = random.choices(chats, [5, 4, 3, 2, 1])[0]
        asks.append(_ask(len(asks), chosen, at, _seconds(random, 6.0)))
    return _trace("mixed-day", list({one.name: one for one in [*chats, *batch, training]}.values()), asks)


def small(seed: int) -> Trace:
    """Seven independent asks for three models of 2 to 8 GB within 30 s: small enough for the exact optimum."""
    random = Random(f"small {seed}")
    models = [model(f"model-{n}", random.choice((2.0, 3.3, 4.1, 5.5, 8.0))) for n in range(3)]
    times = sorted(random.uniform(0.0, 30.0) for _ in range(7))
    asks = [_ask(n, random.choice(models), at, _seconds(random, 8.0)) for n, at in enumerate(times)]
    return _trace("small", models, asks)


WORKLOADS: Mapping[str, Callable[[int], Trace]] = {
    "zipf-low": lambda seed: zipf(seed, rate_per_s=0.05, name="zipf-low"),
    "zipf-high": lambda seed: zipf(seed, rate_per_s=0.09, name="zipf-high"),
    "committees": committees,
    "cascade": cascade,
    "burst": burst,
    "hog-88": lambda seed: hog(seed, load=0.88),
    "hog-112": lambda seed: hog(seed, load=1.12),
    "session": session,
    "mixed-day": mixed_day,
    "committees-shared": lambda seed: shared(committees, seed),
    "burst-shared": lambda seed: shared(burst, seed),
    "two-devices": two_devices,
}


def _poisson(random: Random, rate_per_s: float, until_s: float) -> Iterator[float]:
    at = random.expovariate(rate_per_s)
    while at < until_s:
        yield at
        at += random.expovariate(rate_per_s)


def _seconds(random: Random, mean: float) -> float:
    """Log-normal seconds with this mean and sigma 0.5: most answers are short, a few are long."""
    return mean * exp(random.gauss(-0.125, 0.5))


def _ask(
    number: int,
    which: VirtualModel,
    at_s: float,
    run_seconds: float,
    priority: Priority = Priority.INTERACTIVE,
    *,
    after: tuple[int, ...] = (),
    announced: float = 0.0,
) -> VirtualAsk:
    return VirtualAsk(number, which.name, priority, at_s, run_seconds, after=after, announced=announced)


def _trace(name: str, models: Sequence[VirtualModel], asks: Sequence[VirtualAsk]) -> Trace:
    devices = [VirtualDevice("memory", round(MEMORY_GB * GB))]
    return Trace(name, devices, {one.name: one for one in models}, asks)
