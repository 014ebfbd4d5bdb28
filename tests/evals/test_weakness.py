"""Failures are put together by what they are about, counted once, compared over time, and turned into data."""

from dataclasses import replace
from pathlib import Path

import pytest

from studium.evals.folder import EvalFolder
from studium.evals.grading import Said, grade
from studium.evals.items import fresh_items
from studium.evals.weakness import Seen, Span, data_request, of_evaluations, risen, strong, table, weaknesses

SUM = Seen(1.0, "sprout", "arithmetic", 1, "What is 1 + 2?", "Answer: 4", "3", 0.0)


def sums(number: int, wrong: int, at: float, sign: str = "+", level: int = 1) -> list[Seen]:
    return [
        replace(SUM, at=at, level=level, question=f"What is {n} {sign} {n}?", score=float(n >= wrong))
        for n in range(number)
    ]


def test_clusters_are_domain_level_and_task_and_the_surest_weakness_comes_first():
    seen = sums(20, 5, 1.0) + sums(20, 18, 1.0, sign="-") + sums(20, 0, 1.0, level=2) + sums(4, 4, 1.0, "*")
    weak = weaknesses(seen)
    assert [(one.kind, one.now) for one in weak] == [("subtract", Span(20, 18)), ("add", Span(20, 5))]
    assert weak[0].share.low < 0.9 < weak[0].share.high
    assert [one.score for one in weak[0].examples] == [0.0] * 3
    assert weak[0].change is None
    assert table(weak)[0][-1] == "seen once"


def test_a_question_asked_again_counts_once_with_its_latest_reply_and_the_change_is_told():
    before, lately = sums(30, 27, 1.0), sums(30, 6, 5.0)
    (one,) = weaknesses(lately + before)
    assert (one.now, one.before, one.lately) == (Span(30, 6), Span(30, 27), Span(30, 6))
    assert one.change is not None
    assert one.change.high < 0
    assert table([one])[0][-1].endswith("better")


def test_models_are_not_mixed():
    other = [replace(one, model="clerk", score=1.0) for one in sums(20, 0, 2.0)]
    (one,) = weaknesses(sums(20, 20, 1.0) + other)
    assert (one.model, one.now) == ("sprout", Span(20, 20))


def test_questions_no_domain_reads_are_put_together_by_likeness():
    ships = [
        replace(SUM, domain="open question", level=None, question=f"Who sailed the ship number {n}?")
        for n in range(6)
    ]
    poems = [
        replace(SUM, domain="open question", level=None, question=f"Write a poem of {n} lines on autumn")
        for n in range(6)
    ]
    weak = weaknesses([*ships, *poems])
    assert sorted(one.now for one in weak) == [Span(6, 6), Span(6, 6)]
    assert data_request(weak) == []


def test_what_is_asked_for_is_one_source_for_each_domain_and_level_and_none_of_the_questions():
    weak = weaknesses(sums(20, 18, 1.0) + sums(20, 18, 1.0, sign="-") + sums(20, 4, 1.0, level=2))
    assert data_request(weak) == [
        {"domain": "arithmetic", "levels": [1], "rows": 512, "teach": "solutions"},
        {"domain": "arithmetic", "levels": [2], "rows": 256, "teach": "solutions"},
    ]
    assert strong(sums(20, 1, 1.0, level=3)) == [{"domain": "arithmetic", "levels": [3], "rows": 256}]
    assert strong(sums(20, 9, 1.0)) == []


def test_a_rise_has_an_interval_that_says_when_it_may_be_chance():
    assert risen(Span(10, 2), Span(10, 4)).low < 0
    assert risen(Span(100, 20), Span(100, 60)).low > 0.2
    assert risen(Span(5, 5), Span(5, 5)).low < 0 < risen(Span(5, 5), Span(5, 5)).high


@pytest.mark.parametrize("where", ["runs", "compare"])
def test_evaluations_and_both_sides_of_comparisons_are_read(tmp_path: Path, where: str):
    folder = EvalFolder(tmp_path / "runs", "mine")
    if where == "compare":
        folder = EvalFolder(tmp_path / "compare" / "a-b-1", "tuned")
    folder.begin({"model": "sprout"})
    items = fresh_items(["arithmetic"], 6, 1)
    for item in items[:4]:
        folder.append(grade(item, 0, Said("Answer: none", 0.1)))
    folder.append(grade(items[4], 0, Said("", 0.1, error="it died")))
    seen = of_evaluations(tmp_path)
    assert [(one.model, one.score) for one in seen] == [("sprout", 0.0)] * 4
