"""Which answer it is: by consensus where answers can be compared, by the judge where they cannot."""

from collections.abc import Generator, Sequence
from dataclasses import replace

from studium.records.answers import AnswerStatus, Complexity, MemberReply
from studium.serve.calls import Batch, Brief, Verdict
from studium.serve.choosing.evidence import Group
from studium.serve.judging.judging import Ranking, compare, rank
from studium.serve.strategies.verdicts import judge, panel_of

Deciding = Generator[Batch, Sequence[MemberReply], Verdict]
# Beyond this many equals a merged answer would be a list of them.
MOST_MERGED = 4


def decide(brief: Brief, replies: Sequence[MemberReply], flags: tuple[str, ...] = ()) -> Deciding:
    """Return the verdict on replies, asking the judge only where nothing else can tell.

    Answers in free words that most members gave word for word need no judge either. Where the judge cannot
    tell, it writes what the leading answers agree on and where they differ, and that is the answer; else the
    winner's own words are. Without a judge the weightiest answer is taken, and the flag `no_judge` says so.
    """
    by_weight = judge(brief, replies, flags)
    groups = [one for one in panel_of(brief).groups(replies) if one.answer is not None]
    if by_weight.status is not AnswerStatus.ANSWERED or brief.recognised or _clear(groups):
        return by_weight
    if brief.judge is None:
        return replace(by_weight, flags=(*by_weight.flags, "no_judge"))
    ranking = yield from rank(brief, [one.replies[0] for one in groups])
    verdict = _judged(brief, by_weight, groups, ranking)
    if ranking.decided and brief.stages[-1].complexity is not Complexity.EXPERT:
        return verdict
    found = yield from compare(brief, ranking.replies[: MOST_MERGED if ranking.decided else _equals(ranking)])
    if found is None:
        return verdict
    said = {"agreements": list(found.agreements), "differences": list(found.differences)}
    verdict = replace(verdict, notes={"judge": {**verdict.notes["judge"], **said}})
    if ranking.decided or not found.merged:
        return verdict
    return replace(verdict, text=found.merged, flags=(*verdict.flags, "merged"))


def _clear(groups: Sequence[Group]) -> bool:
    voices = sum(len(one.replies) for one in groups)
    return len(groups) < 2 or 2 * len(groups[0].replies) > voices


def _judged(brief: Brief, by_weight: Verdict, groups: Sequence[Group], ranking: Ranking) -> Verdict:
    winner = ranking.replies[0]
    group = next(one for one in groups if winner in one.replies)
    return replace(
        by_weight,
        winner=winner,
        agreement=len(group.replies) / sum(len(one.replies) for one in groups),
        confidence=brief.calibrated(group.probability),
        flags=by_weight.flags if ranking.decided else (*by_weight.flags, "judge_cannot_tell"),
        notes={"judge": ranking.notes()},
    )


def _equals(ranking: Ranking) -> int:
    """Return how many lead, at most MOST_MERGED."""
    best = ranking.scores[0]
    return min(MOST_MERGED, sum(score == best for score in ranking.scores))
