"""What the replies amount to, whichever strategy gathered them."""

from collections.abc import Sequence

from studium.records.answers import AnswerStatus, Fate, MemberReply
from studium.serve import consensus
from studium.serve.calls import Brief, Verdict


def ceilings(brief: Brief) -> dict[str, float]:
    """Return the most that each student's vote can weigh here, by name."""
    return {student.name: ceiling(brief, student.name) for student in (*brief.students, *brief.reserves)}


def ceiling(brief: Brief, name: str) -> float:
    """Return the most that a student's vote can weigh here."""
    return brief.known[name].reliability


def judge(brief: Brief, replies: Sequence[MemberReply], flags: tuple[str, ...]) -> Verdict:
    """Return the weightiest answer, else the best of what is left: a decline, then a part of an answer."""
    weights = ceilings(brief)
    groups = consensus.group(replies, weights, brief.same)
    if groups:
        return Verdict(
            AnswerStatus.ANSWERED,
            groups[0].replies[0],
            consensus.agreement(groups),
            consensus.confidence(groups, weights),
            flags,
        )
    partial = max(
        (reply for reply in replies if reply.fate in (Fate.UNREADABLE, Fate.LATE) and reply.text),
        key=lambda reply: (reply.fate is Fate.UNREADABLE, len(reply.text)),
        default=None,
    )
    abstained = next((reply for reply in replies if reply.fate is Fate.ABSTAINED), None)
    if abstained is not None:
        return Verdict(AnswerStatus.UNABLE, abstained, 0.0, 0.0, flags)
    return Verdict(AnswerStatus.PARTIAL, partial, 0.0, 0.0, (*flags, "partial"))
