"""Lets one student speak once, within its limits, and tells what came of it, measured.

What goes wrong with a student is part of the result. The fleet loads and unloads; here is only a seat taken.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from studium.errors import EngineDied, EngineTimeout, StudiumBug, StudiumError
from studium.fleet import Fleet, tokens_at_most
from studium.fleet.profiles import profile_key
from studium.fleet.purse import Bill
from studium.records.messages import Ask, Message, Reply, Sampling
from studium.records.models import Student
from studium.records.runs import StudentRun
from studium.records.scheduling import Priority

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one ask may wait for a place, speak, and last in all before the session's time is up."""

    seat_s: float
    speak_s: float
    session_s: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of an ask. `reply` None: it failed, with `error`; `said` is what it had said until then."""

    run: StudentRun
    asked_at: float
    queue_seconds: float
    run_seconds: float
    reply: Reply | None
    error: StudiumError | None
    said: str


async def hear(
    fleet: Fleet,
    student: Student,
    prompt: str,
    limits: Limits,
    *,
    session: str,
    on_seat: Callable[[], None],
    on_piece: Callable[[], None],
) -> Heard | None:
    """Ask a student and return what came of it; None where the session's time ended meanwhile.

    Blocks until the student has spoken, failed, or a limit is reached. A model whose process was gone before it
    spoke is loaded anew, once. What it says is charged to the session of that name.
    """
    ends = time.monotonic() + limits.session_s
    bill = Bill(secrets.token_hex(8), session)
    heard = await _hear(fleet, student, prompt, limits, bill, on_seat, on_piece)
    if heard is not None and isinstance(heard.error, EngineDied) and not heard.said:
        rest = replace(limits, session_s=max(0.0, ends - time.monotonic()))
        heard = await _hear(fleet, student, prompt, rest, bill, on_seat, on_piece)
    return heard


async def _hear(
    fleet: Fleet,
    student: Student,
    prompt: str,
    limits: Limits,
    bill: Bill,
    on_seat: Callable[[], None],
    on_piece: Callable[[], None],
) -> Heard | None:
    asked_at, asked = time.time(), time.monotonic()
    seated: float | None = None
    load_seconds, said = 0.0, list[str]()
    reply: Reply | None = None
    error: StudiumError | None = None
    run: StudentRun | None = None
    ask = Ask(
        messages=(Message("user", prompt),),
        sampling=Sampling(max_tokens=_fewest(limits.max_tokens, student.sampling.max_tokens)),
        timeout_s=limits.speak_s,
    )
    session_limit = asyncio.timeout(limits.session_s)
    try:
        async with session_limit:
            async with fleet.seat(
                student,
                timeout_s=limits.seat_s,
                priority=Priority.SESSION,
                least_context_tokens=tokens_at_most(student, ask),
                bill=bill,
            ) as seat:
                seated, load_seconds = time.monotonic(), seat.load_seconds
                on_seat()
                try:
                    async with asyncio.timeout(limits.speak_s), aclosing(seat.generate(ask)) as pieces:
                        async for piece in pieces:
                            if isinstance(piece, Reply):
                                reply = piece
                            elif piece.text:
                                said.append(piece.text)
                                on_piece()
                finally:
                    run = seat.last_run
    except TimeoutError:
        if session_limit.expired():
            return None
        error = _too_slow(student, limits.speak_s)
    except StudiumError as caught:
        error = caught
    except Exception as caught:  # ours: the others' turns must not fall with this one
        log.exception("asking %s went wrong", student.name)
        error = StudiumBug(f"asking {student.name} went wrong: {type(caught).__name__}: {caught}")
    now = time.monotonic()
    if reply is None and error is None:
        error = StudiumBug(f"{student.name} ended without a reply")
    return Heard(
        run=_as_recorded(run, student, asked_at, now - asked, reply, error),
        asked_at=asked_at,
        queue_seconds=max(0.0, (seated or now) - asked - load_seconds),
        run_seconds=now - seated if seated is not None else 0.0,
        reply=reply,
        error=error,
        said="".join(said),
    )


def _as_recorded(
    run: StudentRun | None,
    student: Student,
    asked_at: float,
    seconds: float,
    reply: Reply | None,
    error: StudiumError | None,
) -> StudentRun:
    """What the fleet measured, or what is known of an ask that never got as far as the model."""
    code = "" if reply is not None else error.code if error else "internal"
    if run is not None:
        return replace(run, success=reply is not None, error_code=code)
    return StudentRun(
        student.name,
        profile_key(student.model),
        started_at=asked_at,
        seconds=seconds,
        success=False,
        error_code=code,
    )


def _too_slow(student: Student, limit_s: float) -> EngineTimeout:
    return EngineTimeout(
        f"{student.name} gave no whole answer within {limit_s:.0f} s",
        expected="an answer within the limit, which follows what its runs took",
        try_next="lower its sampling.max_tokens, or leave it out with --students",
    )


def _fewest(allowed: int, own: int | None) -> int:
    return allowed if own is None else min(allowed, own)
