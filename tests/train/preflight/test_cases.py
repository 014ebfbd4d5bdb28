"""The preflight stops every planted mistake before the first step, by the check that is meant to, and no clean run.

A quarter of the clean runs is tried here, all of them by benchmarks/proving_ground.py.
"""

import pytest
from benchmarks.preflight_cases import Case, clean, planted, stopped_by


@pytest.mark.parametrize("case", planted(), ids=lambda case: case.name)
def test_a_planted_mistake_is_stopped_by_the_check_for_it(case: Case) -> None:
    assert stopped_by(case) == case.check


@pytest.mark.parametrize("case", clean()[::4], ids=lambda case: case.name)
def test_a_run_without_a_mistake_may_begin(case: Case) -> None:
    assert stopped_by(case) is None


def test_there_are_as_many_cases_as_the_benchmark_promises() -> None:
    assert len(planted()) >= 20
    assert len(clean()) >= 30
