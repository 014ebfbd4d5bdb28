"""What counts as a problem that is trained on and measured on: its content, not how it is greeted."""

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

from benchmarks.preflight_cases import clean

from studium.domains.catalogue import domain
from studium.domains.protocol import Problem
from studium.train.preflight.data_checks import overlap
from studium.train.rows import Row, asked

MEASURED = Problem(
    "arithmetic", "38-9", "Can you tell me: What is the difference between 38 and 9?", (), "29", 1
)


@pytest.mark.parametrize(
    ("prompt", "may_begin"),
    [
        ("Can you tell me: What is the value of 4 + 4 + 3?", True),
        ("Tell me: What is the difference between 38 and 9? Thanks!", False),
    ],
)
def test_a_greeting_is_no_overlap_and_another_greeting_hides_none(prompt: str, may_begin: bool) -> None:
    """A declined question of `programs` stopped an improvement of arithmetic: half of either was its greeting."""
    assert not domain("programs").recognises(MEASURED.prompt)
    row = Row("own/1", asked(prompt), completion="I cannot answer that.", licence="generated")
    found = overlap(replace(clean()[0].inputs(), old=[row], evaluation=[MEASURED]))
    assert found.ok is may_begin
