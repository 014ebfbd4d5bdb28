"""What is wrong with preferences before anything is trained on them: gross faults refuse, others warn.

Gross: a pair of equal replies, an empty chosen reply, the same two replies both ways round, a chosen reply that a
domain verifies to be worse, the prompt copied into many chosen replies, and a length that gives the answer away
(Cohen's d above 0.8 for sure: large, Cohen 1988). A model trained on such pairs learns the fault: with length bias, to
be long (Singhal et al. 2023, arXiv 2310.03716).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from statistics import fmean, pvariance
from typing import NamedTuple
from zlib import crc32

from studium.domains.catalogue import domain
from studium.errors import ConfigurationError
from studium.evals.intervals import Interval, bootstrap
from studium.train.preferences.pairs import Pair, Thumb
from studium.train.rl.rewards import verified_step
from studium.train.rows import Row

LARGE, SMALL = 0.8, 0.2
_MANY = 0.05
_ALIKE = 0.9
_SHINGLE = 5
_LEAST_LEAK = 20
_SHOWN = 5
_PRIME = (1 << 61) - 1


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault with the rows that have it. A gross one stops training unless the recipe allows its `kind`."""

    kind: str
    gross: bool
    says: str
    rows: Sequence[str]
    try_next: str


class Report(NamedTuple):
    """All faults, the gross ones first; `length` is Cohen's d of chosen over rejected, in characters."""

    rows: int
    faults: Sequence[Fault]
    length: Interval | None

    @property
    def gross(self) -> Sequence[Fault]:
        return [fault for fault in self.faults if fault.gross]


def lint_pairs(pairs: Sequence[Pair]) -> Report:
    """Return what is wrong with pairs; nothing is changed."""
    length = length_effect([(len(one.chosen), len(one.rejected)) for one in pairs])
    checks: tuple[Callable[[Sequence[Pair]], Iterator[Fault]], ...] = (
        _identical,
        _empty,
        _both_ways,
        _wrong_way,
        _leaked,
        lambda ones: _length(length, "chosen", "rejected"),
        _near_identical,
        _near_duplicates,
        _no_margin,
    )
    return _report([fault for check in checks for fault in check(pairs)], len(pairs), length)


def lint_thumbs(thumbs: Sequence[Thumb]) -> Report:
    """Return what is wrong with thumbs; nothing is changed."""
    good = [one.row for one in thumbs if one.good]
    bad = [one.row for one in thumbs if not one.good]
    length = _unpaired_effect([len(row.completion) for row in good], [len(row.completion) for row in bad])
    return _report(
        [
            *_one_kind(good, bad),
            *_judged_both_ways(good, bad),
            *_nothing_said(good),
            *_length(length, "good", "bad"),
        ],
        len(thumbs),
        length,
    )


def refuse_gross(report: Report, allowed: Sequence[str]) -> None:
    """Raise ConfigurationError for the first gross fault that is not allowed, naming its rows."""
    fault = next((one for one in report.gross if one.kind not in allowed), None)
    if fault is not None:
        shown = ", ".join(fault.rows[:_SHOWN]) + (", ..." if len(fault.rows) > _SHOWN else "")
        raise ConfigurationError(
            f"{fault.kind}: {fault.says}{f' ({shown})' if shown else ''}",
            expected="preferences without gross faults",
            try_next=f"{fault.try_next}; or allow it: 'allow: [{fault.kind}]'",
        )


def length_effect(lengths: Sequence[tuple[int, int]]) -> Interval | None:
    """Return Cohen's d of the first lengths over the second, with its bootstrap interval; None for less than two."""
    return bootstrap(lengths, _cohens_d, resamples=500) if len(lengths) > 1 else None


def _cohens_d(lengths: Sequence[tuple[int, int]]) -> float:
    return _standardised([one for one, _ in lengths], [other for _, other in lengths])


