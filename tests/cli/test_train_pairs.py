"""`studium train pairs` and `lint`, in processes of their own: made from a student's replies, and from feedback."""

import json
from pathlib import Path

import orjson
import pytest
from tests.cli.roster import studium

pytestmark = pytest.mark.slow
pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

MAKE = ("--model", "sprout", "--domain", "arithmetic", "--level", "1", "--temperature", "1.5")


def test_pairs_made_of_a_students_steps_pass_the_linter_and_train(tmp_path: Path):
    made = studium("train", "pairs", *MAKE, "--steps", "--prompts", "12", "--out", "p.jsonl", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "studium train lint p.jsonl\n"
    lines = [orjson.loads(line) for line in (tmp_path / "p.jsonl").read_bytes().splitlines()]
    assert lines
    assert all(line["chosen"] != line["rejected"] and line["margin"] == 1.0 for line in lines)
    linted = studium("train", "lint", "p.jsonl", "--json", folder=tmp_path)
    told = json.loads(linted.stdout)
    assert told["rows"] == len(lines)
    gross = {fault["kind"] for fault in told["faults"] if fault["gross"]}
    assert gross <= {"length-bias"}
    recipe = "model: sprout\nname: d\ndata: [{file: p.jsonl}]\nsteps: 2\nbatch: 4\nallow: [length-bias]\n"
    (tmp_path / "d.yaml").write_text(recipe + "validation: {every_steps: 0}\nmax_tokens: 128\n")
    trained = studium("train", "dpo", "--config", "d.yaml", "--workspace", "state", folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "state" / "runs" / "d" / "checkpoint" / "model.gguf").exists()


def test_the_same_pairs_are_made_from_a_file_that_says_the_same(tmp_path: Path):
    (tmp_path / "pairs.yaml").write_text(
        "model: sprout\ntemperature: 1.5\n"
        "data: [{domain: arithmetic, levels: [1], rows: 6, seed: 1, teach: prompts}]\n"
    )
    one = studium("train", "pairs", *MAKE, "--prompts", "6", "--out", "one.jsonl", "--json", folder=tmp_path)
    other = studium(
        "train", "pairs", "--config", "pairs.yaml", "--out", "other.jsonl", "--json", folder=tmp_path
    )
    first, second = json.loads(one.stdout), json.loads(other.stdout)
    assert (first.pop("file"), second.pop("file")) == ("one.jsonl", "other.jsonl")
    assert first == second
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "other.jsonl").read_bytes()


def test_gross_faults_are_shown_with_their_rows_and_an_exit_status_of_their_own(tmp_path: Path):
    lines = [{"id": f"row {at}", "prompt": "a", "chosen": "same", "rejected": "same"} for at in range(2)]
    (tmp_path / "p.jsonl").write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    linted = studium("train", "lint", "p.jsonl", folder=tmp_path)
    assert linted.returncode == 3
    assert "REFUSED  identical: 2 pairs of equal replies\n  row 0, row 1\n  drop them" in linted.stdout


def test_what_was_said_of_an_answer_becomes_a_pair_and_a_thumb(tmp_path: Path):
    workspace = ("--workspace", "state")
    asked = studium("ask", "--json", *workspace, "What is 12+30?", folder=tmp_path)
    answer = json.loads(asked.stdout)
    said = studium("feedback", *workspace, answer["request_id"], "Answer: 43", folder=tmp_path)
    assert said.returncode == 0, said.stderr
    files = ("--out", "p.jsonl", "--thumbs", "t.jsonl")
    made = studium("train", "pairs", "--feedback", *workspace, *files, folder=tmp_path)
    assert made.returncode == 0, made.stderr
    [pair] = [orjson.loads(line) for line in (tmp_path / "p.jsonl").read_bytes().splitlines()]
    assert (pair["chosen"], pair["rejected"]) == ("Answer: 43", answer["text"])
    thumbs = [orjson.loads(line) for line in (tmp_path / "t.jsonl").read_bytes().splitlines()]
    assert [(one["completion"], one["good"]) for one in thumbs] == [
        (answer["text"], False),
        ("Answer: 43", True),
    ]


def test_what_is_missing_is_said_before_anything_is_loaded(tmp_path: Path):
    made = studium("train", "pairs", "--model", "sprout", "--out", "p.jsonl", folder=tmp_path)
    assert made.returncode != 0
    assert "expected: --model and --domain, or --config, or --feedback" in made.stderr
    assert not (tmp_path / "p.jsonl").exists()
