"""Lets one student speak once, within limits, and tells what came of it. The fleet loads and unloads.

What goes wrong with a student is part of what came of it: nothing but being cancelled is raised.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from studium.errors import EngineTimeout, StudiumBug, StudiumError
from studium.fleet import Fleet, tokens_at_most
from studium.fleet.purse import Bill
from studium.records.messages import Ask, Piece, Reply
from studium.records.models import Student
from studium.records.runs import StudentRun
from studium.records.scheduling import Priority

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Heard:
    """A reply, or an error and what the student had `said` until then. Times in `time.monotonic` seconds.

    `seated` is when it had its place at the model, None: it never had one; of the wait until then, `load_seconds` went
    into the load of its model. `run` is what the fleet measured. `is_over`: `whole_s` was up before anything else.
    """

    reply: Reply | None
    error: StudiumError | None
    said: str
    began: float
    seated: float | None
    ended: float
    load_seconds: float = 0.0
    run: StudentRun | None = None
    is_over: bool = False


async def hear(
    fleet: Fleet,
    student: Student,
    ask: Ask,
    *,
    priority: Priority,
    whole_s: float,
    seat_s: float,
    speak_s: float | None = None,
    bill: Bill | None = None,
    on_seat: Callable[[], None] = lambda: None,
    on_piece: Callable[[Piece], None] = lambda _: None,
) -> Heard:
    """Ask a student, waiting `seat_s` for its place, letting it speak for `speak_s`, and all that within `whole_s`."""
    began, seated, load_seconds = time.monotonic(), None, 0.0
    said: list[str] = []
    reply: Reply | None = None
    error: StudiumError | None = None
    run: StudentRun | None = None
    whole = asyncio.timeout(whole_s)
    try:
        wanted = fleet.seat(
            student,
            timeout_s=seat_s,
            priority=priority,
            least_context_tokens=tokens_at_most(student, ask),
            bill=bill,
        )
        async with whole, wanted as seat:
            seated, load_seconds = time.monotonic(), seat.load_seconds
            on_seat()
            try:
                async with asyncio.timeout(speak_s), aclosing(seat.generate(ask)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Reply):
                            reply = piece
                            continue
                        said.append(piece.text)
                        on_piece(piece)
            finally:
                run = seat.last_run
    except TimeoutError:
        limit_s = whole_s if whole.expired() or speak_s is None else speak_s
        error = EngineTimeout(
            f"{student.name} gave no whole answer within {limit_s:.0f} s",
            expected="an answer within the limit",
            try_next="choose a higher complexity, lower sampling.max_tokens, or raise the limits under `ensemble`",
        )
    except StudiumError as caught:
        error = caught
    except Exception as caught:  # ours: nobody else's turn must fall with this one
        log.exception("asking %s went wrong", student.name)
        error = StudiumBug(f"asking {student.name} went wrong: {type(caught).__name__}: {caught}")
    if reply is None and error is None:
        error = StudiumBug(f"{student.name} ended without a reply")
    ended = time.monotonic()
    return Heard(reply, error, "".join(said), began, seated, ended, load_seconds, run, whole.expired())
