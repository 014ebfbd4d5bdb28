"""`studium rollout` as a user types it: without a server the store tells, with one its models' health too."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studium.app import STORE_FILE
from studium.cli import main
from studium.records.rollouts import Exposure
from studium.registry import EMBEDDED
from studium.store import open_store

WORKSPACE = "state"
Run = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "studium.yaml").write_text(f"workspace: {WORKSPACE}\nrollout: {{steps: [0.1, 0.5]}}\n")
    (tmp_path / "made").mkdir()
    shutil.copy(EMBEDDED / "clerk.gguf", tmp_path / "made" / "model.gguf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], folder: Path) -> Run:
    def run(*arguments: str, expect: int = 0) -> str:
        status = main.run(arguments)
        said = capsys.readouterr()
        assert status == expect, said.out + said.err
        return said.out + said.err

    run("adapters", "register", str(folder / "made"), "--role", "sprout", "--name", "tuned")
    return run


def told(run: Run, *arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_a_rollout_is_begun_looked_at_and_ended(run: Run):
    begun = told(run, "rollout", "start", "sprout", "tuned")
    assert (begun["phase"], begun["steps"], begun["champion"]) == ("shadow", [0.1, 0.5], "own-student")
    assert begun["next"]["act"] == "hold" and "no traffic" in begun["next"]["why"]
    assert "challenges" in run("rollout", "start", "sprout", "tuned", expect=4)
    assert "tuned" in run("rollout", "status")
    assert told(run, "rollout", "preview", "sprout")["act"] == "hold"
    assert "does not carry" in run("rollout", "promote", "sprout", expect=4)
    run("rollout", "abort", "sprout", "--reason", "seen enough")
    assert told(run, "rollout", "status")["rollouts"] == []
    (over,) = told(run, "rollout", "status", "--all")["rollouts"]
    assert over["outcome"] == "aborted: seen enough"
    assert "no roll-out" in run("rollout", "preview", "sprout", expect=4)


def test_what_traffic_told_promotes_by_hand_and_leaves_its_evidence(run: Run, folder: Path):
    number = told(run, "rollout", "start", "sprout", "tuned", "--shadow", "--by", "verifier")["rollout"]
    store = open_store(folder / WORKSPACE / STORE_FILE)
    seen = Exposure(number, 0.0, "r", "shadow", "arithmetic", {"verifier": 0.0}, {"verifier": 1.0})
    store.rollouts.add([seen] * 60)
    store.close()
    assert told(run, "rollout", "preview", "sprout")["act"] == "ready to be promoted"
    promoted = told(run, "rollout", "promote", "sprout")
    assert promoted["ended_at"] is not None
    (state,) = (one for one in told(run, "adapters", "state") if one["role"] == "sprout")
    assert state["champion"] == "tuned"
    last = told(run, "adapters", "history")[-1]
    assert (last["action"], last["evidence"]) == ("promote", promoted["evidence"])
    assert told(run, "adapters", "verify")["sound"]


@pytest.mark.parametrize("arguments", [("--by", "charm"), ("--shadow", "--share", "5"), ("--share", "200")])
def test_what_cannot_be_is_refused(run: Run, arguments: tuple[str, ...]):
    said = run("rollout", "start", "sprout", "tuned", *arguments, expect=2 if "200" in arguments else 4)
    assert "error" in said.lower()
