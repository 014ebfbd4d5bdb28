"""Who runs in a cycle, in which order, and who waits. Pure: no clock, no I/O, no randomness.

1. A student whose model cannot fit what is free does not run.
2. In the first cycle the roster's priority decides; nothing was measured yet.
3. From the second on they are ordered by useful proposals per second, loading included: the posterior mean of
   usefulness over expected seconds. Where not all fit together, seconds count by the share of the room they
   occupy, so that of equals the largest waits. Never speed alone.
4. A student that would pull the cycle's yield down is left out (the marginal value theorem, Charnov 1976: leave
   what gives less than the average): for the seconds by which the cycle would grow it gives less than
   `WORTH_KEEPING` of the rate of those before it. Who runs beside the others in room that stands empty anyway
   makes no cycle longer. Nobody is left out before two trials, or before anything was useful at all; who twice
   did not even get to its model (out of memory, not there) pauses, too.
5. Who was left out is tried again after 2, 4, then every `LONGEST_GAP` cycles, the later the more often in
   vain. Doubling gaps spend on the worse what any good policy must, a number of trials that grows with the
   logarithm of the cycles (Lai and Robbins 1985); the longest gap costs more and notices who became useful.
6. When a run is no longer expected to end in time, it does not start; the fast and useful stand in front.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from studium.records.sessions import CyclePlan, Skip, Turn
from studium.serve.sessions.learn import Forecast
from studium.serve.sessions.limits import token_limits
from studium.serve.sessions.worth import Candidate, Outlook, Worth, leave_out, standing_of

MIB = 2**20


def choose(
    candidates: Sequence[Candidate],
    forecasts: Mapping[str, Forecast],
    outlook: Outlook,
    *,
    learned: bool = True,
) -> CyclePlan:
    """Return the plan of one cycle. With `learned` False only declared figures count."""
    skips: list[Skip] = []
    fitting: list[Candidate] = []
    largest = outlook.room_bytes if outlook.largest_bytes is None else outlook.largest_bytes
    for one in candidates:
        if one.needs_bytes > largest:
            skips.append(Skip(one.student, does_not_fit(one.needs_bytes, largest)))
        else:
            fitting.append(one)
    measured = learned and any(forecasts[one.student].trials for one in fitting)
    if measured:
        ordered, benched = _by_yield(fitting, forecasts, outlook)
        skips += benched
    else:
        ordered = [(worth, "declared") for worth in _by_declaration(fitting, forecasts, outlook)]
    turns: list[Turn] = []
    for worth, reason in ordered:
        turn = _turn(worth, reason, outlook, len(ordered))
        if late := too_late(turn, outlook.remaining_s):
            skips.append(Skip(turn.student, late))
        else:
            turns.append(turn)
    limits = token_limits(
        [(turn.student, _of(fitting, turn.student).most_tokens) for turn in turns],
        forecasts,
        outlook.tokens,
    )
    for turn in [one for one in turns if one.student not in limits]:
        skips.append(Skip(turn.student, "the share of the token budget is used up"))
    kept = tuple(replace(t, max_tokens=limits[t.student]) for t in turns if t.student in limits)
    return CyclePlan(outlook.cycle, kept, tuple(skips))


def too_late(turn: Turn, remaining_s: float) -> str:
    """Return why a turn can no longer start with `remaining_s` left; empty where it can."""
    if remaining_s <= 0:
        return "the time was up"
    if turn.expected_s is not None and turn.expected_s > remaining_s:
        return f"expected to take {turn.expected_s:.1f} s, {remaining_s:.1f} s are left"
    return ""


def does_not_fit(needs_bytes: int, room_bytes: int) -> str:
    """Return the reason why a model cannot run, with both numbers."""
    return f"needs {needs_bytes / MIB:,.0f} MiB, {room_bytes / MIB:,.0f} MiB is free for models"


def startable(
    waiting: Sequence[Turn],
    running: Sequence[str],
    candidates: Mapping[str, Candidate],
    room_bytes: int,
    max_models: int,
) -> list[Turn]:
    """Return the turns to start now, in order: those that fit beside the `running` students.

    A smaller one may pass a larger one that has to wait; within a cycle everybody's turn comes. Students of
    one model share its memory and its slots.
    """
    asks: dict[str, int] = {}
    used = 0
    for student in running:
        one = candidates[student]
        used += one.needs_bytes if one.model not in asks else 0
        asks[one.model] = asks.get(one.model, 0) + 1
    started: list[Turn] = []
    for turn in waiting:
        one = candidates[turn.student]
        there = one.model in asks
        extra = 0 if there else one.needs_bytes
        # What needs none of our memory is limited in number all the same: somebody pays for it.
        full = len(asks) >= max_models if not there else asks[one.model] >= one.slots
        if full or used + extra > room_bytes:
            continue
        used += extra
        asks[one.model] = asks.get(one.model, 0) + 1
        started.append(turn)
    return started


def _by_declaration(
    fitting: Sequence[Candidate], forecasts: Mapping[str, Forecast], outlook: Outlook
) -> list[Worth]:
    """Highest priority first; of equals what is declared to cost least, then roster order."""
    together = _fit_together(fitting, outlook.room_bytes)
    worths = [
        Worth(one, forecasts[one.student], one.declared_s, _share(one, outlook.room_bytes, together=together))
        for one in fitting
    ]
    return sorted(worths, key=lambda w: (-w.candidate.priority, w.cost))


def _by_yield(
    fitting: Sequence[Candidate], forecasts: Mapping[str, Forecast], outlook: Outlook
) -> tuple[list[tuple[Worth, str]], list[Skip]]:
    """Leave out who gives too little; of the others the most useful per second first.

    Who is left out does not depend on who happens to be in memory, else the one who is would drive out all
    others; the order does, and who shares a model with the one before needs no load.
    """
    together = _fit_together(fitting, outlook.room_bytes)
    known = [f.seconds for f in forecasts.values() if f.seconds is not None]
    typical = fmean(known) if known else 1.0

    def worth(one: Candidate, *, resident: bool) -> Worth:
        forecast = forecasts[one.student]
        seconds = forecast.seconds if forecast.seconds is not None else typical
        load = 0.0 if resident else forecast.load_seconds or 0.0
        return Worth(one, forecast, seconds + load, _share(one, outlook.room_bytes, together=together))

    standing = sorted(
        (worth(one, resident=together and one.resident) for one in fitting),
        key=lambda w: (-w.rate, -w.candidate.priority),
    )
    kept, again, skips = leave_out(standing, forecasts, outlook)
    resident = {one.model for one in fitting if one.resident}
    left, ordered = [one.candidate for one in kept], list[tuple[Worth, str]]()
    while left:
        worths = [worth(one, resident=one.model in resident) for one in left]
        best = max(worths, key=lambda w: (w.rate, w.candidate.priority))
        ordered.append((best, standing_of(best)))
        left.remove(best.candidate)
        resident = (resident if together else set()) | {best.candidate.model}
    return ordered + [(one, "tried again after a pause") for one in again], skips


def _fit_together(fitting: Sequence[Candidate], room_bytes: int) -> bool:
    models = {one.model: one.needs_bytes for one in fitting}
    return sum(models.values()) <= room_bytes


def _share(one: Candidate, room_bytes: int, *, together: bool) -> float:
    if together or room_bytes <= 0:
        return 1.0
    return max(one.needs_bytes / room_bytes, 0.01)


def _turn(worth: Worth, reason: str, outlook: Outlook, turns: int) -> Turn:
    forecast, expected = worth.forecast, worth.seconds
    # After a run that was cut off by its limit the mean is near that limit, so the next one is wider.
    limit = outlook.remaining_s / (turns + 1) if forecast.seconds is None else 4 * forecast.seconds
    limit = min(outlook.longest_ask_s, max(outlook.shortest_ask_s, limit))
    return Turn(worth.candidate.student, worth.candidate.most_tokens, limit, reason, expected)


def _of(candidates: Sequence[Candidate], student: str) -> Candidate:
    return next(one for one in candidates if one.student == student)
