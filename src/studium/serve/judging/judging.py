"""The judge: which of several answers in free words is best, and where they differ. No I/O: asks by yielding.

Answers are compared two at a time, without names, once in each order. A pair counts only where both orders
name the same answer (Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", section 3.4, the
conservative way); a judge that prefers a place, or whose verdict cannot be read, "cannot tell". Up to
FULL_ROUND answers all meet each other and are ranked by the share of pairs won, ties half (Copeland 1951; in a full
round the Bradley-Terry model gives the same order). More than that meet in a knockout first, strongest
against weakest by the order given, so that calls grow with the answers and not with their pairs.
"""

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations
from typing import Any, NamedTuple

from studium.records.answers import Fate, MemberReply, Part
from studium.records.models import Capabilities, Student
from studium.serve.calls import Batch, Brief, Call
from studium.serve.judging.forms import (
    Comparison,
    can_be_shown,
    comparison_ask,
    read_comparison,
    read_verdict,
    verdict_ask,
)

FULL_ROUND = 4
_WORD = re.compile(r"[+-]?\d+(?:[.,]\d+)*|\w+|[<>=%$€/*^+-]")
_EMPHASIS = re.compile(r"\*\*|__|`|^#+ ", re.MULTILINE)
_ARTICLES = ("a", "an", "the")
# What an OpenAI-shaped server says that does not know the form its verdict is asked in.
_NO_SUCH_FORM = ("unsupported", "engine_refused", "bad_request")


class Duel(StrEnum):
    """What came of a pair."""

    FIRST = "first"
    SECOND = "second"
    CANNOT_TELL = "cannot_tell"


_POINTS = {Duel.FIRST: 1.0, Duel.SECOND: 0.0, Duel.CANNOT_TELL: 0.5}


@dataclass(frozen=True, slots=True)
class Ranking:
    """Different answers, the best first.

    `scores` are shares of pairs won among the finalists, 0 to 1, in the order of `replies`; None for who lost before.
    `decided`: the first is ahead of the second; else the judge cannot tell, and the order among equals is that of
    the candidates given. `judge` is empty where nobody judged. `competed`: the judge ranked an answer of its
    own, and judges favour their own.
    """

    replies: tuple[MemberReply, ...]
    decided: bool
    scores: tuple[float | None, ...] = ()
    duels: tuple[Duel, ...] = ()
    judge: str = ""
    competed: bool = False

    def notes(self) -> dict[str, Any]:
        """Return it as plain data, for the answer's report; empty where nobody judged."""
        if not self.judge:
            return {}
        ranking = [
            {"student": reply.student, "score": None if score is None else round(score, 3)}
            for reply, score in zip(self.replies, self.scores, strict=True)
        ]
        return {
            "judge": self.judge,
            "ranking": ranking,
            "decided": self.decided,
            "pairs": len(self.duels),
            "cannot_tell": self.duels.count(Duel.CANNOT_TELL),
            "judge_competed": self.competed,
        }


class _Pair(NamedTuple):
    first: MemberReply
    second: MemberReply


Judging = Generator[Batch, Sequence[MemberReply], Ranking]
Comparing = Generator[Batch, Sequence[MemberReply], Comparison | None]
_Duels = Generator[Batch, Sequence[MemberReply], list[Duel]]


def rank(brief: Brief, candidates: Sequence[MemberReply]) -> Judging:
    """Rank answers, given in the order in which they count where the judge cannot tell.

    Those that say the same in the same words are judged once. Asks `brief.judge` at most
    2 * (candidates - FULL_ROUND) + FULL_ROUND * (FULL_ROUND - 1) times, and nothing where there is no judge
    or one answer; what there is no time for is not told.
    """
    different = distinct(candidates)
    judge = brief.judge
    if judge is None or len(different) < 2:
        return Ranking(tuple(different), decided=len(different) == 1)
    finalists, beaten, duels = different, list[MemberReply](), list[Duel]()
    while len(finalists) > FULL_ROUND:
        meeting = _knockout(finalists)
        met = yield from _meet(brief, judge, meeting)
        lost = [pair[duel is not Duel.SECOND] for pair, duel in zip(meeting, met, strict=True)]
        beaten = [*(one for one in finalists if one in lost), *beaten]
        finalists = [one for one in finalists if one not in lost]
        duels += met
    met = yield from _meet(brief, judge, [_Pair(*pair) for pair in combinations(finalists, 2)])
    scores = _shares_won(len(finalists), met)
    order = sorted(range(len(finalists)), key=lambda number: -scores[number])
    return Ranking(
        (*(finalists[number] for number in order), *beaten),
        scores[order[0]] > scores[order[1]],
        (*(scores[number] for number in order), *(None for _ in beaten)),
        (*duels, *met),
        judge.name,
        any(one.student == judge.name for one in candidates),
    )


