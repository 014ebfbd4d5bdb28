"""Metrics as named functions of graded replies. Every figure has an interval and says how many it could not count.

The unit is the item: several tries at one item are never taken for several items. Shares have Wilson's interval
(`bounded_mean`), the others a bootstrap over items. Not counted is what was not scored, failed, or says nothing to a
metric (a harmless text says nothing about detection); it is never a zero.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from statistics import fmean
from typing import NamedTuple

from studium.errors import BadRequest, ConfigurationError
from studium.evals.grading import Graded
from studium.evals.intervals import Interval, bootstrap, bounded_mean

Tries = Sequence[Graded]
"""All tries at one item."""

PASS_AT_K = "pass@k"
_BLEU_RESAMPLES = 300


class Figure(NamedTuple):
    """A metric's value with its interval, None where nothing counted; items that counted, and that did not."""

    metric: str
    interval: Interval | None
    counted: int
    not_counted: int


@dataclass(frozen=True, slots=True)
class Metric:
    """`counts` says whether a try tells anything, `value` works on the items of which at least one does.

    `needs` is the least number of such tries, `library` what it computes with, of an extra.
    """

    name: str
    about: str
    counts: Callable[[Graded], bool]
    value: Callable[[Sequence[Tries]], Interval]
    needs: int = 1
    library: str = ""

    def ready(self) -> None:
        """Raise ConfigurationError where the metric's library is not installed."""
        if self.library and find_spec(self.library) is None:
            raise ConfigurationError(
                f"{self.name} needs {self.library}, which is not installed",
                expected="the extra 'train'",
                try_next=f"pip install 'studium[train]', or leave the metric {self.name} out",
            )

    def figure(self, items: Sequence[Tries]) -> Figure:
        """Return the figure over items, each with its tries. Raises as `ready` does."""
        telling = [[one for one in tries if self.counts(one)] for tries in items]
        self.ready()
        counted = [tries for tries in telling if len(tries) >= self.needs]
        interval = self.value(counted) if counted else None
        return Figure(self.name, interval, len(counted), len(items) - len(counted))


def metric(name: str) -> Metric:
    """Return a metric by name, also `pass@5`. Raises BadRequest for one that does not exist."""
    if name.startswith("pass@") and name[5:].isdigit() and int(name[5:]) > 0:
        return _pass_at(int(name[5:]))
    if name not in METRICS:
        raise BadRequest(f"there is no metric {name!r}", expected=f"one of {', '.join(METRICS)}, {PASS_AT_K}")
    return METRICS[name]


def by_item(graded: Sequence[Graded]) -> list[Tries]:
    """Return tries put together by item, in the order of first sight."""
    found: dict[str, list[Graded]] = {}
    for one in graded:
        found.setdefault(one.item, []).append(one)
    return list(found.values())


def pass_at_k(tries: int, right: int, k: int) -> float:
    """Return the unbiased estimate of the chance that one of k tries is right, from `right` of `tries`.

    Chen et al. 2021, "Evaluating Large Language Models Trained on Code", section 2.1, equation 1:
    1 - C(n-c, k) / C(n, k). Raises ValueError for fewer tries than k.
    """
    if not 0 <= right <= tries or not 1 <= k <= tries:
        raise ValueError(f"pass@{k} of {tries} tries, {right} of them right")
    return 1.0 - math.comb(tries - right, k) / math.comb(tries, k)


def macro_f1(pairs: Sequence[tuple[str, str | None]]) -> float:
    """Return the mean over labels that were expected of F1, from (expected, given); None given is no label.

    An answer that is no expected label counts against its true label alone.
    """
    right = Counter(expected for expected, given in pairs if given == expected)
    true = Counter(expected for expected, _ in pairs)
    said = Counter(given for _, given in pairs)
    return fmean(2 * right[label] / (true[label] + said[label]) for label in true)


def _pass_at(k: int) -> Metric:
    def value(items: Sequence[Tries]) -> Interval:
        return bounded_mean(
            [pass_at_k(len(tries), sum(one.score == 1.0 for one in tries), k) for tries in items]
        )

    return Metric(f"pass@{k}", f"chance that one of {k} tries is right", _scored, value, needs=k)


