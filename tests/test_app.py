"""The wiring: engines by their kind, budgets, and a workspace opened and closed whole."""

from pathlib import Path

import pytest

import studium
from studium.app import open_studium
from studium.app.devices import device_budgets
from studium.app.engines import build_engines
from studium.config import Config, load_config
from studium.errors import ConfigurationError
from studium.records.answers import AnswerStatus
from studium.records.hardware import DeviceKind
from studium.registry import build_roster

SCRIPT = "models: {alpha: {default: 'Answer: 4'}, beta: {default: 'Answer: 4'}}\n"


def declared(folder: Path, text: str) -> Config:
    (folder / "script.yaml").write_text(SCRIPT)
    file = folder / "studium.yaml"
    file.write_text(text)
    return load_config(file, environment={}, overrides={"workspace": folder / "workspace"})


def one_model(engine: str, engines: str = "{}") -> str:
    models = f"[{{name: m, engine: {engine}, source: x}}]"
    return f"engines: {engines}\nmodels: {models}\nstudents: [{{name: s, model: m}}]\n"


TEAM = """
models:
  - {{name: alpha, engine: scripted, source: '{script}'}}
  - {{name: beta, engine: scripted, source: '{script}'}}
students: [{{name: alpha}}, {{name: beta}}]
"""


@pytest.mark.parametrize(
    ("engine", "engines", "made"),
    [
        ("llamacpp", "{}", "LlamaCppEngine"),
        ("scripted", "{}", "ScriptedEngine"),
        ("ollama", "{}", "OllamaEngine"),
        ("box", "{box: {kind: ollama, url: 'http://127.0.0.1:1'}}", "OllamaEngine"),
        ("cloud", "{cloud: {kind: openai_api, url: 'http://127.0.0.1:1/v1'}}", "OpenAIApiEngine"),
    ],
)
def test_an_engine_is_made_by_its_kind(tmp_path: Path, engine: str, engines: str, made: str):
    config = declared(tmp_path, one_model(engine, engines))
    (found,) = build_engines(config, build_roster(config)).values()
    assert (type(found).__name__, found.name) == (made, engine)


@pytest.mark.parametrize(
    ("engine", "engines", "message"),
    [
        ("vlm", "{}", "one of llamacpp, openai_api, ollama, scripted"),
        ("cloud", "{cloud: {kind: clowd}}", "is of kind 'clowd'"),
        ("cloud", "{cloud: {kind: openai_api}}", "has no url"),
    ],
)
def test_an_engine_nobody_can_make_is_the_authors_error(
    tmp_path: Path, engine: str, engines: str, message: str
):
    config = declared(tmp_path, one_model(engine, engines))
    with pytest.raises(ConfigurationError, match=message):
        build_engines(config, build_roster(config))


def test_a_declared_budget_is_taken_as_it_is_and_another_is_detected(tmp_path: Path):
    config = declared(tmp_path, "fleet: {memory_budget: 300MiB}\n")
    (budget,) = device_budgets(config, build_roster(config))
    assert budget.bytes == 300 * 2**20
    config = declared(tmp_path, "{}\n")
    *_, detected = device_budgets(config, build_roster(config))
    assert detected.bytes > 0 and "declared" not in detected.source


def test_declared_devices_are_taken_in_their_order_with_a_margin_of_a_tenth(tmp_path: Path):
    text = (
        "fleet: {devices: [{name: card, memory: 4GiB, kind: gpu}, {name: ram, memory: 8GiB, slowdown: 6}]}\n"
    )
    config = declared(tmp_path, text)
    card, ram = device_budgets(config, build_roster(config))
    assert (card.kind, card.gpu, card.bytes, card.offload) == (DeviceKind.GPU, 0, 4 * 2**30, False)
    assert (ram.kind, ram.slowdown, ram.offload) == (DeviceKind.CPU, 6, True)
    assert card.margin_bytes == 4 * 2**30 // 10


async def test_the_limits_of_the_configuration_reach_the_fleet(tmp_path: Path):
    text = "fleet: {memory_budget: 300MiB, max_models_at_once: 2, safety_margin: 7MiB}\n"
    async with open_studium(
        declared(tmp_path, text + TEAM.format(script=tmp_path / "script.yaml"))
    ) as studium:
        limits = studium.fleet.residency.limits
        assert limits.max_models == 2
        assert [(home.bytes, home.margin_bytes) for home in limits.homes] == [(300 * 2**20, 7 * 2**20)]


async def test_what_was_learned_is_known_after_a_restart(tmp_path: Path):
    config = declared(tmp_path, TEAM.format(script=tmp_path / "script.yaml"))
    async with open_studium(config) as first:
        answer = await first.ask("What is 2 + 2?")
        model = first.roster.models["alpha"]
        assert first.fleet.profiles.of(model).runs == 1
    assert answer.status is AnswerStatus.ANSWERED
    async with open_studium(config) as second:
        assert second.fleet.profiles.of(model).runs == 1


async def test_the_package_itself_opens_a_workspace_and_asks(tmp_path: Path):
    declared(tmp_path, f"workspace: {tmp_path / 'w'}\n" + TEAM.format(script=tmp_path / "script.yaml"))
    async with studium.open(tmp_path / "studium.yaml") as team:
        answer = await team.ask("What is 2 + 2?", students=("beta",))
    assert (answer.answer, answer.chosen_model) == ("4", "beta")


def test_one_question_needs_one_line(tmp_path: Path):
    declared(tmp_path, f"workspace: {tmp_path / 'w'}\n" + TEAM.format(script=tmp_path / "script.yaml"))
    assert studium.ask("What is 2 + 2?", config=tmp_path / "studium.yaml").answer == "4"


async def test_a_part_that_names_a_student_that_is_not_there_is_refused_at_the_start(tmp_path: Path):
    config = declared(tmp_path, TEAM.format(script="script.yaml") + "ensemble: {judge: alpa}\n")
    with pytest.raises(ConfigurationError, match="ensemble.judge names 'alpa'") as caught:
        async with open_studium(config):
            pass
    assert "studium.yaml:" in str(caught.value) and "did you mean 'alpha'" in str(caught.value)


async def test_parts_are_played_by_the_students_that_are_named(tmp_path: Path):
    config = declared(
        tmp_path, TEAM.format(script="script.yaml") + "ensemble: {judge: beta, master: alpha}\n"
    )
    async with open_studium(config) as opened:
        assert opened.ensemble.team.parts.judge == "beta"
        assert opened.ensemble.team.master().name == "alpha"
