"""What every shipped domain promises, over many seeds, levels and wordings."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studium.domains.answers import ABSTENTION
from studium.domains.catalogue import shipped_domains
from studium.domains.exact import ExactDomain
from studium.domains.protocol import Problem, Split, make_split, split
from studium.domains.wording import Phrasebook

DOMAINS = shipped_domains()
LEVELS = [(name, level) for name, domain in DOMAINS.items() for level in domain.levels]
seeds = st.integers(min_value=0, max_value=2**32)


def problem_of(name: str, level: int, seed: int) -> Problem:
    return DOMAINS[name].make(Random(seed), level)


@pytest.mark.parametrize(("name", "level"), LEVELS)
@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_the_reference_solution_is_right_and_reads_as_the_expected_answer(name: str, level: int, seed: int):
    problem, domain = problem_of(name, level, seed), DOMAINS[name]
    solution = domain.solution(problem)
    assert domain.verify(problem, solution) == 1.0
    assert domain.extract(solution) == problem.expected
    if isinstance(domain, ExactDomain):
        assert solution.splitlines()[-1] == f"Answer: {problem.expected}"


@pytest.mark.parametrize(("name", "level"), LEVELS)
@settings(max_examples=60, deadline=None)
@given(seed=seeds)
def test_another_answer_scores_nothing(name: str, level: int, seed: int):
    problem, domain = problem_of(name, level, seed), DOMAINS[name]
    other = next(
        other.expected
        for other in (problem_of(name, level, seed + i) for i in range(1, 200))
        if not domain.same(other.expected, problem.expected)
    )
    assert domain.verify(problem, f"Answer: {other}") == 0.0


@pytest.mark.parametrize(("name", "level"), LEVELS)
@pytest.mark.parametrize(
    "reply",
    ["", "   \n", ABSTENTION, "Answer:", "no idea what this could possibly mean, and far too long", "\x00"],
)
def test_a_reply_without_an_answer_is_wrong_rather_than_unscored(name: str, level: int, reply: str):
    assert DOMAINS[name].verify(problem_of(name, level, 1), reply) == 0.0


@pytest.mark.parametrize("name", DOMAINS)
def test_a_problem_of_another_domain_is_not_scored(name: str):
    other = next(other for other in DOMAINS if other != name)
    assert DOMAINS[name].verify(problem_of(other, 1, 1), "Answer: 1") is None


@pytest.mark.parametrize(("name", "level"), LEVELS)
@settings(max_examples=100, deadline=None)
@given(seed=seeds)
def test_only_its_own_domain_recognises_a_question(name: str, level: int, seed: int):
    prompt = problem_of(name, level, seed).prompt
    assert [other for other, domain in DOMAINS.items() if domain.recognises(prompt)] == [name]


@pytest.mark.parametrize("name", [name for name, domain in DOMAINS.items() if hasattr(domain, "phrases")])
def test_every_wording_comes_up_and_is_read_as_the_task_that_was_asked(name: str):
    domain = DOMAINS[name]
    phrases: Phrasebook = getattr(domain, "phrases")  # noqa: B009
    seen = set()
    for seed in range(4000):
        problem = domain.make(Random(seed), domain.levels[seed % 3])
        reading = phrases.read(problem.prompt)
        assert reading is not None
        seen.add(reading.task)
        asked = problem.facts.get("task", reading.task)
        assert reading.task == asked, problem.prompt
    assert seen == set(phrases.templates)


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_equal_seeds_give_equal_problems(name: str, level: int):
    assert [problem_of(name, level, seed) for seed in range(50)] == [
        problem_of(name, level, seed) for seed in range(50)
    ]


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_every_side_of_the_split_is_made_and_a_key_never_changes_sides(name: str, level: int):
    rng, sides = Random(3), {}
    for _ in range(400):
        problem = DOMAINS[name].make(rng, level)
        assert sides.setdefault(problem.key, split(problem)) is split(problem)
    kept = sum(side is not Split.TRAIN for side in sides.values()) / len(sides)
    assert 0.08 < kept < 0.35
    for side in Split:
        assert split(make_split(DOMAINS[name], rng, level, side)) is side


def test_the_split_of_known_problems_is_the_one_the_students_were_trained_with():
    """A changed hash would leak fresh problems into training without any other sign."""
    sides = "".join(split(Problem("arithmetic", f"{a}+58", "", (), "", 1)).value[0] for a in range(40))
    assert sides == SIDES_OF_40_SUMS


SIDES_OF_40_SUMS = "tftttttttsttttttttttttttsttttttttttttttt"
