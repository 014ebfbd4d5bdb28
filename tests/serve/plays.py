"""Strategies played without an engine: who says what to what is a function, and every call is written down."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from studium.domains.answers import abstains
from studium.records.answers import Fate, MemberReply
from studium.serve.calls import Batch, Brief, Call

Result = TypeVar("Result")
Says = Callable[[Call], str | Fate]


@dataclass
class Play:
    """What was asked, batch by batch."""

    batches: list[Batch] = field(default_factory=list[Batch])

    @property
    def calls(self) -> list[Call]:
        return [call for batch in self.batches for call in batch.calls]

    @property
    def asked(self) -> list[str]:
        return [call.student.name for call in self.calls]


def play(
    brief: Brief, talk: Generator[Batch, Sequence[MemberReply], Result], says: Says
) -> tuple[Result, Play]:
    """Carry a generator of batches to its end; every student of a batch speaks."""
    seen = Play()
    try:
        batch = next(talk)
        while True:
            seen.batches.append(batch)
            batch = talk.send([reply_to(brief, call, says(call)) for call in batch.calls])
    except StopIteration as end:
        return end.value, seen


def reply_to(brief: Brief, call: Call, said: str | Fate) -> MemberReply:
    """Read what was said as the driver does."""
    if isinstance(said, Fate):
        return MemberReply(call.student.name, said, part=call.part)
    answer = (call.extract or brief.extract)(said)
    fate = Fate.ABSTAINED if abstains(said) else Fate.UNREADABLE if answer is None else Fate.ANSWERED
    return MemberReply(call.student.name, fate, text=said, answer=answer, part=call.part)


def shown(call: Call) -> str:
    """Return the last thing a call says to its student; of a plain call nothing is known here."""
    return call.ask.messages[-1].content if call.ask else ""
