"""How grades, cards and levels make a posterior."""

from dataclasses import replace

import pytest
from tests.serve.briefs import student

from studium.records.grades import WHOLE, Counts
from studium.records.models import Tier
from studium.serve.history.reliability import MOST_CARD_GRADES, MOST_FORMER_GRADES, ROOT, Reliability

A, B, C = student("a"), student("b"), student("c")
CARDED = replace(A, skills={"sums": 0.9})
MODELS = {"a": "now", "b": "now", "c": "now"}


def known(*counts: Counts, a=A):
    return Reliability(counts, {"a": a, "b": B, "c": C}, MODELS)


def graded(name: str, kind: str, right: float, wrong: float, model: str = "now") -> Counts:
    return Counts(name, kind, model, right, wrong)


def test_of_whom_nothing_is_known_is_as_good_as_any_other():
    found = known()
    assert found.mean(A, "sums") == ROOT
    assert found.evidence(A, "sums") == 0.0
    low, high = found.posterior(A, "sums").interval()[1:]
    assert low < 0.25 and high > 0.75


def test_grades_decide_in_the_end_and_narrow_the_interval():
    few, many = known(graded("a", "sums", 3, 0)), known(graded("a", "sums", 180, 20))
    assert ROOT < few.mean(A, "sums") < 1.0
    assert many.mean(A, "sums") == pytest.approx(0.9, abs=0.02)
    assert many.posterior(A, "sums").interval().low > few.posterior(A, "sums").interval().low
    assert many.evidence(A, "sums") == 200


def test_a_student_that_is_good_at_two_kinds_is_expected_to_be_better_at_a_third():
    found = known(graded("a", "sums", 90, 10), graded("a", "poems", 85, 15))
    assert found.mean(A, "maps") > 0.65
    assert found.mean(A, "maps") < found.mean(A, "sums")


def test_the_kind_asked_most_does_not_stand_for_all():
    found = known(graded("a", "sums", 200, 0), graded("a", "poems", 0, 20))
    assert 0.4 < found.level(A) < 0.65


def test_a_tier_lends_its_level_to_a_newcomer():
    strong = known(*(graded(name, kind, 45, 5) for name in "ab" for kind in ("sums", "poems")))
    assert strong.mean(C, "sums") > 0.6
    other_tier = replace(C, tier=Tier.QUALITY)
    rebuilt = Reliability(
        [graded(name, "sums", 45, 5) for name in "ab"], {"a": A, "b": B, "c": other_tier}, MODELS
    )
    assert rebuilt.mean(other_tier, "sums") == ROOT


def test_a_card_counts_until_history_says_otherwise():
    assert known(a=CARDED).mean(CARDED, "sums") > 0.83
    assert known(a=CARDED).evidence(CARDED, "sums") == MOST_CARD_GRADES
    assert known(graded("a", "sums", 20, 180), a=CARDED).mean(CARDED, "sums") < 0.35


def test_a_card_says_nothing_of_other_kinds():
    assert known(a=CARDED).mean(CARDED, "poems") == ROOT


def test_a_new_model_begins_near_the_old_one_but_far_less_certain():
    old, new = known(graded("a", "sums", 180, 20)), known(graded("a", "sums", 180, 20, model="before"))
    assert new.evidence(A, "sums") == pytest.approx(MOST_FORMER_GRADES)
    assert 0.6 < new.mean(A, "sums") < old.mean(A, "sums")
    widths = [
        one.posterior(A, "sums").interval().high - one.posterior(A, "sums").interval().low
        for one in (old, new)
    ]
    assert widths[1] > 2 * widths[0]


def test_an_improved_model_is_believed_after_a_few_grades_of_its_own():
    counts = [graded("a", "sums", 10, 190, model="before"), graded("a", "sums", 30, 0)]
    assert known(*counts).mean(A, "sums") > 0.65


def test_grades_of_whole_answers_and_of_students_gone_count_for_nobody():
    found = known(graded(WHOLE, "sums", 0, 100), graded("gone", "sums", 0, 100))
    assert found.mean(A, "sums") == ROOT
    assert found.mean(student("stranger"), "sums") == ROOT
