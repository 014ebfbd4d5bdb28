"""Where a model fails: replies put together by domain, level and kind of question, how that changed, and what to do.

The kind of a question is the task its domain reads in it; a question no domain can read joins the nearest cluster of
like questions, by character trigrams (see `kinds`). A question that came several times counts
once, with its latest reply. What is proposed is a recipe's `data:` block, of fresh problems from training's side.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from studium.domains.catalogue import all_domains
from studium.domains.exact import ExactDomain
from studium.evals.folder import evaluations
from studium.evals.intervals import Interval, wilson
from studium.evals.kinds import Kinds

Json = dict[str, Any]
COLUMNS = ("model", "domain", "level", "kind", "wrong", "asked", "share", "95 % interval", "before", "change")
LEAST_ASKED = 5
MOST_EXAMPLES = 3
_MOST_WRONG = 0.2
_ROWS_MANY, _ROWS_FEW = 512, 256
_COMPARED = ("baseline", "tuned")


@dataclass(frozen=True, slots=True)
class Seen:
    """One graded reply: when (seconds since the epoch), of whom, to what; `expected` "" where nobody said."""

    at: float
    model: str
    domain: str
    level: int | None
    question: str
    reply: str
    expected: str
    score: float


class Span(NamedTuple):
    """A time's replies: how many were asked and wrong."""

    asked: int
    wrong: int


@dataclass(frozen=True, slots=True)
class Weakness:
    """Replies of one kind. `now` counts every question once, `share` of them wrong with its interval.

    `before` and `lately` are the earlier and the later half of all replies in time, `change` what the share of wrong
    ones rose by, None where all came at once.
    """

    model: str
    domain: str
    level: int | None
    kind: str
    now: Span
    share: Interval
    before: Span | None
    lately: Span | None
    change: Interval | None
    examples: Sequence[Seen] = ()


def of_evaluations(workspace: Path) -> list[Seen]:
    """Return the scored replies of every evaluation and comparison of a workspace, the oldest first."""
    folders = list(evaluations(workspace / "runs"))
    for compared in sorted((workspace / "compare").glob("*")):
        folders += [one for one in evaluations(compared) if one.name in _COMPARED]
    found: list[Seen] = []
    for folder in folders:
        told, file = folder.told(), folder.path / "answers.jsonl"
        if not file.exists():
            continue
        at = file.stat().st_mtime
        found += [
            Seen(at, told["model"], one.domain, one.level, one.question, one.reply, one.expected, one.score)
            for one in folder.answers()
            if one.score is not None
        ]
    return sorted(found, key=lambda one: one.at)


def weaknesses(seen: Iterable[Seen], *, least: int = LEAST_ASKED) -> list[Weakness]:
    """Return the clusters in which something is wrong, what is weak for certain and often first.

    A cluster of fewer than `least` questions says too little and is left out.
    """
    kinds = _Kinds()
    groups: dict[tuple[str, str, int | None, str], list[Seen]] = {}
    for one in sorted(seen, key=lambda one: one.at):
        groups.setdefault((one.model, one.domain, one.level, kinds.of(one)), []).append(one)
    found = [_weakness(*key, replies) for key, replies in groups.items()]
    weak = [one for one in found if one.now.asked >= least and one.now.wrong]
    return sorted(weak, key=lambda one: (-one.share.low, -one.now.wrong))


def data_request(weak: Sequence[Weakness]) -> list[Json]:
    """Return a recipe's `data:` for clusters, a source for each domain and level that a domain makes."""
    shares: dict[tuple[str, int | None], float] = {}
    for one in weak:
        if one.domain in all_domains() and all_domains()[one.domain].levels:
            key = one.domain, one.level
            shares[key] = max(shares.get(key, 0.0), one.share.value)
    return [
        {"domain": domain}
        | ({"levels": [level]} if level else {})
        | {"rows": _ROWS_MANY if share >= 0.5 else _ROWS_FEW, "teach": "solutions"}
        for (domain, level), share in shares.items()
    ]


