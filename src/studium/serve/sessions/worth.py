"""What each student is worth a cycle, and who is not worth its time. Pure; the reasons stand in `decide`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studium.records.sessions import Skip
from studium.serve.sessions.learn import Forecast
from studium.serve.sessions.limits import Allowance

WORTH_KEEPING = 0.5
TRIALS_BEFORE_LEAVING_OUT = 2
LONGEST_GAP = 8
TOO_LITTLE = "gives too little"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A student before a cycle. `needs_bytes` is the forecast of its model, 0 where it holds none of our memory.

    `resident` says that its model is in memory already; `most_tokens` bounds one answer; `slots` is how many
    asks its model takes at once. `declared_s` is what the declaration says of one run; None: nothing.
    """

    student: str
    model: str
    needs_bytes: int
    priority: int = 0
    resident: bool = False
    most_tokens: int = 512
    slots: int = 1
    declared_s: float | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a cycle may use: bytes free for models, seconds and tokens left, and how long single asks may take.

    `largest_bytes` is the most of the room that lies on one device; None: all of it.
    """

    cycle: int
    room_bytes: int
    remaining_s: float
    tokens: Allowance
    max_models: int = 6
    largest_bytes: int | None = None
    longest_ask_s: float = 180.0
    shortest_ask_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Worth:
    """A candidate with what it is expected to give and to cost: `seconds` of one run, `share` of the room, 0 to 1."""

    candidate: Candidate
    forecast: Forecast
    seconds: float | None
    share: float

    @property
    def cost(self) -> float:
        return max(self.seconds or 0.0, 1e-3) * self.share

    @property
    def rate(self) -> float:
        return self.forecast.usefulness / self.cost


def leave_out(
    standing: Sequence[Worth], forecasts: Mapping[str, Forecast], outlook: Outlook
) -> tuple[list[Worth], list[Worth], list[Skip]]:
    """Part those worth their time (best first) from those that are not, of whom some are due for another try."""
    anything_useful = any(f.trials > f.barren for f in forecasts.values())
    kept: list[Worth] = []
    again: list[Worth] = []
    skips: list[Skip] = []
    useful = lasts_s = 0.0
    for worth in standing:
        forecast = worth.forecast
        longer_s = makespan_s([*kept, worth], outlook)
        known = forecast.trials >= TRIALS_BEFORE_LEAVING_OUT and anything_useful and bool(kept)
        cheap = forecast.usefulness * lasts_s >= WORTH_KEEPING * useful * (longer_s - lasts_s)
        barred = forecast.unseated >= TRIALS_BEFORE_LEAVING_OUT
        if not barred and (cheap or not known):
            kept.append(worth)
            useful += forecast.usefulness
            lasts_s = longer_s
            continue
        next_try = (forecast.last.cycle if forecast.last else 0) + gap(forecast.unseated or forecast.barren)
        if outlook.cycle >= next_try:
            again.append(worth)
        else:
            why = "did not get to its model" if barred else f"{TOO_LITTLE}: {standing_of(worth)}"
            skips.append(Skip(worth.candidate.student, f"{why}; again in cycle {next_try}"))
    if standing and not kept and not again:
        return list(standing), [], []  # a pause of everybody would be the end
    return kept, again, skips


def makespan_s(worths: Sequence[Worth], outlook: Outlook) -> float:
    """Return how long these would take together: each starts, in order, as soon as there is room beside the others."""
    waiting, now_s = list(worths), 0.0
    running: list[tuple[float, Worth]] = []
    while waiting or running:
        for worth in list(waiting):
            held = {one.candidate.model: one.candidate.needs_bytes for _, one in running}
            held[worth.candidate.model] = worth.candidate.needs_bytes
            full = len(running) >= outlook.max_models or sum(held.values()) > outlook.room_bytes
            if not running or not full:
                waiting.remove(worth)
                running.append((now_s + (worth.seconds or 0.0), worth))
        now_s = min(end for end, _ in running)
        running = [one for one in running if one[0] > now_s]
    return now_s


def gap(barren: int) -> int:
    """Return after how many cycles a student that was left out is tried again: 2, 4, then 8."""
    return min(LONGEST_GAP, 2 ** max(1, barren - 1))


def standing_of(worth: Worth) -> str:
    forecast = worth.forecast
    if not forecast.trials:
        return "not tried yet"
    return f"{forecast.usefulness:.2f} useful in {worth.seconds or 0.0:.2f} s"
