"""What the replies amount to, whichever strategy gathered them."""

from collections.abc import Sequence

from studium.records.answers import AnswerStatus, Fate, MemberReply
from studium.serve.calls import Brief, Verdict
from studium.serve.choosing.evidence import Group, Panel, Source
from studium.serve.history.evidence_history import USUAL_ECHO


def panel_of(brief: Brief) -> Panel:
    """Return how the replies to a brief's question are weighed."""
    sources = {name: _source(brief, name) for name in brief.known}
    return Panel(
        sources,
        brief.same,
        wrong_answers=brief.wrong_answers,
        kinship=brief.kinship,
        commons=brief.commons,
        declines_count=not brief.recognised,
    )


def _source(brief: Brief, name: str) -> Source:
    known = brief.known[name]
    echo = USUAL_ECHO if known.echo is None else known.echo
    return Source(name, known.reliability, known.family, echo)


def judge(brief: Brief, replies: Sequence[MemberReply], flags: tuple[str, ...]) -> Verdict:
    """Return the weightiest answer, else the best of what is left: a decline, then a part of an answer."""
    return verdict_of(brief, panel_of(brief), replies, flags)


def verdict_of(brief: Brief, panel: Panel, replies: Sequence[MemberReply], flags: tuple[str, ...]) -> Verdict:
    """Do the same by the weights of another panel."""
    groups = panel.groups(replies)
    if groups:
        leader = groups[0]
        return Verdict(
            AnswerStatus.UNABLE if leader.answer is None else AnswerStatus.ANSWERED,
            leader.replies[0],
            agreement(groups),
            brief.calibrated(leader.probability),
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


def agreement(groups: Sequence[Group]) -> float:
    """Return the leader's share of the replies that said something, 0 to 1."""
    return len(groups[0].replies) / sum(len(one.replies) for one in groups)