def _unpaired_effect(good: Sequence[int], bad: Sequence[int]) -> Interval | None:
    if len(good) < 2 or len(bad) < 2:
        return None
    labelled = [(one, True) for one in good] + [(one, False) for one in bad]

    def effect(items: Sequence[tuple[int, bool]]) -> float:
        parts = [[length for length, is_good in items if is_good is kind] for kind in (True, False)]
        return _standardised(*parts) if all(parts) else 0.0

    return bootstrap(labelled, effect, resamples=500)


def _standardised(one: Sequence[int], other: Sequence[int]) -> float:
    difference = fmean(one) - fmean(other)
    spread = ((pvariance(one) + pvariance(other)) / 2) ** 0.5
    return difference / spread if spread else (inf if difference > 0 else -inf if difference < 0 else 0.0)


def _length(effect: Interval | None, one: str, other: str) -> Iterator[Fault]:
    if effect is None or (effect.low <= SMALL and effect.high >= -SMALL):
        return
    gross = effect.low > LARGE or effect.high < -LARGE
    longer = "longer" if effect.value > 0 else "shorter"
    yield Fault(
        "length-bias",
        gross,
        f"{one} replies are {longer} than {other} ones: Cohen's d {effect.value:.2f} "
        f"({effect.low:.2f} to {effect.high:.2f})",
        (),
        "pair replies of about the same length, or drop the most uneven",
    )


def _identical(pairs: Sequence[Pair]) -> Iterator[Fault]:
    rows = [pair.row.id for pair in pairs if pair.chosen == pair.rejected]
    if rows:
        yield Fault("identical", True, f"{len(rows)} pairs of equal replies", rows, "drop them")


def _empty(pairs: Sequence[Pair]) -> Iterator[Fault]:
    yield from _nothing_said([pair.row for pair in pairs])


def _nothing_said(rows: Sequence[Row]) -> Iterator[Fault]:
    found = [row.id for row in rows if not row.completion.strip()]
    if found:
        yield Fault("empty", True, f"{len(found)} replies to be learned are empty", found, "drop them")


def _both_ways(pairs: Sequence[Pair]) -> Iterator[Fault]:
    seen = {(_prompt(pair.row), pair.chosen, pair.rejected) for pair in pairs if pair.chosen != pair.rejected}
    rows = [pair.row.id for pair in pairs if (_prompt(pair.row), pair.rejected, pair.chosen) in seen]
    if rows:
        yield Fault(
            "both-ways", True, f"{len(rows)} pairs are there the other way round too", rows, "drop them"
        )


def _wrong_way(pairs: Sequence[Pair]) -> Iterator[Fault]:
    rows = [pair.row.id for pair in pairs if _worse(pair)]
    if rows:
        says = f"{len(rows)} chosen replies are verified to be worse than the rejected ones"
        yield Fault("wrong-way", True, says, rows, "turn them round, or drop them")


def _worse(pair: Pair) -> bool:
    chosen, rejected = _verified(pair.row, pair.chosen), _verified(pair.row, pair.rejected)
    return chosen is not None and rejected is not None and chosen < rejected


def _verified(row: Row, reply: str) -> float | None:
    if row.problem is None:
        return None
    if row.step is not None:
        return verified_step(row, reply.removesuffix("\n"))
    # The start of a reply with what follows it: a reply that does not end there cannot be graded as a whole.
    return domain(row.problem.domain).verify(row.problem, row.prefix + reply) if row.ends else None


def _leaked(pairs: Sequence[Pair]) -> Iterator[Fault]:
    rows = [pair.row.id for pair in pairs if _copies(pair.row, pair.chosen)]
    if not rows:
        return
    others = sum(_copies(pair.row, pair.rejected) for pair in pairs)
    gross = len(rows) > _MANY * len(pairs) and len(rows) > 2 * others
    says = f"the prompt stands in {len(rows)} chosen and {others} rejected replies"
    yield Fault("prompt-leak", gross, says, rows, "cut the prompt out of the replies")


def _copies(row: Row, reply: str) -> bool:
    asked = " ".join(row.messages[-1].content.split())
    return len(asked) >= _LEAST_LEAK and asked in " ".join(reply.split())


