"""The worked steps are right, each by itself: a reward per step may rely on them."""

import re
from random import Random

import pytest

from studium.domains.arithmetic import Arithmetic
from studium.domains.columns import add_steps, minus, plus, subtract_steps, times_steps
from studium.domains.measures import MONTH_DAYS, WEEKDAYS, Measures
from studium.domains.programs import Programs
from studium.domains.sentiment import Sentiment
from studium.domains.sorting import Sorting

EQUATION = re.compile(r"(\d+(?:[-+*/]\d+)+)=(\d+)")


@pytest.mark.parametrize("domain", [Arithmetic(), Measures(), Programs()], ids=lambda domain: domain.name)
def test_every_equation_in_the_steps_holds(domain):
    equations = 0
    for seed in range(1500):
        for step in domain.make(Random(seed), domain.levels[seed % 3]).steps:
            for left, right in EQUATION.findall(step):
                left_without_leading_zeros = re.sub(r"\b0+(?=\d)", "", left)
                assert eval(left_without_leading_zeros) == int(right), step
                equations += 1
    assert equations > 1500


def test_carries_and_borrows_are_written_out():
    assert add_steps(47, 58) == ["7+8=15, carry 1", "4+5+1=10"]
    assert subtract_steps(302, 58) == ["2-8: borrow, 12-8=4", "0-5-1: borrow, 10-5-1=4", "3-0-1=2"]
    assert plus(29, 45) == "29+45: 9+5=14, carry 1, 2+4+1=7: 74"
    assert minus(52, 7) == "52-07: 2-7: borrow, 12-7=5, 5-0-1=4: 45"
    assert times_steps(47, 6) == ["7*6=42, carry 4", "4*6=24, 24+4=28"]


def test_weekdays_and_dates_agree_with_the_calendar():
    from datetime import date, timedelta

    months = {name: i for i, name in enumerate(("January", "February", *list(MONTH_DAYS)[1:]), start=1)}
    domain, checked = Measures(), 0
    for seed in range(3000):
        problem = domain.make(Random(seed), 2 + seed % 2)
        facts = problem.facts
        sign = 1 if facts["task"].endswith("after") else -1
        if facts["task"].startswith("weekday"):
            assert (
                problem.expected == WEEKDAYS[(WEEKDAYS.index(facts["weekday"]) + sign * facts["count"]) % 7]
            )
            checked += 1
        if facts["task"].startswith("date"):
            then = date(2027, months[facts["month"]], facts["day"]) + sign * timedelta(days=facts["count"])
            assert problem.expected == f"{then.day} {then:%B}"
            checked += 1
    assert checked > 1000


def test_times_of_day_and_conversions_agree_with_plain_reckoning():
    minutes = {"hours": 60, "minutes": 1, "seconds": 1 / 60, "days": 1440, "weeks": 10080}
    domain, checked = Measures(), 0
    for seed in range(3000):
        problem = domain.make(Random(seed), 1 + seed % 3)
        facts = problem.facts
        if facts["task"] == "duration":
            start, end = (
                int(t.split(":")[0]) * 60 + int(t.split(":")[1]) for t in (facts["start"], facts["end"])
            )
            assert int(problem.expected) == end - start
            checked += 1
        if facts["task"] == "convert" and facts["large"] in minutes:
            expected = facts["count"] * minutes[facts["large"]] / minutes[facts["small"]]
            assert int(problem.expected) == pytest.approx(expected)
            checked += 1
    assert checked > 500


def test_expressions_and_traces_agree_with_python():
    domain = Programs()
    for seed in range(1500):
        problem = domain.make(Random(seed), 1 + seed % 3)
        facts = problem.facts
        if facts["task"] == "evaluate":
            assert eval(facts["expression"]) == int(problem.expected)
        else:
            names: dict[str, int] = {}
            exec(facts["program"].replace("; ", "\n"), {}, names)
            assert names[facts["name"]] == int(problem.expected)


def test_sorting_answers_agree_with_python():
    domain = Sorting()
    answers = {
        "ascending": lambda numbers, value: sorted(numbers),
        "descending": lambda numbers, value: sorted(numbers)[::-1],
        "count": lambda numbers, value: [sum(number == value for number in numbers)],
        "largest": lambda numbers, value: [sorted(numbers)[-1]],
        "smallest": lambda numbers, value: [sorted(numbers)[0]],
        "length": lambda numbers, value: [len(numbers)],
    }
    for seed in range(1500):
        problem = domain.make(Random(seed), 1 + seed % 3)
        expected = answers[problem.facts["task"]](problem.facts["numbers"], problem.facts["value"])
        assert problem.expected == ", ".join(map(str, expected))


def test_a_review_is_what_its_clauses_say():
    domain = Sentiment()
    labels = {
        frozenset({"good"}): "positive",
        frozenset({"bad"}): "negative",
        frozenset({"good", "bad"}): "mixed",
    }
    for seed in range(1500):
        problem = domain.make(Random(seed), 1 + seed % 3)
        judged = frozenset(re.findall(r"= (good|bad)", problem.steps[0]))
        assert problem.expected == labels[judged]
