"""Several voices answer, as few as settle it: different students, or tries of one where that tells more.

Each stage has a complexity's bounds. Asking stops when nothing that is left could change the answer (free), when the
answer is right with the confidence that the stage asks for, or when time is up. A stage that ends without that
confidence goes over into the next one, if the caller left the complexity open.
"""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial

from studium.records.answers import Complexity, Fate, MemberReply
from studium.records.messages import Ask
from studium.records.models import Student
from studium.serve.calls import Batch, Brief, Call, Stage, Strategy
from studium.serve.choosing.asking_order import LEAST_SECONDS, Option, asking_order, information
from studium.serve.choosing.evidence import Panel, Stop, stop
from studium.serve.strategies.deciding import decide
from studium.serve.strategies.verdicts import judge, panel_of

Hearing = Generator[Batch, Sequence[MemberReply], bool]
Why = Callable[..., Stop | None]  # of the replies so far, and the names of those still speaking
# A further try of one student must be able to come out differently.
TRY_AGAIN_TEMPERATURE = 0.7


def committee(brief: Brief) -> Strategy:
    """Ask as few as settle it, the most telling per second first, the load each would cause included.

    Where one stage is allowed, and nothing less than certainty asked for, the answer is the one that
    everybody together would have given. Where nobody has an answer, the reserves are asked. Answers in free words
    that stay apart are ranked by the judge, where one is named.
    """
    replies: list[MemberReply] = []
    reached = brief.stages[-1].complexity
    for stage in brief.stages:
        sure = yield from _hear(brief, stage, replies)
        reached = stage.complexity
        if sure:
            break
    flags: tuple[str, ...] = ()
    if not _has_answer(replies) and brief.reserves:
        flags = ("fallback",)
        replies += yield Batch(tuple(map(Call, brief.reserves)))
    verdict = judge(brief, replies, flags)
    if brief.judge is not None and not brief.recognised and verdict.confidence < brief.stages[-1].confidence:
        verdict = yield from decide(brief, replies, flags)
    return replace(verdict, complexity=_told(brief, reached))


def _hear(brief: Brief, stage: Stage, replies: list[MemberReply]) -> Hearing:
    """Ask within one stage's bounds, adding to `replies`; return whether its confidence was reached."""
    panel = panel_of(brief)

    def why(so_far: Sequence[MemberReply], speaking: Sequence[str] = ()) -> Stop | None:
        voices = Counter(one.name for one in _voices_left(brief, panel, stage, so_far))
        return stop(
            panel,
            so_far,
            [*(voices | Counter(speaking)).elements()],
            confidence=stage.confidence if stage.confidence < 1.0 else None,
            at_least=stage.min_students,
            spent=bool(so_far) and brief.outlook.seconds_left() <= 0.0,
            calibrated=brief.calibrated,
        )

    while (reason := why(replies)) is None:
        look, voices = brief.outlook, _voices_left(brief, panel, stage, replies)
        options = [Option(one.name, look.seconds_to_answer(one), look.seconds_to_load(one)) for one in voices]
        ordered = asking_order(panel, replies, options)
        number = _fewest(panel, why, replies, [one.name for one in ordered])
        # Who needs a load does not go along with those at hand: they may settle it.
        room = stage.max_students - len(replies)
        together = [one.name for one in ordered[: min(number, room)] if one.at_hand == ordered[0].at_hand]
        calls = _calls(brief, _side_by_side(brief, together), replies)
        got = yield Batch(calls, partial(_decided, why, tuple(replies), calls))
        replies += [one for one in got if one.fate is not Fate.NOT_NEEDED]
    if reason is Stop.SPENT:
        return True
    return reason is Stop.SURE or judge(brief, replies, ()).confidence >= stage.confidence


def _fewest(panel: Panel, why: Why, replies: Sequence[MemberReply], order: Sequence[str]) -> int:
    """Return how many, in this order, could decide the question together if they all sided with the leader."""
    answer = next((one.answer for one in panel.groups(replies) if one.answer is not None), "")
    siding = panel.siding(replies, order, answer or "")
    for number in range(1, len(order)):
        if why([*replies, *siding[:number]]) in (Stop.SETTLED, Stop.SURE):
            return number
    return len(order)


