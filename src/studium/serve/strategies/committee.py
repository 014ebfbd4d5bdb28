"""Several students answer, as few as settle it."""

from collections.abc import Sequence

from studium.records.answers import Fate, MemberReply
from studium.records.models import Student
from studium.serve import consensus
from studium.serve.calls import Batch, Brief, Call, Strategy
from studium.serve.strategies.verdicts import ceilings, judge


def committee(brief: Brief) -> Strategy:
    """Ask as few as settle it: the fewest that could agree, then as many more as it takes.

    The answer is the one everybody together would have given: asking stops once those who are left
    could not change it (`consensus.settled`). Where nobody has an answer, the reserves are asked.
    """
    weights = ceilings(brief)
    replies: list[MemberReply] = []

    def silent(so_far: Sequence[MemberReply]) -> list[Student]:
        heard = {reply.student for reply in (*replies, *so_far)}
        return [student for student in brief.students if student.name not in heard]

    def is_settled(so_far: Sequence[MemberReply]) -> bool:
        groups = consensus.group((*replies, *so_far), weights, brief.same)
        return consensus.settled(groups, [weights[student.name] for student in silent(so_far)])

    while not is_settled(()):
        left = silent(())
        groups = consensus.group(replies, weights, brief.same)
        number = consensus.fewest_to_settle(groups, [weights[student.name] for student in left])
        replies += yield Batch(tuple(map(Call, left[:number])), is_settled)
    flags: tuple[str, ...] = ()
    if not _has_answer(replies) and brief.reserves:
        flags = ("fallback",)
        replies += yield Batch(tuple(map(Call, brief.reserves)))
    return judge(brief, replies, flags)


def _has_answer(replies: Sequence[MemberReply]) -> bool:
    return any(reply.fate is Fate.ANSWERED for reply in replies)
