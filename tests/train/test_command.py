"""The process of a run: what its folder says from the lock on, a stop while it prepares, and how it ends early."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from studium.errors import ConfigurationError, OperatorError
from studium.train import command
from studium.train.command import EXIT_STOPPED, main
from studium.train.recipe_file import FILE_NAME
from studium.train.run_folder import RunFolder, State, Status

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

RECIPE = """
model: sprout
data: [{domain: arithmetic, levels: [1], rows: 16}]
steps: 2
batch: 4
max_tokens: 64
optimiser: {warmup_steps: 0}
validation: {every_steps: 0, problems: 0}
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / FILE_NAME).write_text(RECIPE)
    return RunFolder(tmp_path / "run")


def prepares(monkeypatch: pytest.MonkeyPatch, do: Callable[[RunFolder], None]) -> None:
    """Do something instead of the preflight, which takes long."""
    monkeypatch.setattr(command, "preflight", lambda told, run, say: do(run))


def test_a_run_prepares_before_it_runs_and_obeys_a_stop_that_came_meanwhile(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was called stopped until its first step: `train stop` was refused, and a stop file was removed again."""
    seen: list[Status] = []

    def ask(run: RunFolder) -> None:
        seen.append(run.status())
        run.ask_to_stop()

    prepares(monkeypatch, ask)
    assert main("sft", str(folder.path)) == EXIT_STOPPED
    assert [(one.state, one.at_work, one.process) for one in seen] == [(State.PREPARING, True, os.getpid())]
    stopped = folder.status()
    assert (stopped.state, stopped.step, stopped.message) == (State.STOPPED, 0, "asked to stop")
    # The next process does not heed the stop that was meant for the last one.
    prepares(monkeypatch, lambda run: None)
    assert main("sft", str(folder.path)) == 0
    assert (folder.status().state, folder.status().step) == (State.DONE, 2)


def test_a_run_that_goes_on_keeps_its_steps_while_it_prepares(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.say(Status(State.STOPPED, 1, 2, 3.0, message="asked to stop"))
    seen: list[Status] = []
    prepares(monkeypatch, lambda run: seen.append(run.status()))
    main("sft", str(folder.path))
    assert [(one.state, one.step, one.steps, one.seconds, one.message) for one in seen] == [
        (State.PREPARING, 1, 2, 3.0, "")
    ]


def test_a_second_process_leaves_the_run_of_the_first_alone(folder: RunFolder) -> None:
    """It wrote its failure into the live run's folder."""
    with folder.alone():
        folder.say(Status(State.RUNNING, 1, 2))
        assert main("sft", str(folder.path)) == OperatorError.exit_code
        assert not folder.failure()
        assert (folder.status().state, folder.status().step) == (State.RUNNING, 1)


def test_a_run_that_its_preflight_refuses_has_failed_and_says_why(folder: RunFolder) -> None:
    (folder.path / FILE_NAME).write_text(RECIPE.replace("max_tokens: 64", "max_tokens: 16"))
    assert main("sft", str(folder.path)) == ConfigurationError.exit_code
    assert folder.status().state is State.FAILED
    assert "preflight, length" in folder.status().message
    assert folder.failure()["code"] == ConfigurationError.code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_while_it_prepares_is_stopped(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    prepares(monkeypatch, lambda run: os.kill(os.getpid(), number))
    before = signal.getsignal(signal.SIGTERM)
    # The test's own process must outlive a signal that nobody heeds.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        assert main("sft", str(folder.path)) == EXIT_STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)
    assert folder.status().state is State.STOPPED
    assert not folder.failure()


def test_what_fails_between_the_students_of_a_chain_is_told(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run went on to say that it was running, and so was called killed."""

    def fail(run: RunFolder) -> None:
        run.say(Status(State.RUNNING, 2, 2, message="student 1 of 2"))
        raise OperatorError("the teacher does not answer")

    prepares(monkeypatch, fail)
    assert main("sft", str(folder.path)) == OperatorError.exit_code
    assert (folder.status().state, folder.status().message) == (State.FAILED, "the teacher does not answer")
    assert (
        orjson.loads((folder.path / "failure.json").read_bytes())["happened"] == "the teacher does not answer"
    )