def _near_identical(pairs: Sequence[Pair]) -> Iterator[Fault]:
    rows = [
        pair.row.id
        for pair in pairs
        if pair.chosen != pair.rejected and pair.chosen.split() == pair.rejected.split()
    ]
    if rows:
        says = f"{len(rows)} pairs differ in blanks only"
        yield Fault("near-identical", len(rows) > _MANY * len(pairs), says, rows, "drop them")


def _near_duplicates(pairs: Sequence[Pair]) -> Iterator[Fault]:
    """Find pairs whose chosen reply and prompt nearly repeat an earlier pair's, by MinHash of word shingles."""
    found = [pairs[at].row.id for at in near_duplicates([_whole(pair) for pair in pairs])]
    if found:
        says = f"{len(found)} of {len(pairs)} pairs nearly repeat another"
        yield Fault("near-duplicates", len(found) > len(pairs) / 2, says, found, "keep one of each")


def near_duplicates(texts: Sequence[str], *, hashes: int = 64, bands: int = 8) -> list[int]:
    """Return the places of texts whose word shingles are those of an earlier one to nine tenths (Broder 1997)."""
    rng = Random(0)
    lines = [(rng.randrange(1, _PRIME), rng.randrange(_PRIME)) for _ in range(hashes)]
    shingles = [_shingles(text) for text in texts]
    buckets: dict[tuple[int, ...], list[int]] = {}
    found: list[int] = []
    for at, own in enumerate(shingles):
        signature = [min((slope * one + start) % _PRIME for one in own) for slope, start in lines]
        size = hashes // bands
        keys = [(band, *signature[band * size : (band + 1) * size]) for band in range(bands)]
        others = {other for key in keys for other in buckets.get(key, ())}
        if any(len(own & shingles[other]) >= _ALIKE * len(own | shingles[other]) for other in others):
            found.append(at)
        for key in keys:
            buckets.setdefault(key, []).append(at)
    return found


def _shingles(text: str) -> frozenset[int]:
    words = text.split()
    starts = range(max(1, len(words) - _SHINGLE + 1))
    return frozenset(crc32(" ".join(words[at : at + _SHINGLE]).encode()) for at in starts)


def _whole(pair: Pair) -> str:
    return f"{_prompt(pair.row)} {pair.chosen} {pair.rejected}"


def _no_margin(pairs: Sequence[Pair]) -> Iterator[Fault]:
    rows = [pair.row.id for pair in pairs if pair.margin is not None and pair.margin <= 0]
    if rows:
        yield Fault("no-margin", True, f"{len(rows)} pairs have no margin", rows, "drop ties")


def _one_kind(good: Sequence[Row], bad: Sequence[Row]) -> Iterator[Fault]:
    if not good or not bad:
        says = f"{len(good)} replies are good and {len(bad)} bad"
        yield Fault("one-kind", True, says, (), "both kinds are needed to tell them apart")
        return
    ratio = len(good) / len(bad)
    # Equation 8 of the KTO paper: weights times numbers should be about even.
    if not 0.25 <= ratio <= 4:
        weight, value = ("bad_weight", ratio) if ratio > 1 else ("good_weight", 1 / ratio)
        says = f"{len(good)} replies are good and {len(bad)} bad"
        yield Fault("uneven", False, says, (), f"set {weight}: {value:.1f}")


def _judged_both_ways(good: Sequence[Row], bad: Sequence[Row]) -> Iterator[Fault]:
    liked = {(_prompt(row), row.completion) for row in good}
    rows = [row.id for row in bad if (_prompt(row), row.completion) in liked]
    if rows:
        says = f"{len(rows)} replies were called good and bad"
        yield Fault("both-ways", True, says, rows, "drop them")


def _prompt(row: Row) -> str:
    return "\n".join(f"{one.role}: {one.content}" for one in row.messages) + "\n" + row.prefix


def _report(faults: Sequence[Fault], rows: int, length: Interval | None) -> Report:
    return Report(rows, sorted(faults, key=lambda fault: not fault.gross), length)
