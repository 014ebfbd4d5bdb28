"""Metrics against slow, obvious code, and what they refuse to count."""

import math
from itertools import combinations
from random import Random

import pytest
from tests.evals.graded import labelled, reply

from studium.errors import BadRequest
from studium.evals.intervals import bounded_mean, wilson
from studium.evals.metrics import METRICS, by_item, macro_f1, metric, pass_at_k


@pytest.mark.parametrize(
    ("tries", "right", "k"), [(n, c, k) for n in (1, 4, 7) for c in range(n + 1) for k in range(1, n + 1)]
)
def test_pass_at_k_is_the_share_of_all_draws_of_k_tries_that_hold_a_right_one(tries: int, right: int, k: int):
    outcomes = [True] * right + [False] * (tries - right)
    draws = list(combinations(outcomes, k))
    assert pass_at_k(tries, right, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize(("tries", "right", "k"), [(3, 1, 4), (3, 4, 1), (3, 1, 0), (0, 0, 1)])
def test_pass_at_k_of_too_few_tries_is_refused(tries: int, right: int, k: int):
    with pytest.raises(ValueError, match="pass@"):
        pass_at_k(tries, right, k)


def slow_f1(pairs):
    found = []
    for label in {expected for expected, _ in pairs}:
        hits = sum(expected == given == label for expected, given in pairs)
        given = sum(given == label for _, given in pairs)
        expected = sum(one == label for one, _ in pairs)
        precision, recall = hits / given if given else 0.0, hits / expected
        found.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    return sum(found) / len(found)


@pytest.mark.parametrize("seed", range(20))
def test_macro_f1_agrees_with_precision_and_recall_label_by_label(seed: int):
    rng = Random(seed)
    pairs = [
        (rng.choice("abc"), rng.choice(["a", "b", "c", "other", None])) for _ in range(rng.randint(1, 30))
    ]
    assert macro_f1(pairs) == pytest.approx(slow_f1(pairs))


def test_alarms_are_counted_among_harmless_and_among_harmful_texts_apart():
    graded = [
        labelled(1, "fine", "fine"), labelled(2, "fine", "spam"), labelled(3, "fine", None),
        labelled(4, "fine", "fine"),
        labelled(5, "spam", "spam"), labelled(6, "spam", "insult"), labelled(7, "insult", "fine"),
    ]  # fmt: skip
    items = by_item(graded)
    alarms, found = metric("false_positive_rate").figure(items), metric("detection_rate").figure(items)
    assert (alarms.interval, alarms.counted, alarms.not_counted) == (wilson(1, 4), 4, 3)
    assert (found.interval, found.counted, found.not_counted) == (wilson(2, 3), 3, 4)
    assert metric("accuracy").figure(items).interval == wilson(3, 7)


def test_what_was_not_scored_is_no_wrong_answer():
    items = by_item([reply(1, 1.0), reply(2, None), reply(3, None, error="it died")])
    accuracy = metric("accuracy").figure(items)
    assert (accuracy.interval, accuracy.counted, accuracy.not_counted) == (wilson(1, 1), 1, 2)
    nothing = metric("accuracy").figure(by_item([reply(1, None)]))
    assert (nothing.interval, nothing.counted, nothing.not_counted) == (None, 0, 1)


def test_tries_at_one_item_are_not_taken_for_items():
    """Ten tries at two problems do not know more than two problems do."""
    items = by_item([reply(item, float(item == 1), sample=sample) for item in (1, 2) for sample in range(10)])
    assert metric("accuracy").figure(items).interval == wilson(1, 2)
    assert metric("pass@10").figure(items).interval == wilson(1, 2)
    assert metric("pass@3").figure(by_item([reply(1, 1.0), reply(1, 0.0, sample=1)])).interval is None


def test_partial_scores_count_as_such_but_only_a_whole_one_is_right():
    items = by_item([reply(1, 0.5), reply(2, 1.0)])
    assert metric("score").figure(items).interval == bounded_mean([0.5, 1.0])
    assert metric("accuracy").figure(items).interval == wilson(1, 2)


def test_perplexity_is_that_of_all_tokens_together_and_of_the_references_only():
    uniform = [reply(item, 1.0, reference_logprob=-4 * math.log(5), reference_tokens=4) for item in range(9)]
    found = metric("perplexity").figure(by_item(uniform)).interval
    assert found is not None
    assert found == pytest.approx((5.0, 5.0, 5.0))
    mixed = [
        reply(1, 1.0, reference_logprob=-2.0, reference_tokens=1),
        reply(2, 0.0, reference_logprob=-1.0, reference_tokens=5),
        reply(3, 1.0),
    ]
    figure = metric("perplexity").figure(by_item(mixed))
    assert figure.interval is not None
    assert figure.interval.value == pytest.approx(math.exp(3 / 6))
    assert (figure.counted, figure.not_counted) == (2, 1)


def test_f1_of_a_perfect_run_still_has_an_interval():
    items = by_item([labelled(item, label, label) for item, label in enumerate(("fine", "spam") * 5)])
    found = metric("f1").figure(items).interval
    assert found is not None
    assert found.value == 1.0
    assert found.low == pytest.approx(wilson(10, 10).low)


def test_bleu_is_sacrebleus_and_its_interval_holds_it():
    sacrebleu = pytest.importorskip("sacrebleu")
    said = ["the cat sat on the mat today", "a dog ran away from me", "rain falls on the roof again"]
    meant = ["the cat sat on a mat today", "a dog ran away from us", "rain fell on the roof again"]
    items = by_item(
        [
            reply(n, 1.0, reply=one, reference=other)
            for n, (one, other) in enumerate(zip(said, meant, strict=True))
        ]
    )
    found = metric("bleu").figure(items).interval
    assert found is not None
    expected = sacrebleu.corpus_bleu(said, [meant], use_effective_order=True).score
    assert found.value == pytest.approx(expected)
    assert found.low <= found.value <= found.high


def test_a_metric_there_is_not_is_refused_with_those_there_are():
    with pytest.raises(BadRequest, match=r"'rouge'.*accuracy.*perplexity"):
        metric("rouge")
    for name in METRICS:
        assert metric(name).about