def strong(seen: Iterable[Seen]) -> list[Json]:
    """Return a recipe's `replay: data:` of what is known well, so that learning the rest does not cost it."""
    spans: dict[tuple[str, int | None], list[Seen]] = {}
    for one in _latest(seen):
        spans.setdefault((one.domain, one.level), []).append(one)
    return [
        {"domain": domain, "levels": [level], "rows": _ROWS_FEW}
        for (domain, level), replies in spans.items()
        if level
        and domain in all_domains()
        and len(replies) >= LEAST_ASKED
        and _span(replies).wrong <= _MOST_WRONG * len(replies)
    ]


def table(weak: Sequence[Weakness]) -> list[tuple[str, ...]]:
    """Return a row of text per cluster, under COLUMNS. Changes are in points of 100; more is worse."""
    return [
        (
            one.model,
            one.domain,
            "-" if one.level is None else str(one.level),
            one.kind,
            str(one.now.wrong),
            str(one.now.asked),
            f"{100 * one.share.value:.0f} %",
            f"{100 * one.share.low:.0f} to {100 * one.share.high:.0f} %",
            f"{one.before.wrong} of {one.before.asked}" if one.before else "",
            _change(one.change),
        )
        for one in weak
    ]


def _weakness(model: str, domain: str, level: int | None, kind: str, replies: Sequence[Seen]) -> Weakness:
    latest = _latest(replies)
    now = _span(latest)
    wrong = [one for one in latest if one.score < 1.0]
    before = lately = change = None
    middle = (replies[0].at + replies[-1].at) / 2
    if replies[-1].at > replies[0].at:
        before = _span(_latest([one for one in replies if one.at <= middle]))
        lately = _span(_latest([one for one in replies if one.at > middle]))
        change = risen(before, lately)
    return Weakness(
        model,
        domain,
        level,
        kind,
        now,
        wilson(now.wrong, now.asked),
        before,
        lately,
        change,
        tuple(wrong[-MOST_EXAMPLES:]),
    )


def risen(before: Span, lately: Span) -> Interval:
    """Return by how much a share rose, with an interval from those of both (Newcombe 1998, method 10)."""
    old, new = wilson(before.wrong, before.asked), wilson(lately.wrong, lately.asked)
    rise = new.value - old.value
    return Interval(
        rise,
        rise - math.hypot(new.value - new.low, old.high - old.value),
        rise + math.hypot(new.high - new.value, old.value - old.low),
    )


def _latest(seen: Iterable[Seen]) -> list[Seen]:
    """Return each model's latest reply to each question."""
    found: dict[tuple[str, str], Seen] = {}
    for one in sorted(seen, key=lambda one: one.at):
        found[one.model, one.question] = one
    return list(found.values())


def _span(replies: Sequence[Seen]) -> Span:
    return Span(len(replies), sum(one.score < 1.0 for one in replies))


def _change(change: Interval | None) -> str:
    if change is None:
        return "seen once"
    word = "worse" if change.low > 0 else "better" if change.high < 0 else "no clear change"
    return f"{100 * change.value:+.0f} ({100 * change.low:+.0f} to {100 * change.high:+.0f}): {word}"


@dataclass(slots=True)
class _Kinds:
    """The kinds of questions there were so far."""

    clusters: dict[str, Kinds] = field(default_factory=dict[str, Kinds])
    names: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def of(self, one: Seen) -> str:
        domain = all_domains().get(one.domain)
        reading = domain.phrases.read(one.question) if isinstance(domain, ExactDomain) else None
        if reading:
            return reading.task
        clusters = self.clusters.setdefault(one.domain, Kinds(keep_words=False))
        cluster = clusters.learn(one.question, None)
        return self.names.setdefault((one.domain, cluster), " ".join(one.question.split()[:6])[:40])
