"""Keeps one channel's intent fresh: asks the ensemble about the newest observation, one ask at a time.

What came in while it asked and is not the newest is never asked about; without a new observation nothing is. A model
that fails or is late leaves the last intent where it is; failures are waited out, twice as long each time.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from studium.errors import BadReply, EngineTimeout, StudiumError
from studium.intents.layout import MOST_TEXT_BYTES, Frame
from studium.intents.moment import NS, parsed
from studium.intents.ring import Ring
from studium.intents.settings import Settings, query_of
from studium.records.answers import Answer, AnswerStatus, Query

GUARD_S = 5.0
LONGEST_BACKOFF_S = 30.0
RATE_OVER_S = 10.0
Ask = Callable[[Query], Awaitable[Answer]]
_log = logging.getLogger("studium.intents")


@dataclass(slots=True)
class Tally:
    """What became of a channel's asks since the server started."""

    asked: int = 0
    published: int = 0
    failed: int = 0
    late: int = 0
    dropped: int = 0
    asking: bool = False
    chosen_model: str = ""
    answer_s: float | None = None
    error: str = ""
    error_code: str = ""
    retry_s: float = 0.0


class Refresher:
    """One channel at work. `run` it as a task; the rings are its own to write and to read."""

    def __init__(self, settings: Settings, intents: Ring, observations: Ring, ask: Ask) -> None:
        self.settings = settings
        self.tally = Tally()
        self.intents = intents
        self.observations = observations
        self._ask = ask
        self._news = asyncio.Event()
        self._told: Frame | None = None
        self._glanced = observations.count
        self._taken_ns = time.monotonic_ns()
        self._taken_count = self._glanced
        self._published_ns: deque[int] = deque(maxlen=64)

    def change(self, settings: Settings) -> None:
        """Go by other settings from now on, also for the intent that is there, unless it has another form."""
        last = self.intents.newest() if settings.schema == self.settings.schema else None
        self.settings = settings
        self.intents.publish(dressed(last or Frame("", empty=True), settings))

    def observe(self, text: str) -> None:
        """Take an observation that came over HTTP; only the newest counts."""
        if self._told is not None:
            self.tally.dropped += 1
        self._told = Frame(text, observed_ns=time.monotonic_ns())
        self._news.set()

    def glance(self) -> None:
        """Look whether there is an observation in shared memory."""
        if (count := self.observations.count) != self._glanced:
            self._glanced = count
            self._news.set()

    @property
    def refreshed_hz(self) -> float:
        """Intents published per second, over the last ten seconds."""
        since_ns = time.monotonic_ns() - int(RATE_OVER_S * NS)
        return sum(at_ns >= since_ns for at_ns in self._published_ns) / RATE_OVER_S

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            observation = await self._next()
            began = time.monotonic()
            self.tally.asking, self.tally.asked = True, self.tally.asked + 1
            try:
                await self._refresh(observation)
                self.tally.retry_s = 0.0
            except Exception as error:
                self._fail(error)
            finally:
                self.tally.asking = False
            rest_s = began + 1.0 / self.settings.hz - time.monotonic()
            await asyncio.sleep(max(rest_s, self.tally.retry_s, 0.0))

    async def _next(self) -> Frame:
        """Wait for an observation that was not asked about yet and is not too old to matter."""
        while True:
            if (newest := self._newest()) is not None:
                return newest
            await self._news.wait()
            self._news.clear()

    def _newest(self) -> Frame | None:
        written = self.observations.newest() if self.observations.count != self._taken_count else None
        candidates = [one for one in (written, self._told) if one and one.observed_ns > self._taken_ns]
        if written is not None:
            self.tally.dropped += max(0, written.sequence - self._taken_count - 1)
            self._taken_count = written.sequence
        self._told = None
        if not candidates:
            return None
        newest = max(candidates, key=lambda one: one.observed_ns)
        self.tally.dropped += len(candidates) - 1
        self._taken_ns = newest.observed_ns
        if time.monotonic_ns() - newest.observed_ns >= self.settings.horizon_s * NS:
            self.tally.dropped += 1
            return None
        return newest

    async def _refresh(self, observation: Frame) -> None:
        settings, began = self.settings, time.monotonic()
        last = self.intents.newest()
        query = query_of(settings, observation.text, last.text if last and not last.empty else "")
        async with asyncio.timeout(settings.timeout_s + GUARD_S):
            answer = await self._ask(query)
        text = intent_in(answer, settings)
        self.tally.answer_s = time.monotonic() - began
        self.tally.chosen_model = answer.chosen_model
        if time.monotonic_ns() - observation.observed_ns >= settings.horizon_s * NS:
            self.tally.late += 1
            self._say(
                EngineTimeout(
                    f"the answer came after {self.tally.answer_s:.1f} s",
                    expected=f"one within the horizon of {settings.horizon_s:g} s",
                    try_next="ask smaller students, or raise horizon_s",
                )
            )
            return
        if self.settings.schema != settings.schema:  # changed meanwhile: this has another form
            self.tally.dropped += 1
            return
        frame = Frame(text, observed_ns=observation.observed_ns, confidence=answer.confidence)
        published = self.intents.publish(dressed(frame, self.settings))
        self._published_ns.append(published.written_ns)
        self.tally.published += 1
        self.tally.error = self.tally.error_code = ""

    def _fail(self, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            error = EngineTimeout("the students took too long", expected="an answer within timeout_s")
        if not isinstance(error, StudiumError):
            _log.error("a channel's refresh failed by our own fault", exc_info=error)
            error = StudiumError(f"something broke inside Studium: {type(error).__name__}")
        self.tally.failed += 1
        self.tally.retry_s = min(LONGEST_BACKOFF_S, max(2 * self.tally.retry_s, 1.0 / self.settings.hz))
        self._say(error)

    def _say(self, error: StudiumError) -> None:
        self.tally.error, self.tally.error_code = str(error), error.code


def dressed(frame: Frame, settings: Settings) -> Frame:
    """Return a frame with what the channel's settings say about every intent."""
    return replace(
        frame,
        horizon_s=settings.horizon_s,
        blend_s=settings.blend_s,
        fallback=settings.fallback,
        is_json=settings.schema is not None,
    )


def intent_in(answer: Answer, settings: Settings) -> str:
    """Return what is to be published of an answer. Raises BadReply where nothing is."""
    text = answer.text.strip()
    if answer.status is AnswerStatus.UNABLE or not text:
        raise BadReply(
            text[:200] or "the students said nothing",
            expected="what to do next",
            try_next="put it otherwise in `question`, or ask others in `students`",
        )
    if len(text.encode(errors="replace")) > MOST_TEXT_BYTES:
        raise BadReply(
            f"the intent has {len(text):,} characters",
            expected=f"at most {MOST_TEXT_BYTES:,} bytes",
            try_next="lower max_tokens",
        )
    if settings.schema is not None and parsed(text) is None:
        raise BadReply(
            f"the intent is no JSON: {text[:80]!r}",
            expected="what json_schema asks for",
            try_next="raise max_tokens: it may have been cut off",
        )
    return text.encode(errors="replace").decode()
