"""What an intent is at one moment: fresh or stale, how far the transition to it has gone, which step is due.

Pure: the frame, what was shown before it and the clock's reading come in, an `Intent` goes out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, TypeGuard

from studium.intents.layout import Frame

NS = 1_000_000_000
_MOST_DIGITS = 18


class IntentState(StrEnum):
    """FRESH: within its horizon. STALE: past it. EMPTY: nothing was said yet. REMOVED: the channel is no more."""

    FRESH = "fresh"
    STALE = "stale"
    EMPTY = "empty"
    REMOVED = "removed"


class Step(NamedTuple):
    """A part of a plan: what to do from `at_s` seconds after the observation on."""

    at_s: float
    do: str


@dataclass(frozen=True, slots=True)
class Intent:
    """What to do now.

    `text` is the last intent while it is fresh, else the channel's fallback, else the last one still; `data` the
    same as parsed JSON where the channel asks for JSON (shared between reads: do not change it). `age_s` counts
    from its being published, `observation_age_s` from the observation it answers; None where there is none.
    `remaining_s` is how long it stays fresh. `confidence` is 0 to 1, None: unknown. `blend` is how far the
    transition from `previous` to `text` has gone, 0 to 1, easing in and out. `sequence` grows with every intent.
    """

    text: str
    state: IntentState
    sequence: int
    age_s: float | None
    observation_age_s: float | None
    remaining_s: float
    confidence: float | None
    previous: str
    blend: float
    data: Any = None
    previous_data: Any = None
    steps: tuple[Step, ...] = ()

    @property
    def step(self) -> str:
        """What the plan says for now: its last step that is due, else its first; without a plan, the text."""
        if not self.steps:
            return self.text
        elapsed_s = self.observation_age_s or 0.0
        return next((step.do for step in reversed(self.steps) if step.at_s <= elapsed_s), self.steps[0].do)

    @property
    def ahead(self) -> tuple[Step, ...]:
        """The steps still to come, `at_s` counted from now."""
        elapsed_s = self.observation_age_s or 0.0
        return tuple(Step(step.at_s - elapsed_s, step.do) for step in self.steps if step.at_s > elapsed_s)

    def blended(self) -> Any:
        """Return `data` with its numbers on their way from the previous intent's to this one's."""
        return mix(self.previous_data, self.data, self.blend)


@dataclass(frozen=True, slots=True)
class View:
    """A frame made ready to be looked at many times. `before` is what was shown when it came."""

    frame: Frame
    data: Any = None
    fallback_data: Any = None
    steps: tuple[Step, ...] = ()
    fallback_steps: tuple[Step, ...] = ()
    before: str = ""
    before_data: Any = None


def view_of(frame: Frame, before: Intent | None) -> View:
    """Return a frame ready to be looked at, beginning from where the transition before it had come to."""
    data = parsed(frame.text) if frame.is_json and not frame.empty else None
    fallback_data = parsed(frame.fallback) if frame.is_json and frame.fallback else None
    return View(
        frame,
        data,
        fallback_data,
        steps_of(data),
        steps_of(fallback_data),
        before.text if before else "",
        before.blended() if before else None,
    )


def seen(view: View, now_ns: int, *, removed: bool = False) -> Intent:
    """Return the intent as it is at `now_ns`."""
    frame = view.frame
    written_ns, observed_ns = frame.written_ns, frame.observed_ns
    age_s = (now_ns - written_ns) / NS if now_ns > written_ns else 0.0
    if frame.empty or removed:
        state = IntentState.REMOVED if removed else IntentState.EMPTY
        return Intent(
            frame.fallback,
            state,
            frame.sequence,
            None,
            None,
            0.0,
            None,
            "",
            1.0,
            view.fallback_data,
            steps=view.fallback_steps,
        )
    observation_age_s = (now_ns - observed_ns) / NS if now_ns > observed_ns else 0.0
    remaining_s = frame.horizon_s - observation_age_s
    if remaining_s > 0.0 or not frame.fallback:
        return Intent(
            frame.text,
            IntentState.FRESH if remaining_s > 0.0 else IntentState.STALE,
            frame.sequence,
            age_s,
            observation_age_s,
            remaining_s if remaining_s > 0.0 else 0.0,
            frame.confidence,
            view.before,
            eased(age_s, frame.blend_s),
            view.data,
            view.before_data,
            view.steps,
        )
    return Intent(
        frame.fallback,
        IntentState.STALE,
        frame.sequence,
        age_s,
        observation_age_s,
        0.0,
        None,
        frame.text,
        eased(-remaining_s, frame.blend_s),
        view.fallback_data,
        view.data,
        view.fallback_steps,
    )


def eased(elapsed_s: float, blend_s: float) -> float:
    """Return how far a transition has gone, 0 to 1, with no jerk at either end (3t^2 - 2t^3)."""
    if elapsed_s >= blend_s:
        return 1.0
    share = elapsed_s / blend_s
    return share * share * (3.0 - 2.0 * share)


def mix(before: Any, after: Any, share: float) -> Any:
    """Return `after` with its numbers moved towards it from `before` by `share`, 0 to 1; in mappings and lists too.

    What is no number, or was none before, is as it is in `after`.
    """
    if share >= 1.0 or before is None:
        return after
    if isinstance(after, Mapping) and isinstance(before, Mapping):
        return {key: mix(before.get(key), value, share) for key, value in after.items()}
    if isinstance(after, list) and isinstance(before, list) and len(after) == len(before):
        return [mix(old, new, share) for old, new in zip(before, after, strict=True)]
    if _is_number(before) and _is_number(after):
        return before + (after - before) * share
    return after


def parsed(text: str) -> Any:
    """Return the JSON value of a text; None where it is none (or is nested too deeply to be read)."""
    try:
        return json.loads(text, parse_constant=_no_number, parse_int=_whole)
    except (ValueError, RecursionError):
        return None


def steps_of(data: Any) -> tuple[Step, ...]:
    """Return the plan in `{"steps": [{"at_s": 0, "do": "..."}, ...]}`, in the order of time; () where it is none."""
    listed = data.get("steps") if isinstance(data, Mapping) else None
    if not isinstance(listed, list):
        return ()
    steps = [
        Step(float(one["at_s"]), one["do"])
        for one in listed
        if isinstance(one, Mapping) and _is_number(one.get("at_s")) and isinstance(one.get("do"), str)
    ]
    return tuple(sorted(steps, key=lambda step: step.at_s))


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(digits: str) -> int | float:
    """A number too long for arithmetic with floats is infinite, and nobody's frame ends in an OverflowError."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _no_number(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")
