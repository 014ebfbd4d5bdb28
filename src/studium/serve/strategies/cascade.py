"""A small student first, the large one only where the small ones differ or are not sure enough.

The cascades of Chen et al. 2023, "FrugalGPT" (arXiv:2305.05176), without a trained scorer: what decides is whether
two cheap students agree and how sure that makes the answer by their history.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from studium.records.answers import Fate, MemberReply
from studium.records.models import Student
from studium.serve.calls import Batch, Brief, Call, Strategy, Verdict
from studium.serve.strategies.deciding import decide
from studium.serve.strategies.single import single
from studium.serve.strategies.verdicts import agreement, judge, panel_of

# Where nothing less than certainty is asked for, so many cheap ones must agree.
MOST_CHEAP = 2


def cascade(brief: Brief) -> Strategy:
    """Ask the courier, then further cheap students while they could make it sure, then the master; each once at most.

    The master is asked as soon as the cheap ones that are left could not bring the confidence that is asked for, even
    if they all said the same. Where they differ then, it decides, and is never outvoted by them. Where they
    agreed without being sure enough, all are weighed. A master that has no answer leaves it to the others, and
    the flag `master_silent` says so.
    """
    master = brief.master
    cheap = _cheap(brief, master)
    if master is None or not cheap:
        return (yield from single(brief))
    replies: list[MemberReply] = []
    for number, student in enumerate(cheap, 1):
        replies += yield Batch((Call(student),), note=f"{student.name} answers first")
        left = cheap[number:]
        if _sure(brief, replies, asked_all=not left):
            return _noted(judge(brief, replies, ()), "the master was not needed")
        if left and not _within_reach(brief, replies, left):
            break
    differ = _differ(brief, replies)
    why = "they differ" if differ else "they are not sure enough"
    (last,) = yield Batch((Call(master),), note=f"{master.name} decides: {why}")
    replies.append(last)
    if last.fate is not Fate.ANSWERED:
        verdict = yield from decide(brief, replies, ("master_silent",))
        return _noted(verdict, "the master had no answer")
    if differ or not brief.recognised:
        return _noted(_as_the_master_says(brief, last, replies), f"the master decided: {why}")
    return _noted(judge(brief, replies, ()), f"the master was heard: {why}")


def _cheap(brief: Brief, master: Student | None) -> list[Student]:
    """Return who may be asked before the master: the courier, then whoever answers as soon as the master would.

    Where answers cannot be compared a second one tells nothing.
    """
    if master is None:
        return []
    first = [] if brief.courier is None or brief.courier == master else [brief.courier]
    limit_s = brief.outlook.seconds_to_answer(master)
    others = [
        one
        for one in brief.students
        if one not in (master, *first) and brief.outlook.seconds_to_answer(one) <= limit_s
    ]
    most = len(brief.students) if brief.stages[-1].confidence < 1.0 else MOST_CHEAP
    return [*first, *others][: most if brief.recognised else 1]


def _differ(brief: Brief, replies: Sequence[MemberReply]) -> bool:
    return len(_answers(brief, replies)) > 1


def _answers(brief: Brief, replies: Sequence[MemberReply]) -> list[str]:
    """Return the different answers given."""
    return [one.answer for one in panel_of(brief).groups(replies) if one.answer is not None]


def _sure(brief: Brief, replies: Sequence[MemberReply], *, asked_all: bool) -> bool:
    """Say whether the cheap ones' answer is good enough.

    A wanted confidence of 1 means "until nothing could change it", which would be the master every time: in a
    cascade it means that all cheap ones, two at least, must say the same.
    """
    if not _answers(brief, replies):
        return False
    wanted = brief.stages[-1].confidence
    if wanted < 1.0:
        return judge(brief, replies, ()).confidence >= wanted
    return (
        asked_all
        and not _differ(brief, replies)
        and sum(one.fate is Fate.ANSWERED for one in replies) >= MOST_CHEAP
    )


def _within_reach(brief: Brief, replies: Sequence[MemberReply], left: Sequence[Student]) -> bool:
    """Say whether the cheap ones that are left could still make it sure."""
    wanted = brief.stages[-1].confidence
    if wanted >= 1.0:
        return not _differ(brief, replies)
    return brief.calibrated(panel_of(brief).most_probable(replies, [one.name for one in left])) >= wanted


def _as_the_master_says(brief: Brief, last: MemberReply, replies: Sequence[MemberReply]) -> Verdict:
    groups = sorted(panel_of(brief).groups(replies), key=lambda one: last not in one.replies)
    confidence = brief.calibrated(groups[0].probability)
    return replace(judge(brief, [last], ()), agreement=agreement(groups), confidence=confidence)


def _noted(verdict: Verdict, ended: str) -> Verdict:
    notes: dict[str, Any] = {**verdict.notes, "cascade": {"ended": ended}}
    return replace(verdict, notes=notes)