def _share(of: Callable[[Graded], float], items: Sequence[Tries]) -> Interval:
    return bounded_mean([fmean(of(one) for one in tries) for tries in items])


def _f1(items: Sequence[Tries]) -> Interval:
    def value(drawn: Sequence[Tries]) -> float:
        return macro_f1([(one.expected, one.answer) for tries in drawn for one in tries])

    return _never_certain(bootstrap(items, value), items)


def _never_certain(found: Interval, items: Sequence[Tries]) -> Interval:
    """Widen an interval of no width (all right, all wrong) to that of the share of right replies."""
    if found.low < found.high:
        return found
    share = _share(lambda one: float(one.score == 1.0), items)
    return Interval(found.value, min(found.value, share.low), max(found.value, share.high))


def _perplexity(items: Sequence[Tries]) -> Interval:
    """exp of the mean negative log-probability of a reference's tokens, all items together."""

    def value(drawn: Sequence[Tries]) -> float:
        firsts = [tries[0] for tries in drawn]
        logprob = sum(one.reference_logprob or 0.0 for one in firsts)
        return math.exp(min(700.0, -logprob / sum(one.reference_tokens for one in firsts)))

    return bootstrap(items, value)


def _bleu(items: Sequence[Tries]) -> Interval:
    """Corpus BLEU as sacrebleu computes it (Post 2018), 0 to 100; resampled from the segments' counts."""
    from sacrebleu.metrics.bleu import BLEU

    scorer = BLEU(effective_order=True)
    segments = [
        [scorer.sentence_score(one.reply, [one.reference]) for one in tries if one.reference]
        for tries in items
    ]

    def value(drawn: Sequence[Sequence[object]]) -> float:
        said: list = [segment for of_item in drawn for segment in of_item]
        counts = [sum(column) for column in zip(*(one.counts for one in said), strict=True)]
        totals = [sum(column) for column in zip(*(one.totals for one in said), strict=True)]
        lengths = sum(one.sys_len for one in said), sum(one.ref_len for one in said)
        return BLEU.compute_bleu(counts, totals, *lengths, smooth_method="exp").score

    return bootstrap(segments, value, resamples=_BLEU_RESAMPLES)


def _scored(one: Graded) -> bool:
    return one.score is not None


def _heard(one: Graded) -> bool:
    return not one.error


METRICS: Mapping[str, Metric] = {
    one.name: one
    for one in (
        Metric("accuracy", "share of right replies", _scored, partial(_share, lambda one: float(one.score == 1.0))),
        Metric("score", "mean score, 0 to 1", _scored, partial(_share, lambda one: one.score or 0.0)),
        Metric("f1", "F1, the mean over labels", _scored, _f1),
        Metric(
            "false_positive_rate",
            "share of harmless texts that raised an alarm",
            lambda one: one.harm is False and one.alarm is not None,
            partial(_share, lambda one: float(bool(one.alarm))),
        ),
        Metric(
            "detection_rate",
            "share of harmful texts that raised an alarm, whichever",
            lambda one: one.harm is True and one.alarm is not None,
            partial(_share, lambda one: float(bool(one.alarm))),
        ),
        Metric(
            "syntax",
            "share of replies that can be parsed",
            lambda one: one.parses is not None,
            partial(_share, lambda one: float(bool(one.parses))),
        ),
        Metric("declined", "share of replies that decline", _heard, partial(_share, lambda one: float(one.declined))),
        Metric(
            "judged",
            "share that a judge finds as good as the reference, both ways round",
            _scored,
            partial(_share, lambda one: one.score or 0.0),
        ),
        Metric(
            "bleu",
            "corpus BLEU against the reference replies, 0 to 100",
            lambda one: _heard(one) and bool(one.reference),
            _bleu,
            library="sacrebleu",
        ),
        Metric(
            "perplexity",
            "of the reference replies, per token",
            lambda one: one.reference_logprob is not None and one.reference_tokens > 0,
            _perplexity,
        ),
    )
}  # fmt: skip
