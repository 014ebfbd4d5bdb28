"""One student answers; the next ones are asked only if it has no answer."""

from studium.records.answers import Fate, MemberReply
from studium.serve.calls import Batch, Brief, Call, Strategy
from studium.serve.strategies.verdicts import judge


def single(brief: Brief) -> Strategy:
    """Ask one student; the next ones only if it has no answer (requirement ENS-5).

    Its words are live only where nobody could replace it: what was passed on cannot be taken back.
    """
    replies: list[MemberReply] = []
    for number, student in enumerate((*brief.students, *brief.reserves)):
        replies += yield Batch((Call(student),), live=brief.ask.live and not brief.reserves)
        if replies[-1].fate is Fate.ANSWERED:
            return judge(brief, replies, ("fallback",) if number else ())
    return judge(brief, replies, ())
