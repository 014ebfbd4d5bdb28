"""The doctor: what is there, what is missing, and whether a question can be answered."""

import json
import socket
from pathlib import Path

import pytest
from tests.cli.roster import studium, write_roster

from studium.cli.checks import State, keys, ollama, port, workspace
from studium.config import Config, EngineConfig, ModelConfig, ServerConfig


def test_a_machine_that_can_answer_exits_with_0(tmp_path):
    write_roster(tmp_path)
    seen = studium("doctor", "--json", folder=tmp_path)
    assert seen.returncode == 0, seen.stdout + seen.stderr
    report = json.loads(seen.stdout)
    assert report["can_answer"] is True
    assert report["budget"]["bytes"] == 2 * 1024**3
    assert [student["usable"] for student in report["students"]] == [True, True]
    assert {finding["name"] for finding in report["findings"]} >= {
        "llama.cpp",
        "gpu",
        "workspace",
        "training",
    }
    assert not (tmp_path / "state").exists()


def test_a_budget_smaller_than_every_model_exits_with_3_and_says_by_how_much(tmp_path):
    write_roster(tmp_path)
    seen = studium("doctor", "--memory-budget", "1MiB", folder=tmp_path)
    assert seen.returncode == 3
    assert "MiB too much" in seen.stdout
    assert "fleet.memory_budget" in seen.stdout
    assert "cannot be answered yet" in seen.stdout


def test_every_device_is_shown_with_its_budget_and_students_go_where_they_fit(tmp_path):
    write_roster(tmp_path)
    file = tmp_path / "studium.yaml"
    devices = "{devices: [{name: small, memory: 1MiB}, {name: large, memory: 64MiB}]}"
    file.write_text(file.read_text().replace("{memory_budget: 2GiB}", devices))
    seen = studium("doctor", "--json", folder=tmp_path)
    report = json.loads(seen.stdout)
    assert [(one["name"], one["bytes"] >> 20) for one in report["devices"]] == [("small", 1), ("large", 64)]
    assert [one["found"] for one in report["students"]] == ["fits on large: about 8 MiB"] * 2
    told = studium("doctor", folder=tmp_path)
    assert "1 MiB for models on small (cpu)" in told.stdout and "64 MiB for models on large" in told.stdout


def test_a_port_that_is_taken_is_told_with_another():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        # Nobody accepts, so nobody answers as Studium: the look at it ends by its own limit.
        finding = port("127.0.0.1", number)
    assert finding.state is State.ABSENT
    assert finding.try_next == f"studium up --port {number + 1}"
    assert port("127.0.0.1", number).state is State.OK


def test_a_workspace_that_cannot_be_made_is_broken(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert workspace(file / "inside").state is State.BROKEN
    assert workspace(tmp_path / "not" / "yet").state is State.OK
    assert not (tmp_path / "not").exists()


def test_a_key_that_is_named_but_not_set_is_told_without_values():
    config = Config(
        workspace=Path("x"),
        server=ServerConfig(api_keys_env="KEYS"),
        engines={"cloud": EngineConfig("openai_api", api_key_env="CLOUD_KEY")},
    )
    assert [finding.try_next for finding in keys(config, {"KEYS": "secret"})] == ["export CLOUD_KEY=..."]
    assert not keys(config, {"KEYS": "a", "CLOUD_KEY": "b"})


@pytest.mark.parametrize(("models", "state"), [((), State.ABSENT), (("ollama",), State.BROKEN)])
def test_an_ollama_that_does_not_answer_matters_only_to_those_who_need_it(models, state):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        config = Config(
            workspace=Path("x"),
            engines={"ollama": EngineConfig("ollama", url=url)},
            models=tuple(ModelConfig("m", engine, "s") for engine in models),
        )
        assert ollama(config).state is state