def _side_by_side(brief: Brief, names: Sequence[str]) -> list[str]:
    """Return the names, the first in any case, whose models fit in memory together."""
    students = {one.name: one for one in brief.students}
    chosen: list[str] = []
    for name in names:
        if not chosen or brief.outlook.fit_together([students[one] for one in (*chosen, name)]):
            chosen.append(name)
    return chosen


def _decided(
    why: Why, before: Sequence[MemberReply], calls: Sequence[Call], got: Sequence[MemberReply]
) -> bool:
    """Say whether what came of a batch so far decides, those still speaking being left.

    Time that is up does not: whoever still speaks is about to be late, and what it said until then is worth having.
    """
    heard = {(reply.student, reply.sample) for reply in got}
    speaking = [call.student.name for call in calls if (call.student.name, call.sample) not in heard]
    return why([*before, *got], speaking) in (Stop.SETTLED, Stop.SURE)


def _voices_left(brief: Brief, panel: Panel, stage: Stage, replies: Sequence[MemberReply]) -> list[Student]:
    """Return who may still speak in this stage, once for every try: those not heard, then tries that are worth it."""
    tries = Counter(reply.student for reply in replies)
    dumb = {reply.student for reply in replies if reply.fate is not Fate.ANSWERED}
    allowed = brief.students[: stage.max_students]
    room = max(0, stage.max_students - tries.total())
    if len(brief.students) == 1:
        return [one for one in allowed if one.name not in dumb] * room
    fresh = [one for one in allowed if not tries[one.name]]
    # Where only certainty counts, the answer is the one that all of them, each once, would have given.
    if not room or stage.confidence >= 1.0:
        return fresh if room else []
    varied = [one for one in allowed if tries[one.name] and brief.known[one.name].echo is not None]
    again = [one for one in varied if one.name not in dumb]
    return [*fresh, *_worth_it(brief, panel, stage, replies, fresh, again)]


def _worth_it(
    brief: Brief,
    panel: Panel,
    stage: Stage,
    replies: Sequence[MemberReply],
    fresh: Sequence[Student],
    again: list[Student],
) -> list[Student]:
    """Return whose further try beats mixing: it tells more per second than any student that was not heard.

    Nobody's where the confidence that is asked for is there, or out of reach even if all that are left said the same.
    """
    room = stage.max_students - len(replies)
    left = [one.name for one in (*fresh, *(again * room))][:room]
    if not again or brief.calibrated(panel.groups(replies)[0].probability) >= stage.confidence:
        return []
    if brief.calibrated(panel.most_probable(replies, left)) < stage.confidence:
        return []

    def telling(one: Student) -> float:
        seconds = max(LEAST_SECONDS, brief.outlook.seconds_to_answer(one))
        return information(panel, replies, one.name) / seconds

    mixing = max(map(telling, fresh), default=0.0)
    return [one for one in again if telling(one) > mixing]


def _calls(brief: Brief, names: Sequence[str], replies: Sequence[MemberReply]) -> tuple[Call, ...]:
    tries = Counter(reply.student for reply in replies)
    students = {one.name: one for one in brief.students}
    calls: list[Call] = []
    for name in names:
        number = tries[name]
        tries[name] += 1
        calls.append(Call(students[name], again(brief.ask, number) if number else None, sample=number))
    return tuple(calls)


def again(ask: Ask, number: int) -> Ask:
    """Return an ask as it is put to the same student once more: with some chance, and a seed of its own."""
    warm = max(TRY_AGAIN_TEMPERATURE, ask.sampling.temperature or 0.0)
    seed = (ask.sampling.seed or 0) + number
    return replace(ask, sampling=replace(ask.sampling, temperature=warm, seed=seed))


def _told(brief: Brief, reached: Complexity) -> Complexity | None:
    return reached if len(brief.stages) > 1 else None


def _has_answer(replies: Sequence[MemberReply]) -> bool:
    return any(reply.fate is Fate.ANSWERED for reply in replies)
