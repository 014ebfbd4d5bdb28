"""A model's own replies as rows: which questions, what is kept, and that nothing measured on is among them."""

import json
from pathlib import Path

from studium.domains.protocol import Split, split
from studium.train.config import Source
from studium.train.data import rows_of
from studium.train.rehearsal import OUTSIDE, questions, rehearsed, write_rows


def test_questions_come_from_the_training_side_of_the_split_and_are_the_same_again():
    asked = questions(["sorting", OUTSIDE], 60, seed=3)
    assert asked == questions(["sorting", OUTSIDE], 60, seed=3)
    problems = [one.problem for one in asked if one.problem]
    assert {one.level for one in problems} == {1, 2, 3}
    assert all(split(one) is Split.TRAIN for one in problems)
    assert sum(one.domain == OUTSIDE for one in asked) > 30


def test_a_right_reply_and_a_refusal_are_kept_and_a_wrong_one_is_not(tmp_path: Path):
    one = next(one for one in questions(["arithmetic"], 3, seed=1) if one.problem)
    assert one.problem
    right = rehearsed(one, f"Answer: {one.problem.expected}")
    wrong = rehearsed(one, f"Answer: 1{one.problem.expected}")
    refusal = rehearsed(questions([OUTSIDE], 1, seed=1)[0], "I cannot answer that.")
    assert (right.kept, wrong.kept, refusal.kept) == (True, False, True)
    path = tmp_path / "below" / "own.jsonl"
    assert write_rows([right, wrong, refusal], path) == 2
    rows = rows_of([Source(file=str(path))])
    assert [row.completion for row in rows] == [right.reply, refusal.reply]
    assert all(json.loads(line)["licence"] for line in path.read_text().splitlines())


def test_a_domain_with_few_different_problems_gives_those_it_has():
    few = questions(["sorting"], 3, seed=1)
    many = questions(["stacks"], 6000, seed=1)
    assert len(few) == 3
    assert 100 < len(many) < 6000


def test_what_the_skill_to_be_trained_could_have_asked_is_left_out():
    assert len(questions(["programs"], 60, seed=1, beside="arithmetic")) == 60
    assert questions(["programs"], 60, seed=1, beside="programs") == []
