"""What a reply is worth: likeness to an expert's action, a domain's verdict, and the form both ask for."""

from random import Random

import pytest

from studium.domains.catalogue import domain
from studium.train.config import Source
from studium.train.data import rows_of_problem
from studium.train.rl.rewards import BAD_FORM, Outcome, StepLikeness, StepVerified, likeness, parted
from studium.train.rows import Row

CHAINS = domain("chains")


def step_row(step: int) -> Row:
    problem = CHAINS.make(Random(3), 3)
    return list(rows_of_problem(CHAINS, problem, Source(domain="chains", teach="step-prompts")))[step]


def test_likeness_is_twice_the_matching_blocks_over_both_lengths():
    """The figures of the step 47+38=85, which make likeness a reward that can be gamed."""
    gold = "47+38=85"
    assert likeness(gold, gold) == 1.0
    assert likeness("47+38=84", gold) == 0.875
    assert likeness("47+38=", gold) == pytest.approx(12 / 14)
    assert likeness("85", gold) == 0.4
    assert likeness("", "") == 1.0
    assert likeness("the sum is 85", "the sum is 86", "words") == 0.75


def test_long_texts_keep_their_likeness():
    """Python's matcher drops frequent characters from 200 on: two texts 80 % equal came out at .16."""
    rng = Random(1)
    gold = "".join(rng.choice("0123456789+-=") for _ in range(400))
    other = "".join(one if rng.random() < 0.8 else "x" for one in gold)
    assert likeness(other, gold) > 0.75


@pytest.mark.parametrize(
    ("text", "thinks", "action"),
    [
        ("3+4=7\n", False, "3+4=7"),
        ("3+4=7", False, "3+4=7"),
        ("3+4=7\n7+1=8\n", False, None),
        ("", False, None),
        ("<think>next +4</think>3+4=7\n", True, "3+4=7"),
        ("3+4=7\n", True, None),
        ("<think>next</think>", True, None),
        ("<think>a</think><think>b</think>3\n", True, None),
    ],
)
def test_a_reply_is_parted_only_where_its_form_is_kept(text: str, thinks: bool, action: str | None):
    assert parted(text, thinks=thinks).action == action


def test_a_step_is_worth_its_likeness_and_broken_form_costs():
    row = step_row(1)
    assert row.problem is not None
    gold = row.problem.steps[1]
    reward = StepLikeness()
    assert reward(row, gold + "\n", True) == 1.0
    assert 0 < (reward(row, gold[:-1] + "\n", True) or 0) < 1
    assert reward(row, gold, False) == BAD_FORM
    assert reward(row, gold, True) == BAD_FORM  # the reply ended although steps are left
    assert reward(row, "\n", True) == BAD_FORM
    assert StepLikeness(exact_bonus=0.5)(row, gold + "\n", True) == 1.5
    assert StepLikeness(exact_bonus=0.5)(row, gold[:-1] + "\n", True) == reward(row, gold[:-1] + "\n", True)


def test_a_verified_step_is_right_or_wrong_and_nothing_between():
    row = step_row(2)
    assert row.problem is not None
    gold = row.problem.steps[2]
    assert StepVerified()(row, gold + "\n", True) == 1.0
    assert StepVerified()(row, gold[:-1] + "\n", True) == 0.0
    assert StepVerified()(row, gold + "\n", False) == 0.0
    assert StepVerified()(row, gold, True) == 0.0
    last = step_row(3)
    assert last.problem is not None and last.ends
    answer = f"Answer: {last.problem.expected}"
    assert (StepVerified()(last, answer, True), StepVerified()(last, answer + "\n", True)) == (1.0, 0.0)


def test_a_step_of_a_domain_that_cannot_verify_steps_is_scored_after_its_experts_steps_only():
    sorting = domain("sorting")
    problem = sorting.make(Random(4), 1)
    rows = list(rows_of_problem(sorting, problem, Source(domain="sorting", teach="steps")))
    assert StepVerified()(rows[-1], rows[-1].completion, True) == 1.0
    strange = Row("strange", rows[-1].messages, prefix="another way\n", problem=problem, step=rows[-1].step)
    assert StepVerified()(strange, rows[-1].completion, True) is None


def test_an_outcome_is_the_domains_verdict_on_the_whole_reply():
    problem = CHAINS.make(Random(3), 3)
    (row,) = rows_of_problem(CHAINS, problem, Source(domain="chains", teach="prompts"))
    assert Outcome()(row, CHAINS.solution(problem), True) == 1.0
    assert Outcome()(row, CHAINS.solution(problem), False) == 0.0
    assert Outcome()(row, "no idea", True) == 0.0
