"""One student's ask in a session: within its limits and the session's time, charged to the session."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from studium.errors import EngineDied
from studium.fleet import Fleet
from studium.fleet.profiles import profile_key
from studium.fleet.purse import Bill
from studium.records.messages import Ask, Message, Piece, Sampling
from studium.records.models import Student
from studium.records.runs import StudentRun
from studium.records.scheduling import Priority
from studium.serve.hearing import Heard, hear


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one ask may wait for a place, speak, and last in all before the session's time is up."""

    seat_s: float
    speak_s: float
    session_s: float
    max_tokens: int


async def ask_once(
    fleet: Fleet,
    student: Student,
    prompt: str,
    limits: Limits,
    *,
    session: str,
    on_seat: Callable[[], None],
    on_piece: Callable[[Piece], None],
) -> Heard | None:
    """Ask a student and return what came of it; None where the session's time ended meanwhile.

    Blocks until the student has spoken, failed, or a limit is reached. A model whose process was gone before it
    spoke is loaded anew, once. What it says is charged to the session of that name.
    """
    ends = time.monotonic() + limits.session_s
    own = student.sampling.max_tokens
    ask = Ask(
        messages=(Message("user", prompt),),
        sampling=Sampling(max_tokens=min(limits.max_tokens, own) if own else limits.max_tokens),
        timeout_s=limits.speak_s,
    )
    bill = Bill(secrets.token_hex(8), session)

    async def once() -> Heard:
        return await hear(
            fleet,
            student,
            ask,
            priority=Priority.SESSION,
            whole_s=max(0.0, ends - time.monotonic()),
            seat_s=limits.seat_s,
            speak_s=limits.speak_s,
            bill=bill,
            on_seat=on_seat,
            on_piece=on_piece,
        )

    heard = await once()
    if isinstance(heard.error, EngineDied) and not heard.said:
        heard = await once()
    return None if heard.is_over else heard


def asked_at(heard: Heard) -> float:
    """Return when a student was asked, in seconds since the epoch."""
    return time.time() - (time.monotonic() - heard.began)


def run_of(heard: Heard, student: Student, cycle: int) -> StudentRun:
    """Return what the fleet measured, or what is known of an ask that never got as far as the model."""
    run = heard.run or StudentRun(
        student.name,
        profile_key(student.model),
        started_at=asked_at(heard),
        seconds=heard.ended - heard.began,
        success=False,
    )
    code = heard.error.code if heard.error and not heard.reply else ""
    return replace(run, success=heard.reply is not None, error_code=code, cycle=cycle)
