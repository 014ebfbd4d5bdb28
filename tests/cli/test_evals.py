"""`studium eval` with real students: what is told is what was asked, and every way of naming a model works."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.roster import studium

from studium.cli.eval_asking import literal_grammar, model_file
from studium.cli.main import run
from studium.errors import BadRequest
from studium.registry import EMBEDDED


def evaluate(workspace: Path, *arguments: str) -> dict:
    workspace.mkdir(exist_ok=True)
    done = studium("eval", "run", "--json", "--workspace", str(workspace), *arguments, folder=workspace)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def figure(told: dict, metric: str, level: int | None = None) -> dict:
    (found,) = [one for one in told["figures"] if (one["metric"], one["level"]) == (metric, level)]
    return found


@pytest.mark.slow
def test_a_student_is_measured_on_its_skill_and_a_second_run_asks_nothing(tmp_path: Path):
    arguments = ("--model", "critic", "--domain", "sentiment", "--problems", "12", "--metric", "perplexity")
    told = evaluate(tmp_path, *arguments)
    accuracy, perplexity = figure(told, "accuracy"), figure(told, "perplexity")
    assert (told["asked"], told["scored"], told["failed"]) == (12, 12, 0)
    assert accuracy["low"] < accuracy["value"] <= accuracy["high"]
    assert accuracy["value"] > 0.7
    assert 1.0 <= perplexity["value"] < 1.5
    assert figure(told, "f1")["value"] > 0.5
    assert figure(told, "accuracy", level=2)["counted"] == 4
    lines = (tmp_path / "runs" / told["name"] / "answers.jsonl").read_text().splitlines()
    assert evaluate(tmp_path, *arguments) == told
    assert (tmp_path / "runs" / told["name"] / "answers.jsonl").read_text().splitlines() == lines

    shown = studium("eval", "show", told["name"], "--json", "--workspace", str(tmp_path), folder=tmp_path)
    assert json.loads(shown.stdout) == told
    listed = json.loads(
        studium("eval", "list", "--json", "--workspace", str(tmp_path), folder=tmp_path).stdout
    )
    assert [(one["name"], one["tries"], one["finished"]) for one in listed["runs"]] == [
        (told["name"], 12, True)
    ]


@pytest.mark.slow
def test_a_training_runs_folder_is_served_and_scores_as_the_student_it_is(tmp_path: Path):
    checkpoint = tmp_path / "ws" / "runs" / "try-1" / "checkpoint"
    checkpoint.mkdir(parents=True)
    shutil.copy(EMBEDDED / "critic.gguf", checkpoint / "model.gguf")
    arguments = ("--domain", "sentiment", "--problems", "9", "--seed", "3")
    student = evaluate(tmp_path / "ws", "--model", "critic", *arguments)
    told = evaluate(tmp_path / "ws", "--model", str(checkpoint.parent), *arguments)
    assert told["model"] == "try-1"
    assert told["figures"] == student["figures"]
    assert {model_file(str(path)) for path in (checkpoint.parent, checkpoint, checkpoint / "model.gguf")} == {
        checkpoint / "model.gguf"
    }


@pytest.mark.slow
def test_several_tries_give_pass_at_k_and_a_judge_grades_only_free_words(tmp_path: Path):
    sums = ("--domain", "arithmetic", "--problems", "4", "--samples", "3", "--temperature", "1.5")
    told = evaluate(tmp_path, "--model", "abacus", *sums)
    assert told["asked"] == 12
    assert figure(told, "pass@3")["value"] >= figure(told, "pass@1")["value"]
    assert figure(told, "pass@3")["counted"] == 4

    file = tmp_path / "mine.jsonl"
    rows = [
        {"question": "What is 4 + 5?", "answer": "9"},
        {"question": "Who wrote Hamlet?", "answer": "Shakespeare"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = evaluate(tmp_path, "--model", "abacus", "--file", str(file), "--judge", "critic")
    assert told["asked"] == 2
    assert {one["domain"] for one in told["figures"]} == {"arithmetic", "open question", "all"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "nobody"), "there is no model 'nobody'"),
        (("--model", "critic", "--metric", "rouge"), "there is no metric 'rouge'"),
        (
            ("--model", "critic", "--samples", "3", "--temperature", "0"),
            "3 tries at temperature 0 are one try",
        ),
        (("--model", "critic", "--judge", "alpha"), "every problem is graded by its domain"),
        (("--model", "critic", "--suite", "absent"), "absent is no suite"),
        (("--model", "./absent.gguf"), "there is no file absent.gguf"),
        (("--model", "critic", "--domain", "sentimnt"), "did you mean 'sentiment'"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is(
    tmp_path: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
):
    status = run(["eval", "run", "--problems", "2", "--workspace", str(tmp_path), *arguments])
    assert status in (2, 4)
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*"))


def test_a_dry_run_says_what_would_be_asked_and_asks_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = (
        "--model",
        "critic",
        "--domain",
        "moderation",
        "--problems",
        "5",
        "--samples",
        "4",
        "--dry-run",
    )
    assert run(["eval", "run", *arguments, "--json", "--workspace", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["tries"], told["temperature"]) == (20, 0.7)
    assert not list(tmp_path.iterdir())


def test_a_judge_is_counted_on_for_free_words_alone_and_refused_where_there_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Rows of a domain that was recognised were counted as the judge's, and let a file of nothing else pass."""
    rows = [
        '{"question": "What is 4 + 5?", "answer": "9"}',
        '{"question": "Who wrote Hamlet?", "answer": "He"}',
    ]
    mixed, sums = tmp_path / "mixed.jsonl", tmp_path / "sums.jsonl"
    mixed.write_text("\n".join(rows))
    sums.write_text(rows[0])
    arguments = (
        "--model",
        "abacus",
        "--judge",
        "critic",
        "--dry-run",
        "--json",
        "--workspace",
        str(tmp_path),
    )
    assert run(["eval", "run", "--file", str(mixed), *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["judge_calls_at_most"] == 2
    assert run(["eval", "run", "--file", str(sums), *arguments]) == 4
    assert "every problem is graded by its domain" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_folder_without_a_model_is_named_with_what_was_looked_for(tmp_path: Path):
    with pytest.raises(BadRequest, match=r"holds no model.gguf; a checkpoint folder"):
        model_file(str(tmp_path))
    assert model_file("critic") is None


def test_a_grammar_of_one_text_writes_marks_and_lines_as_gbnf_does():
    assert literal_grammar('a "b"\n\\c') == 'root ::= "a \\"b\\"\\n\\\\c"'


def test_suites_are_frozen_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "mine.jsonl"
    assert run(["eval", "freeze", str(out), "--domain", "sorting", "--problems", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["suite"], told["problems"]) == ("mine", 3)
    assert told["sha256"] in out.read_text().splitlines()[0]


JUDGES = """
models:
  pupil: {resident_bytes: 8000000, default: "It stands in a book that I do not have"}
  biased: {resident_bytes: 8000000, default: "A", json_answer: '{"verdict": "A"}'}
  undecided: {resident_bytes: 8000000, default: "cannot tell", json_answer: '{"verdict": "cannot tell"}'}
"""


@pytest.mark.parametrize(
    ("judge", "scored", "share"),
    [("biased", 0, None), ("undecided", 1, 1.0), ("", 1, 0.0)],
    ids=["prefers a place", "finds them equal", "no judge"],
)
def test_a_judges_word_counts_where_both_orders_agree(
    tmp_path: Path, judge: str, scored: int, share: float | None, capsys: pytest.CaptureFixture[str]
):
    script, file, config = tmp_path / "script.yaml", tmp_path / "mine.jsonl", tmp_path / "studium.yaml"
    script.write_text(JUDGES)
    names = ("pupil", "biased", "undecided")
    shape = "engine: scripted, context_tokens: 4096"
    models = [f'  - {{name: {name}, source: "{script}#{name}", {shape}}}' for name in names]
    students = [f"  - {{name: {name}}}" for name in names]
    config.write_text(
        "\n".join(["models:", *models, "students:", *students, f"workspace: {tmp_path / 'ws'}"])
    )
    file.write_text('{"question": "Who wrote Hamlet?", "answer": "Shakespeare wrote Hamlet"}\n')
    chosen = ("--judge", judge) if judge else ()
    arguments = [
        "eval",
        "run",
        "--config",
        str(config),
        "--model",
        "pupil",
        "--file",
        str(file),
        "--json",
        *chosen,
    ]
    assert run(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["asked"], told["scored"], told["not_scored"]) == (1, scored, 1 - scored)
    assert figure(told, "judged" if judge else "accuracy")["value"] == share


@pytest.mark.slow
def test_a_run_that_is_killed_is_taken_up_by_the_same_command_and_nothing_is_asked_twice(tmp_path: Path):
    arguments = ("--model", "abacus", "--domain", "arithmetic", "--problems", "120", "--name", "killed")
    command = [
        sys.executable,
        "-m",
        "studium.cli.main",
        "eval",
        "run",
        *arguments,
        "--workspace",
        str(tmp_path),
    ]
    answers = tmp_path / "runs" / "killed" / "answers.jsonl"
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(6000):
            if answers.exists() and answers.read_bytes().count(b"\n") >= 5:
                break
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait(30)
    before = answers.read_bytes().count(b"\n")
    assert 5 <= before < 120
    told = evaluate(tmp_path, *arguments)
    rows = [json.loads(line) for line in answers.read_bytes().splitlines() if line.endswith(b"}")]
    assert told["asked"] == told["scored"] == 120
    assert len({row["item"] for row in rows}) == len(rows) == 120
