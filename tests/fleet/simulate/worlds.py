"""Small worlds for tests: by hand, and as hypothesis strategies."""

from collections.abc import Sequence

from hypothesis import strategies as st

from studium.fleet.simulate.world import GB, Trace, VirtualAsk, VirtualDevice, VirtualModel
from studium.records.scheduling import Priority

BUDGET = 11 * GB


def model(
    name: str, size_gb: float, *, load: float = 5.0, unload: float = 1.0, slots: int = 1
) -> VirtualModel:
    return VirtualModel(name, round(size_gb * GB), load, unload, slots)


def ask(
    number: int,
    name: str,
    at_s: float,
    run_seconds: float = 10.0,
    priority: Priority = Priority.INTERACTIVE,
    **more: object,
) -> VirtualAsk:
    return VirtualAsk(number, name, priority, at_s, run_seconds, **more)  # type: ignore[arg-type]


def trace(models: Sequence[VirtualModel], asks: Sequence[VirtualAsk], **more: object) -> Trace:
    devices = more.pop("devices", None) or [VirtualDevice("memory", BUDGET)]
    return Trace("test", devices, {one.name: one for one in models}, asks, **more)  # type: ignore[arg-type]


@st.composite
def traces(
    draw: st.DrawFn,
    *,
    most_asks: int = 25,
    dependent: bool = True,
    classes: bool = True,
    preemptible: bool = True,
    contention: bool = True,
    too_large: bool = True,
    dropped: bool = True,
) -> Trace:
    """Worlds of up to five models of 1 to 11 GB (and one that never fits), asks in bunches and far apart."""
    sizes = draw(st.lists(st.integers(1, 11), min_size=1, max_size=5))
    models = [
        VirtualModel(
            f"m{n}",
            size * GB,
            draw(st.sampled_from([0.0, 0.02, 2.0, 7.0])),
            draw(st.sampled_from([0.0, 1.0, 3.0])),
            draw(st.integers(1, 3)),
            preemptible and draw(st.integers(0, 4)) == 0,
        )
        for n, size in enumerate(sizes)
    ]
    if too_large and draw(st.booleans()):
        models.append(VirtualModel("giant", 12 * GB, 5.0, 1.0))
    asks: list[VirtualAsk] = []
    at = 0.0
    for number in range(draw(st.integers(1, most_asks))):
        at += draw(st.sampled_from([0.0, 0.0, 0.25, 3.0, 40.0]))
        after = draw(st.sets(st.integers(0, number - 1), max_size=2)) if dependent and number else set[int]()
        asks.append(
            VirtualAsk(
                number,
                draw(st.sampled_from(models)).name,
                draw(st.sampled_from(Priority)) if classes else Priority.INTERACTIVE,
                at,
                draw(st.sampled_from([0.0, 0.5, 4.0, 20.0])),
                after=tuple(sorted(after)),
                announced=draw(st.sampled_from([0.0, 0.7, 1.0])) if after else 0.0,
                comes=not after or not dropped or draw(st.integers(0, 5)) > 0,
            )
        )
    share = draw(st.sampled_from([0.0, 0.4, 1.0])) if contention else 0.0
    return Trace("drawn", [VirtualDevice("memory", BUDGET)], {m.name: m for m in models}, asks, share)
