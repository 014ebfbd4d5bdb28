"""The drills try a stage on eight rows: what eight rows happen to look like is no fault of the whole data."""

import re
from dataclasses import replace
from inspect import getsource
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

from benchmarks.preflight_cases import told_of

from studium.records.messages import Message
from studium.train.config import Source
from studium.train.data import rows_of
from studium.train.models import load, save
from studium.train.preferences import lint
from studium.train.preferences.pairs import Pair, Thumb, write_pairs, write_thumbs
from studium.train.preflight.checking import DRILLS, check, inputs_of

PROBLEMS = Source(domain="arithmetic", levels=(1,), rows=24, seed=5)
RECIPE = """
model: sprout
data: [{{file: "{file}", licence: own}}]
steps: 4
batch: 4
max_tokens: 160
optimiser: {{warmup_steps: 0}}
validation: {{every_steps: 0, problems: 0}}
"""


def said_by_drills(stage: str, file: Path) -> list[tuple[str, bool | None, str]]:
    inputs = inputs_of(told_of(stage, RECIPE.format(file=file)))
    return [(one.name, one.ok, one.says) for one in check(inputs, DRILLS)]


def wrong_of(row) -> str:
    return row.completion.rpartition("\n")[0] + f"\nAnswer: {int(row.problem.expected) + 1}"


def test_a_file_of_thumbs_that_begins_with_eight_good_ones_is_drilled(tmp_path: Path) -> None:
    """The stage judged the eight rows it was drilled on: "one-kind: 8 replies are good and 0 bad"."""
    thumbs = [Thumb(row, good=at < 12) for at, row in enumerate(rows_of((PROBLEMS,)))]
    write_thumbs(thumbs, tmp_path / "thumbs.jsonl")
    assert {name: ok for name, ok, _ in said_by_drills("kto", tmp_path / "thumbs.jsonl")} == {
        "accumulation": None,
        "resume": True,
    }


def test_one_leaking_pair_among_the_first_eight_is_no_fault_of_many_pairs(tmp_path: Path) -> None:
    first, *others = rows_of((PROBLEMS,))
    asked = f"{first.messages[-1].content} Please show how you found it."
    leaking = replace(first, messages=(Message("user", asked),), completion=f"{asked}\n{first.completion}")
    pairs = [Pair(replace(row, problem=None), wrong_of(row)) for row in others]
    pairs.insert(3, Pair(replace(leaking, problem=None), wrong_of(first)))
    write_pairs(pairs, tmp_path / "pairs.jsonl")
    assert not lint.lint_pairs(pairs).gross
    assert {name: ok for name, ok, _ in said_by_drills("dpo", tmp_path / "pairs.jsonl")} == {
        "accumulation": True,
        "resume": True,
    }


def test_every_kind_of_fault_is_allowed_in_a_drill() -> None:
    """A new kind of fault in `preferences.lint` belongs into the list of the drills."""
    kinds = re.findall(r'Fault\(\s*"([a-z-]+)"', getsource(lint))
    assert len(kinds) > 10
    from studium.train.preflight.compute_checks import LINTED

    assert set(kinds) == set(LINTED)


def test_a_run_that_its_watchers_would_end_at_once_is_told_so(tmp_path: Path) -> None:
    """A drill looked for the checkpoint of a run that was halted, and one compared losses that are no numbers."""
    broken = load("sprout")
    next(broken.model.parameters()).data.fill_(float("nan"))
    save(broken, tmp_path / "broken")
    text = RECIPE.replace("sprout", str(tmp_path / "broken"))
    text = text.replace('{{file: "{file}", licence: own}}', "{{domain: sorting, levels: [1], rows: 24}}")
    found = list(check(inputs_of(told_of("sft", text.format())), DRILLS))
    assert [one.ok for one in found] == [False]
    assert "the drill failed: halted after 1 of 1 steps: loss is nan" in found[0].says
