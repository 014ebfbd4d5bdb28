"""What a comparison asks, counts and says."""

import pytest

from studium.domains.catalogue import domain
from studium.errors import BadRequest
from studium.evals.items import fresh_items, items_of_file
from studium.serve.comparison.measure import ADAPTIVE, Outcome, Scheme, paired_points, schemes, total
from studium.serve.comparison.report import Comparison, as_data, markdown, page, sentences


def outcome(score: float | None, calls: int = 1, cost: float | None = 0.0) -> Outcome:
    return Outcome(score, False, calls, 0, 0.5, 10, cost)


def comparison(mine: list[Outcome], others: list[Outcome]) -> Comparison:
    ways = schemes("<b>best</b>")
    outcomes = {one.name: mine if one.name == ADAPTIVE else others for one in ways}
    return Comparison("tests", "chosen", [total(one, outcomes[one.name]) for one in ways], outcomes)


def test_fresh_problems_grade_their_own_solutions_and_come_out_the_same_again():
    items = fresh_items(["arithmetic", "sorting"], 6, seed=3)
    assert [one.question for one in items] == [
        one.question for one in fresh_items(["arithmetic", "sorting"], 6, 3)
    ]
    assert len(items) == 12
    for item in items:
        assert item.problem is not None
        assert item.grade(item.domain.solution(item.problem)) == 1.0
        assert item.grade("I do not know") == 0.0


def test_a_file_of_questions_is_graded_by_the_domain_that_knows_them(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text(
        '{"question": "What is 2 + 2?", "answer": "4"}\n\n{"question": "Who wrote Hamlet?", "answer": "Shakespeare"}\n'
    )
    sum_, author = items_of_file(file)
    assert sum_.domain is domain("arithmetic") and sum_.grade("2+2=4\nAnswer: 4") == 1.0
    assert author.grade("Answer: **shakespeare**") == 1.0
    assert author.grade("Answer: Marlowe") == 0.0


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"question": ""}',
        '{"question": 3, "answer": "4"}',
        '{"question": "x", "answer": "y", "domain": "sum"}',
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path, line):
    file = tmp_path / "mine.jsonl"
    file.write_text(f'{{"question": "What is 2 + 2?", "answer": "4"}}\n{line}\n')
    with pytest.raises(BadRequest, match=r"mine\.jsonl:2|no domain"):
        items_of_file(file)


def test_what_was_not_scored_is_counted_apart_and_never_as_wrong():
    summed = total(Scheme("x", "", lambda text: None), [outcome(1.0), outcome(None), outcome(0.0)])  # type: ignore[arg-type, return-value]
    assert (summed.asked, summed.scored) == (3, 2)
    assert summed.accuracy is not None and summed.accuracy.value == 0.5
    unscored = total(Scheme("x", "", lambda text: None), [outcome(None, cost=None)])  # type: ignore[arg-type, return-value]
    assert unscored.accuracy is None and unscored.cost_usd is None


def test_a_difference_is_paired_and_says_when_it_may_be_chance():
    mine, others = [outcome(1.0)] * 40, [outcome(0.0, calls=6)] * 20 + [outcome(1.0, calls=6)] * 20
    points = paired_points(mine, others)
    assert points is not None and points.value == 50.0 and points.low > 0
    assert "50.0 more of 100 right" in sentences(comparison(mine, others))[0]
    assert "0.17 of its calls" in sentences(comparison(mine, others))[0]
    one_apart = comparison([*mine[:-1], outcome(0.0)], mine)
    assert "fewer of 100 right" in sentences(one_apart)[0] and "may be chance" in sentences(one_apart)[0]


def test_the_reports_escape_what_names_bring_and_hold_the_same_figures():
    found = comparison([outcome(1.0)] * 4, [outcome(0.0)] * 4)
    assert "&lt;b&gt;best" in page(found) and "<b>best</b>" not in page(found)
    assert "| adaptive | 100.0 (" in markdown(found)
    data = as_data(found)
    assert data["adaptive_better_by_points"]["everyone"]["value"] == 100.0
    assert data["ways"][0]["accuracy"]["value"] == 1.0
