"""The drills: chains of steps that can be verified one by one."""

from random import Random

import pytest

from studium.domains.drills import MADE_UP_FROM, PARTNERS, Chains, Drill, Registers, Stacks, drills


@pytest.mark.parametrize(
    ("drill", "task", "answer"),
    [
        (Chains(), "7+9*8-4", "4"),  # 16 is 6, 48 is 8, 8 - 4
        (Chains(), "2-5", "7"),
        (Registers(), "a7b3c0,a-b,b+a,a*b", "8"),  # a 4, b 7, a 28
        (Chains(), "5@4@3", str(PARTNERS[1][PARTNERS[0][5]])),
        (Stacks(), "346+6-+", "7"),  # 4 + 6 is 0, 0 - 6 is 4, 3 + 4
    ],
)
def test_answers_follow_by_hand(drill: Drill, task: str, answer: str):
    assert drill.work(task)[1] == answer
    assert drill.check(f"{drill.name} {task}", f"Answer: {answer}") == 1.0
    assert drill.check(f"{drill.name} {task}", f"Answer: {(int(answer) + 1) % 10}") == 0.0


@pytest.mark.parametrize("drill", drills(), ids=lambda drill: drill.name)
def test_a_level_is_the_number_of_steps_and_each_is_verified_only_after_right_ones(drill: Drill):
    for level in drill.levels:
        problem = drill.make(Random(level), level)
        assert len(problem.steps) == level - MADE_UP_FROM * (level > MADE_UP_FROM)
        assert ("@" in problem.prompt) == (level > MADE_UP_FROM)
        lines = [*problem.steps, f"Answer: {problem.expected}"]
        assert len(drill.thoughts(problem)) == len(lines)
        for at, line in enumerate(lines):
            assert drill.verify_step(problem, lines[:at], line) == 1.0
            assert drill.verify_step(problem, lines[:at], line + "0") == 0.0
        assert drill.verify_step(problem, ["9+9=9", *lines[1:2]], lines[-1]) is None


def test_somebody_who_calculates_wrongly_goes_on_from_what_they_found():
    steps, answer = Chains().work("5+1+1", lambda one, operation, other: (one + other + 1) % 10)
    assert [step.text for step in steps] == ["5+1=7", "7+1=9"]
    assert answer == "9"


@pytest.mark.parametrize(
    "text", ["chains", "chains 7+", "stacks 7+", "stacks 77", "registers a1b2,c+d", "7+9*8-4"]
)
def test_what_is_no_task_is_not_recognised(text: str):
    assert not any(drill.recognises(text) for drill in drills())
