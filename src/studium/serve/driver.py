"""Runs a strategy: asks its batches through the fleet, hands back the replies, and reports on the way.

Everything that goes wrong with one student becomes its reply. Students that are no longer needed are
withdrawn, their generation stopped and their place given back.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from studium.domains.answers import abstains
from studium.errors import EngineDied, EngineTimeout, SpendingLimit, StudiumError
from studium.fleet import Coming, Fleet
from studium.fleet.purse import Bill
from studium.records.answers import Delta, Fate, MemberReply, Part, Progress
from studium.records.messages import Ask, Piece, Reply
from studium.records.models import Student
from studium.records.scheduling import Priority
from studium.serve.calls import Batch, Call, Extract, Strategy, Verdict
from studium.serve.hearing import Heard, hear
from studium.serve.team.breakers import Breakers, counts, is_loss

# A worker that is gone is started anew rather than replaced, where that takes no longer.
SOON_S = 1.0
# How likely a committee's next member is to be asked: of one that is not settled nobody knows better.
LIKELY = 0.5


@dataclass(frozen=True, slots=True)
class Round:
    """One strategy carried out: its verdict, and every reply in the order of the calls."""

    verdict: Verdict
    replies: tuple[MemberReply, ...]
    errors: tuple[StudiumError, ...]


# What happens while a batch is out: words to pass on, or the reply to the call of that number.
_Event = Delta | tuple[int, MemberReply]


class Driver:
    """Carries out one strategy for one question. `deadline` is in `time.monotonic` seconds.

    `members` are all who may come to be asked: the fleet is told of those whose turn has not come.
    `refine_timeout_s` is what an oracle or arbiter may take each, beside the question's own time. What calls
    cost is charged to `bill`. Of whom `stand_ins` names, the next answers in the place of one that is lost before
    anything it said was passed on; whom `breakers` hold back is not asked while there is one of them.
    """

    def __init__(
        self,
        fleet: Fleet,
        ask: Ask,
        *,
        extract: Extract,
        deadline: float,
        model_timeout_s: float,
        refine_timeout_s: float = 0.0,
        members: Sequence[Student] = (),
        bill: Bill | None = None,
        breakers: Breakers | None = None,
        stand_ins: Callable[[Student], Sequence[Student]] = lambda _: (),
    ) -> None:
        self._fleet = fleet
        self._breakers = breakers or Breakers()
        self._stand_ins = stand_ins
        self._ask = ask
        self._extract = extract
        self._deadline = deadline
        self._model_timeout_s = model_timeout_s
        self._refine_timeout_s = refine_timeout_s
        self._bill = bill
        self._listened = ask.live
        self._unasked = list(members)
        self._errors: list[StudiumError] = []
        self._replies: list[MemberReply] = []

    async def run(self, strategy: Strategy) -> AsyncGenerator[Progress | Delta | Round, None]:
        """Yield what happens, live words included, then exactly one Round.

        Where nobody waits for pieces, what becomes of one call alone is not told on the way.
        """
        with self._fleet.expect() as expectation:
            try:
                batch = next(strategy)
                while True:
                    expectation.change(self._coming_after(batch))
                    got: list[MemberReply] = []
                    if self._listened:
                        names = ", ".join(call.student.name for call in batch.calls)
                        yield Progress(batch.note or f"asking {names}")
                    if len(batch.calls) == 1 and not batch.live:  # nothing goes on beside it
                        got.append(await self._make_call(batch.calls[0]))
                        if self._listened:
                            yield Progress(_describe(got[0]), got[0])
                    else:
                        async with aclosing(self._ask_batch(batch, got)) as events:
                            async for event in events:
                                yield event
                    self._replies += got
                    batch = strategy.send(got)
            except StopIteration as end:
                expectation.withdraw()
                yield Round(end.value, tuple(self._replies), tuple(self._errors))

    def _coming_after(self, batch: Batch) -> list[Coming]:
        """Return who may be asked once a batch has spoken."""
        asked = {call.student.name for call in batch.calls}
        self._unasked = [student for student in self._unasked if student.name not in asked]
        if not self._unasked or not batch.calls:
            return []
        in_s = max(self._fleet.run_seconds(call.student) for call in batch.calls)
        return [Coming(student, in_s, LIKELY) for student in self._unasked]

    async def _ask_batch(
        self, batch: Batch, got: list[MemberReply]
    ) -> AsyncGenerator[Progress | Delta, None]:
        """Make all calls of a batch at once; the fleet lets them run as memory allows.

        `got` receives the replies in the order of the calls.
        """
        events: asyncio.Queue[_Event] = asyncio.Queue()
        tasks = [
            asyncio.create_task(self._tell_call(number, call, events, live=batch.live))
            for number, call in enumerate(batch.calls)
        ]
        heard: dict[int, MemberReply] = {}
        try:
            while len(heard) < len(tasks):
                event = await events.get()
                if isinstance(event, Delta):
                    yield _with_backlog(event, events)
                    continue
                number, reply = event
                heard[number] = reply
                yield Progress(_describe(reply), reply)
                if len(heard) < len(tasks) and batch.settled(list(heard.values())):
                    break
        finally:
            if going := [task for task in tasks if not task.done()]:
                for task in going:
                    task.cancel()
                await asyncio.gather(*going, return_exceptions=True)
        got += [heard.get(number) or _not_needed(call) for number, call in enumerate(batch.calls)]

    async def _tell_call(
        self, number: int, call: Call, events: "asyncio.Queue[_Event]", *, live: bool
    ) -> None:
        reply = await self._make_call(call, events if live else None)
        # Told only now, when the seat is given back and the run recorded: who hears it may cancel this task.
        events.put_nowait((number, reply))

    async def _make_call(self, call: Call, live: "asyncio.Queue[_Event] | None" = None) -> MemberReply:
        """Have a call answered: by its student, or where that is lost by those who stand in for it, in their order."""
        began, line = time.monotonic(), (call.student, *self._stand_ins(call.student))
        tried: list[tuple[Call, Heard]] = []
        for number, student in enumerate(line):
            if not self._breakers.admits(student.model.name):
                continue
            one = replace(call, student=student, instead_of=call.student.model.name if number else "")
            heard = await self._try(one, live, spare=line[number + 1 :])
            tried.append((one, heard))
            passed_on = live is not None and heard.said
            lost = heard.error is not None and is_loss(heard.error, seated=heard.seated is not None)
            if not lost or passed_on or self._limit_s(call) <= 0:
                break
        if not tried:  # all are held back: better asked than refused
            tried.append((call, await self._try(call, live, spare=())))
        seconds = time.monotonic() - began
        one, heard = tried[-1]
        if heard.reply is not None:
            return self._read(one, heard.reply, seconds)
        one, heard = tried[0]  # what began it tells most
        assert heard.error is not None, "who gave no reply gave an error"
        return self._failed(one, heard.error, heard.said, seconds)

    async def _try(
        self, call: Call, live: "asyncio.Queue[_Event] | None", *, spare: Sequence[Student]
    ) -> Heard:
        """Let a student speak, and once more where its process was gone before it said anything: it is loaded anew.

        Where that would take long, and somebody who stands in for it is in memory, they are asked instead.
        """
        began, model = time.monotonic(), call.student.model.name
        heard = await self._hear(call, live)
        if isinstance(heard.error, EngineDied) and not heard.said:
            resident = set(self._fleet.residency.resident())
            slow = self._fleet.seconds_to_load(call.student) > SOON_S
            if not (slow and any(one.model.name in resident for one in spare)):
                began = time.monotonic()
                heard = await self._hear(call, live)
        if heard.reply is not None:
            self._breakers.replied(model)
        elif heard.error is not None and counts(heard.error, seated=heard.seated is not None):
            self._breakers.failed(model, heard.error, began)
        return heard

    async def _hear(self, call: Call, live: "asyncio.Queue[_Event] | None") -> Heard:
        """Let a student speak once, within its limit and the question's."""
        limit_s = self._limit_s(call)

        def pass_on(piece: Piece) -> None:
            if live is not None:
                live.put_nowait(Delta(piece.text, piece.logprobs))

        return await hear(
            self._fleet,
            call.student,
            call.ask or self._ask,
            priority=Priority.INTERACTIVE,
            whole_s=limit_s,
            seat_s=limit_s,
            bill=self._bill,
            on_piece=pass_on,
        )

    def _limit_s(self, call: Call) -> float:
        """Return how long a call may take; refining begins when the question's own time may be up."""
        if call.part in (Part.ORACLE, Part.ARBITER):
            return self._refine_timeout_s
        return max(0.0, min(self._model_timeout_s, self._deadline - time.monotonic()))

    def _read(self, call: Call, reply: Reply, seconds: float) -> MemberReply:
        answer = (call.extract or self._extract)(reply.text)
        fate = (
            Fate.ABSTAINED if abstains(reply.text) else Fate.UNREADABLE if answer is None else Fate.ANSWERED
        )
        return MemberReply(
            call.student.name,
            fate,
            text=reply.text,
            answer=answer,
            confidence=own_confidence(reply),
            seconds=seconds,
            generate_seconds=reply.seconds,
            prompt_tokens=reply.prompt_tokens or 0,
            completion_tokens=reply.completion_tokens or 0,
            cost_usd=reply.cost_usd,
            finish=reply.finish,
            logprobs=reply.logprobs,
            part=call.part,
            sample=call.sample,
            adapter=call.student.adapter,
            instead_of=call.instead_of,
        )

    def _failed(self, call: Call, error: StudiumError, said: str, seconds: float) -> MemberReply:
        self._errors.append(error)
        return MemberReply(
            call.student.name,
            _fate_of(error),
            text=said,
            seconds=seconds,
            error=str(error),
            error_code=error.code,
            part=call.part,
            sample=call.sample,
            adapter=call.student.adapter,
            instead_of=call.instead_of,
        )


