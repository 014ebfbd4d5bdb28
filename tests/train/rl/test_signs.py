"""What a step's replies show of a hacked reward, and the second verifier."""

from random import Random

import pytest

from studium.domains.catalogue import domain
from studium.errors import StudiumError
from studium.train.config import Source
from studium.train.data import rows_of, rows_of_problem
from studium.train.rl.rollouts import Group
from studium.train.rl.samplers import Draw
from studium.train.rl.signs import (
    copies,
    every_step_right,
    same_reply,
    second_verifier,
    signs_of,
    well_formed,
)

CHAINS = domain("chains")
PROBLEM = CHAINS.make(Random(3), 3)
ROWS = rows_of([Source(domain="arithmetic", levels=(1,), rows=4, teach="prompts")])


def group(at: int, *texts: str, ended: bool = True) -> Group:
    draws = [Draw(list(range(len(text))), (), ended) for text in texts]
    return Group(ROWS[at], (), draws, texts, [0.0] * len(texts))


def test_sound_replies_show_no_sign():
    found = signs_of([group(0, "Answer: 41", "Answer: 42"), group(1, "Answer: 7", "Answer: 8")], thinks=False)
    sound = {"reply_tokens": 9.5, "cut_off": 0.0, "well_formed": 1.0, "copied": 0.0, "same_reply": 0.0}
    assert found == sound | {"reward_least": 0.0, "reward_most": 0.0}


def test_each_sign_is_a_share_of_what_was_drawn():
    prompt = ROWS[0].messages[-1].content
    found = signs_of(
        [group(0, prompt, "no no no no", ended=False), group(1, "no no no no", "Answer: 3")], thinks=False
    )
    assert found["cut_off"] == 0.5
    assert found["well_formed"] == 0.25
    assert found["copied"] == 0.25
    assert found["same_reply"] == 0.5


def test_nothing_drawn_has_no_signs():
    assert signs_of([], thinks=False) == {}


def test_one_reply_counts_only_where_two_prompts_got_it():
    assert same_reply([("one", "a"), ("one", "a"), ("two", "b")]) == 0.0
    assert same_reply([("one", "a"), ("two", "a"), ("two", "b"), ("two", "c")]) == 0.5


def test_a_step_that_ends_the_reply_too_early_has_broken_form():
    row = next(iter(rows_of_problem(CHAINS, PROBLEM, Source(domain="chains", teach="step-prompts"))))
    step = CHAINS.solution(PROBLEM).split("\n")[0]
    assert well_formed(row, f"{step}\n", True, thinks=False)
    assert not well_formed(row, step, True, thinks=False)
    assert not well_formed(row, f"{step}\n", False, thinks=False)


def test_a_number_of_the_prompt_is_no_copy():
    assert not copies(
        ROWS[0], "Answer: " + "".join(one for one in ROWS[0].messages[-1].content if one.isdigit())
    )
    assert copies(ROWS[0], "well: " + ROWS[0].messages[-1].content)


@pytest.mark.parametrize("spoilt", [0, 1])
def test_a_right_answer_behind_a_wrong_step_is_not_right_by_steps(spoilt: int):
    lines = CHAINS.solution(PROBLEM).split("\n")
    assert every_step_right(PROBLEM, "\n".join(lines)) == 1.0
    lines[spoilt] += "0"
    assert CHAINS.verify(PROBLEM, "\n".join(lines)) == 1.0
    assert every_step_right(PROBLEM, "\n".join(lines)) == 0.0


def test_right_steps_without_an_answer_are_not_right_and_other_domains_are_not_scored():
    assert every_step_right(PROBLEM, "\n".join(CHAINS.solution(PROBLEM).split("\n")[:-1])) == 0.0
    arithmetic = ROWS[0].problem
    assert arithmetic is not None
    assert every_step_right(arithmetic, f"Answer: {arithmetic.expected}") is None


ASSEMBLY = domain("assembly")
PROGRAMS = [ASSEMBLY.make(Random(seed), 2) for seed in range(20)]
WRITTEN = next(one for one in PROGRAMS if one.facts["task"] == "write")
TRACED = next(one for one in PROGRAMS if one.facts["task"] == "trace")


def test_a_program_whose_lines_nobody_can_verify_is_not_scored_by_them_right_or_wrong():
    """Right ones counted 0, so that who learned to write programs was stopped as a cheat; were only wrong ones scored,
    the share would be 0 as well."""
    solution = ASSEMBLY.solution(WRITTEN)
    for reply in (solution, solution.split("\n")[-1], f"{solution}; NOP", "Answer: NOP", ""):
        assert every_step_right(WRITTEN, reply) is None
    assert ASSEMBLY.verify(WRITTEN, solution) == 1.0
    assert ASSEMBLY.verify(WRITTEN, "Answer: NOP") == 0.0


def test_the_steps_of_a_trace_are_scored_as_before():
    lines = ASSEMBLY.solution(TRACED).split("\n")
    assert every_step_right(TRACED, "\n".join(lines)) == 1.0
    assert every_step_right(TRACED, "\n".join([*lines[:-1], "Answer: $00, or $01"])) == 0.0
    assert every_step_right(TRACED, "\n".join(["NOP", *lines[1:]])) == 0.0
    assert every_step_right(TRACED, lines[-1]) == 0.0


def test_a_wrong_step_decides_before_one_that_cannot_be_verified():
    lines = CHAINS.solution(PROBLEM).split("\n")
    assert CHAINS.verify_step(PROBLEM, ["9+9=9", *lines[1:2]], lines[2]) is None  # pyright: ignore[reportAttributeAccessIssue]
    assert every_step_right(PROBLEM, "\n".join(["9+9=9", *lines[1:]])) == 0.0


SUMS = [domain("arithmetic").make(Random(seed), 1) for seed in range(20)]


def test_another_domain_scores_the_same_replies_again():
    second = second_verifier("measures", SUMS)
    assert second is not None
    assert second(SUMS[0], f"Answer: {SUMS[0].expected}") == 1.0
    assert second(SUMS[0], "Answer: no idea") == 0.0
    assert second_verifier("", SUMS) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("arithmetik", "did you mean 'arithmetic'"),
        ("arithmetic", "is that of the reward"),
        ("sentiment", "does not give it full marks"),
        ("assembly", "does not give it full marks"),
    ],
)
def test_a_second_verifier_that_can_tell_nothing_is_refused(name: str, words: str):
    with pytest.raises(StudiumError) as told:
        second_verifier(name, SUMS)
    assert words in f"{told.value.happened} {told.value.try_next}"
