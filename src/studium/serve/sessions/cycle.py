"""The third phase of a cycle: the turns of its plan, as many at once as memory allows, in their order."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from studium.records.sessions import Skip, Turn
from studium.serve.sessions.decide import startable, too_late
from studium.serve.sessions.live import Live
from studium.serve.sessions.turns import Desk
from studium.serve.sessions.worth import Candidate


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the turns of a cycle may use. `remaining_s` reads the session's clock; `seat_s` bounds
    a wait for a place."""

    room_bytes: int
    max_models: int
    seat_s: float
    remaining_s: Callable[[], float]


async def run_turns(
    desk: Desk,
    cycle: int,
    turns: Sequence[Turn],
    candidates: Mapping[str, Candidate],
    bounds: Bounds,
    *,
    stop: asyncio.Event,
    live: Live,
) -> list[Skip]:
    """Carry out the turns and return those that were skipped after all; turns left by a stop are neither.

    Once `stop` is set nothing new starts, and this returns when those at work have ended. Raises what
    recording raises. Cancelling withdraws those at work.
    """
    waiting, skips = list(turns), list[Skip]()
    working: dict[asyncio.Task[Skip | None], Turn] = {}
    stopping = asyncio.create_task(stop.wait(), name="session stop")
    try:
        while waiting or working:
            if not stop.is_set():
                skips += _drop_late(waiting, bounds.remaining_s())
                names = [turn.student for turn in working.values()]
                for turn in startable(waiting, names, candidates, bounds.room_bytes, bounds.max_models):
                    waiting.remove(turn)
                    task = asyncio.create_task(
                        desk.take_turn(turn, cycle, seat_s=bounds.seat_s, remaining_s=bounds.remaining_s()),
                        name=f"turn of {turn.student}",
                    )
                    working[task] = turn
            live.queue = list(waiting)
            desk.announce(waiting)
            if not working:
                break
            watched = set(working) if stop.is_set() else {*working, stopping}
            # Every turn has limits of its own, so this ends.
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in [one for one in done if one in working]:
                del working[task]
                if skip := task.result():  # type: ignore[attr-defined]
                    skips.append(skip)
    finally:
        stopping.cancel()
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        with suppress(asyncio.CancelledError):
            await stopping
        live.queue = []
        desk.announce([])
    return skips


def _drop_late(waiting: list[Turn], remaining_s: float) -> list[Skip]:
    """Take those out of `waiting` whose run no longer fits the time, and say why."""
    late = [Skip(turn.student, why) for turn in waiting if (why := too_late(turn, remaining_s))]
    gone = {skip.student for skip in late}
    waiting[:] = [turn for turn in waiting if turn.student not in gone]
    return late