def own_confidence(reply: Reply) -> float | None:
    """Return the probability of a reply's least sure token, 0 to 1; None without log-probabilities.

    One doubtful token makes worked steps wrong, and a mean hides it. Chosen over the geometric mean in one
    trial on 300 fresh problems, which is not kept as a benchmark.
    """
    if not reply.logprobs:
        return None
    return math.exp(min(token.logprob for token in reply.logprobs))


def _fate_of(error: StudiumError) -> Fate:
    if isinstance(error, SpendingLimit):
        return Fate.REFUSED
    return Fate.LATE if isinstance(error, EngineTimeout) else Fate.FAILED


def _not_needed(call: Call) -> MemberReply:
    return MemberReply(call.student.name, Fate.NOT_NEEDED, part=call.part, sample=call.sample)


def _with_backlog(delta: Delta, events: "asyncio.Queue[_Event]") -> Delta:
    """Return a delta together with those that wait behind it: one write to the client instead of many.

    The reply that may end the backlog is put back; a live batch has no other sender.
    """
    backlog = [delta]
    while not events.empty():
        event = events.get_nowait()
        if not isinstance(event, Delta):
            events.put_nowait(event)
            break
        backlog.append(event)
    if len(backlog) == 1:
        return delta
    logprobs = tuple(logprob for one in backlog for logprob in one.logprobs)
    return Delta("".join(one.text for one in backlog), logprobs)


_BECAME = {
    Fate.ANSWERED: "answered {0.answer}",
    Fate.ABSTAINED: "says it cannot answer that",
    Fate.UNREADABLE: "gave no answer that could be read",
    Fate.LATE: "was too late",
    Fate.FAILED: "failed: {0.error}",
    Fate.NOT_NEEDED: "was not needed",
    Fate.REFUSED: "was not asked: {0.error}",
}


def _describe(reply: MemberReply) -> str:
    return f"{reply.student} {_BECAME[reply.fate].format(reply)} ({reply.seconds:.1f} s)"