def compare(brief: Brief, candidates: Sequence[MemberReply]) -> Comparing:
    """Ask the judge where different answers agree and differ; None where it gave nothing to read."""
    different = distinct(candidates)
    judge = brief.judge
    if judge is None or len(different) < 2 or not _possible(brief, judge, len(different)):
        return None
    able, texts = brief.outlook.capabilities(judge), [one.text for one in different]
    ask = comparison_ask(judge, able, brief.question, texts, brief.ask.timeout_s)
    note = f"{judge.name} says where {len(different)} answers agree and differ"
    said = yield Batch((Call(judge, ask, _is_comparison, Part.JUDGE),), note=note)
    return read_comparison(said[0].text) if said[0].fate is Fate.ANSWERED else None


def distinct(candidates: Sequence[MemberReply]) -> list[MemberReply]:
    """Return answers that differ in more than case, punctuation and articles; of equal ones the first."""
    kept: dict[str, MemberReply] = {}
    for reply in candidates:
        kept.setdefault(words_of(reply.text), reply)
    return list(kept.values())


def words_of(text: str) -> str:
    """Return a text's words, numbers with their signs, and what stands for a word: equal where it says the same."""
    plain = _EMPHASIS.sub("", text).casefold()
    return " ".join(word for word in _WORD.findall(plain) if word not in _ARTICLES)


def _meet(brief: Brief, judge: Student, meeting: Sequence[_Pair]) -> _Duels:
    """Put pairs to the judge together, each in both orders; once more in plain words where its server knows no form."""
    if not _possible(brief, judge, 2):
        return [Duel.CANNOT_TELL] * len(meeting)
    able = brief.outlook.capabilities(judge)
    note = f"{judge.name} compares {len(meeting)} pairs in both orders"
    said = yield Batch(_calls(brief, judge, able, meeting), note=note)
    if (able.json_schema or able.grammar) and all(one.error_code in _NO_SUCH_FORM for one in said):
        able = replace(able, json_schema=False, grammar=False)
        said = yield Batch(_calls(brief, judge, able, meeting), note=f"{note}, in plain words")
    verdicts = [one.answer if one.fate is Fate.ANSWERED else None for one in said]
    return [_outcome(verdicts[at], verdicts[at + 1]) for at in range(0, len(verdicts), 2)]


def _calls(brief: Brief, judge: Student, able: Capabilities, meeting: Sequence[_Pair]) -> tuple[Call, ...]:
    orders = [order for pair in meeting for order in ((pair.first, pair.second), (pair.second, pair.first))]
    asks = [
        verdict_ask(judge, able, brief.question, (one.text, other.text), brief.ask.timeout_s)
        for one, other in orders
    ]
    return tuple(Call(judge, ask, read_verdict, Part.JUDGE) for ask in asks)


def _outcome(straight: str | None, swapped: str | None) -> Duel:
    match straight, swapped:
        case "A", "B":
            return Duel.FIRST
        case "B", "A":
            return Duel.SECOND
        case _:
            return Duel.CANNOT_TELL


def _possible(brief: Brief, judge: Student, number: int) -> bool:
    """Say whether there is time for an answer of the judge, and room in its context for so many to judge."""
    in_time = brief.outlook.seconds_to_answer(judge) <= brief.outlook.seconds_left()
    return in_time and can_be_shown(judge, number)


def _knockout(standing: Sequence[MemberReply]) -> list[_Pair]:
    """Pair the weak from the end with those before them, as many as must lose one for a full round to be possible.

    Where the judge cannot tell, the stronger goes on.
    """
    number = min(len(standing) // 2, len(standing) - FULL_ROUND)
    strong = standing[len(standing) - 2 * number : len(standing) - number]
    weak = standing[len(standing) - number :]
    return [_Pair(*pair) for pair in zip(strong, reversed(weak), strict=True)]


def _shares_won(number: int, duels: Sequence[Duel]) -> list[float]:
    """Return each finalist's share of its pairs; `duels` in the order of `combinations`."""
    points = [0.0] * number
    for (one, other), duel in zip(combinations(range(number), 2), duels, strict=True):
        points[one] += _POINTS[duel]
        points[other] += 1.0 - _POINTS[duel]
    return [won / (number - 1) for won in points]


def _is_comparison(said: str) -> str | None:
    return "compared" if read_comparison(said) else None
