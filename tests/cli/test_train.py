"""`studium train`, in processes of its own with a student that ships: begun, watched, stopped, killed, gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.cli.roster import studium

from studium.cli.main import run
from studium.errors import OperatorError

pytestmark = pytest.mark.slow

RECIPE = """
model: sprout
name: sums
data: [{domain: arithmetic, levels: [1], rows: 64}]
steps: 30
batch: 4
max_tokens: 64
save_every: 0
optimiser: {rate: 0.001, warmup_steps: 2, schedule: constant}
validation: {every_steps: 10, problems: 8}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def train(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return studium("train", "sft", "--config", "recipe.yaml", "--workspace", "state", *more, folder=folder)


def begun(folder: Path, name: str) -> "subprocess.Popen[str]":
    """Begin a run in the background and wait for its first steps."""
    command = [sys.executable, "-m", "studium.cli.main", "train", "sft", "--config", "recipe.yaml"]
    process = subprocess.Popen(
        [*command, "--workspace", "state", "--name", name, "--set", "steps=3000"],
        cwd=folder,
        env=os.environ | {"HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    metrics = folder / "state" / "runs" / name / "metrics.jsonl"
    until(lambda: metrics.exists() and metrics.read_text().count("\n") > 3, process)
    return process


def until(done: Callable[[], bool], process: "subprocess.Popen[str]", limit_s: float = 180.0) -> None:
    end = time.monotonic() + limit_s
    while not done():
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < end
        time.sleep(0.05)


def weights(folder: Path, name: str) -> bytes:
    return (folder / "state" / "runs" / name / "checkpoint" / "model.safetensors").read_bytes()


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; from studium.cli.main import run; run(['train', '--help']); run(['train', 'sft', '--help'])\n"
        "assert not {'torch', 'transformers', 'trl', 'numpy'} & set(sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "weighted_sft" in found.stdout


def test_a_run_that_was_killed_goes_on_to_the_weights_of_one_that_was_not(folder: Path) -> None:
    assert train(folder, "--name", "whole").returncode == 0
    process = begun(folder, "killed")
    child = psutil.Process(process.pid).children()[0]
    child.kill()
    process.communicate(timeout=30)
    state = folder / "state" / "runs" / "killed"
    assert json.loads(studium("train", "list", "--workspace", "state", "--json", folder=folder).stdout)
    # As many steps as the other; the rate is constant, so that the steps done are the same.
    for file in ("recipe.yaml", "recipe.json"):
        (state / file).write_text((state / file).read_text().replace("3000", "30"))
    done = [json.loads(line)["step"] for line in (state / "metrics.jsonl").read_text().splitlines()]
    assert max(done) > 3
    if max(done) >= 30:
        pytest.skip("it was faster than we were")
    assert studium("train", "resume", "killed", "--workspace", "state", folder=folder).returncode == 0
    steps = [json.loads(line) for line in (state / "metrics.jsonl").read_text().splitlines()]
    assert [one["step"] for one in steps if "validation" not in one] == list(range(1, 31))
    assert weights(folder, "killed") == weights(folder, "whole")


def test_a_run_is_stopped_from_another_terminal_and_gone_on_with(folder: Path) -> None:
    process = begun(folder, "long")
    watched = json.loads(
        studium("train", "watch", "long", "--once", "--json", "--workspace", "state", folder=folder).stdout
    )
    assert (watched["state"], watched["stage"]) == ("running", "sft")
    assert watched["metrics"]["loss"] > 0
    assert watched["eta_s"] > 0
    again = studium("train", "resume", "long", "--workspace", "state", folder=folder)
    assert again.returncode == 4
    assert "is at work in process" in again.stderr
    assert studium("train", "stop", "long", "--workspace", "state", folder=folder).returncode == 0
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "studium train resume long" in said
    (listed,) = json.loads(studium("train", "list", "--workspace", "state", "--json", folder=folder).stdout)
    assert (listed["state"], listed["message"]) == ("stopped", "asked to stop")
    assert studium("train", "stop", "long", "--workspace", "state", folder=folder).returncode == 4


def test_control_c_saves_and_stops(folder: Path) -> None:
    process = begun(folder, "long")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    run = folder / "state" / "runs" / "long"
    assert json.loads((run / "status.json").read_text())["state"] == "stopped"
    assert (run / "state.pt").exists()


def test_a_run_that_a_watcher_stops_says_why_and_ends_with_status_8(folder: Path) -> None:
    ran = train(
        folder,
        "--set",
        "optimiser={rate: 1.0, warmup_steps: 20, clip_norm: 0}",
        "--set",
        "watch.loss_spike=1",
    )
    assert ran.returncode == 8, ran.stderr
    assert "halted" in ran.stderr
    assert "studium train why sums" in ran.stdout
    why = json.loads(studium("train", "why", "sums", "--json", "--workspace", "state", folder=folder).stdout)
    assert why["spikes"]
    assert {"row", "loss", "prompt", "reply"} <= set(why["rows"][0])
    events = (folder / "state" / "runs" / "sums" / "events.jsonl").read_text()
    assert '"action":"skip"' in events
    assert '"action":"stop"' in events


def test_a_finished_run_names_what_can_be_done_next_and_is_not_trained_again(folder: Path) -> None:
    ran = train(folder, "--set", "steps=4")
    assert ran.returncode == 0, ran.stderr
    run = folder / "state" / "runs" / "sums"
    assert f"studium eval run --model {run} --domain arithmetic" in ran.stdout
    assert f"studium up --config {run / 'studium.yaml'}" in ran.stdout
    assert "1 thread" in (run / "log.txt").read_text()
    before = weights(folder, "sums")
    again = train(folder, "--set", "steps=4")
    assert (again.returncode, weights(folder, "sums")) == (0, before)
    assert "done already" in again.stderr
    other = train(folder, "--set", "steps=5")
    assert other.returncode == 2
    assert "of another recipe" in other.stderr
    report = studium("train", "report", "sums", "--workspace", "state", folder=folder)
    assert "loss.svg" in Path(report.stdout.strip()).read_text()
    asked = studium("ask", "What is 2 + 3?", "--config", str(run / "studium.yaml"), folder=folder)
    assert asked.returncode == 0, asked.stderr


def test_a_mistake_stops_a_run_before_its_first_step_and_names_the_row(folder: Path) -> None:
    rows = [{"prompt": "a?", "completion": "b"}, {"id": "the-bad-one", "prompt": "c?", "completion": ""}]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(one) for one in rows))
    ran = train(folder, "--set", "data=[{file: rows.jsonl, licence: own}]", "--set", "validation.problems=0")
    assert ran.returncode == 2
    assert "preflight, trained tokens, row the-bad-one" in ran.stderr
    assert "studium train check" in ran.stdout
    assert not (folder / "state" / "runs" / "sums" / "metrics.jsonl").exists()
    # The name is free for the corrected recipe.
    assert train(folder, "--set", "steps=2", "--set", "optimiser.warmup_steps=0").returncode == 0


def test_check_shows_what_carries_loss_and_colours_nothing_in_a_pipe(folder: Path) -> None:
    found = studium(
        "train", "check", "--config", "recipe.yaml", "--stage", "sft", "--rows", "1", folder=folder
    )
    assert found.returncode == 0, found.stderr
    assert "\x1b" not in found.stdout
    first = found.stdout.split("\n\n")[0]
    assert "<|assistant|>[" in first
    assert first.endswith("[<|end|>]")
    assert "resume" in found.stdout
    wrong = studium(
        "train",
        "check",
        "--config",
        "recipe.yaml",
        "--stage",
        "sft",
        "--json",
        "--set",
        "max_tokens=16",
        folder=folder,
    )
    assert wrong.returncode == 2
    assert [one["name"] for one in json.loads(wrong.stdout)["findings"] if one["ok"] is False] == ["length"]


def test_a_recipe_that_cannot_be_read_is_told_with_the_nearest_key(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(RECIPE + "bacth: 4\n")
    ran = train(folder)
    assert ran.returncode == 2
    assert "did you mean 'batch'?" in ran.stderr
    assert train(folder, "--set", "nonsense").returncode == 2
    missing = studium("train", "watch", "nobody", "--workspace", "state", folder=folder)
    assert missing.returncode == 4


def test_time_is_told_once_a_run_of_the_kind_was_measured(folder: Path) -> None:
    assert train(folder, "--set", "steps=8").returncode == 0
    told = json.loads(train(folder, "--dry-run", "--json", "--set", "steps=16").stdout)
    assert told["measured_runs"] == 1
    assert told["seconds"] > 0


def test_without_the_training_tools_it_says_what_is_lacking_and_how_to_get_it(monkeypatch, capsys):
    """It was reported as a mistake of Studium's, in the environment that serving alone needs."""
    monkeypatch.setattr(
        "studium.cli.checks.find_spec", lambda name: None if name in ("torch", "trl") else object()
    )
    assert run(["train", "sft", "--config", "recipes/sft.yaml"]) == OperatorError.exit_code
    told = capsys.readouterr().err
    assert "training needs torch, trl, which are not installed" in told and "make dev" in told
