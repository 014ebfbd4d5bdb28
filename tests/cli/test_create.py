"""`studium students create`: students as models of their own in an Ollama, here the scripted one."""

import asyncio
import json
from importlib.resources import files

import pytest
from tests.cli.roster import studium, write_roster

from studium.engines.scripted.script import ModelScript, Script
from studium.engines.scripted.server import serving

# Each test runs commands in processes of their own.
pytestmark = pytest.mark.slow

BASES = ("nous-hermes", "qwen2-math", "mistral", "llama2", "neural-chat", "codegemma")
TAGS = [f"rh-{name}:latest" for name in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")]


@pytest.fixture
async def ollama():
    """A server with the six bases of the shipped roster."""
    async with serving(Script({name: ModelScript(default="yes") for name in BASES})) as running:
        yield running


def use_shipped_roster(folder, url):
    example = (files("studium") / "examples" / "six-students-ollama.yaml").read_text()
    (folder / "studium.yaml").write_text(example.replace("http://127.0.0.1:11434", url))


async def create(folder, *options):
    return await asyncio.to_thread(
        studium, "students", "create", "--engine", "ollama", *options, folder=folder
    )


async def test_a_dry_run_shows_every_modelfile_and_makes_nothing(tmp_path, ollama):
    use_shipped_roster(tmp_path, ollama.url)
    shown = await create(tmp_path, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert [line for line in shown.stdout.splitlines() if line.startswith("FROM ")] == [
        f"FROM {b}" for b in BASES
    ]
    assert "would be created" in shown.stdout and "temperature 0.2" in shown.stdout
    assert not [seen for seen in ollama.seen if seen.path == "/api/create"]


async def test_six_students_are_made_once(tmp_path, ollama):
    use_shipped_roster(tmp_path, ollama.url)
    first = json.loads((await create(tmp_path, "--json")).stdout)
    assert [student["tag"] for student in first["students"]] == TAGS
    assert {student["outcome"] for student in first["students"]} == {"created"}
    again = json.loads((await create(tmp_path, "--json")).stdout)
    assert {student["outcome"] for student in again["students"]} == {"unchanged"}
    assert len([seen for seen in ollama.seen if seen.path == "/api/create"]) == len(BASES)


def test_a_roster_without_bases_is_told_what_is_missing(tmp_path):
    write_roster(tmp_path)
    refused = studium("students", "create", "--engine", "scripted", folder=tmp_path)
    assert refused.returncode == 2
    assert "base: mistral:7b" in refused.stderr


def test_an_ollama_that_is_not_there_is_told_with_its_address(tmp_path):
    use_shipped_roster(tmp_path, "http://127.0.0.1:9")
    refused = studium("students", "create", folder=tmp_path)
    assert refused.returncode == 3
    assert "127.0.0.1:9" in refused.stderr
