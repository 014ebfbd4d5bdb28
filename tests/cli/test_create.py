"""`studium students create`: students as models of their own in an Ollama, here the scripted one."""

import asyncio
import json
import os
import signal
import sys
from importlib.resources import files

import pytest
from tests.cli.roster import studium, write_roster

from studium.engines.scripted.script import Fault, FaultKind, ModelScript, Script
from studium.engines.scripted.server import serving

# Each test runs commands in processes of their own.
pytestmark = pytest.mark.slow

BASES = ("nous-hermes", "qwen2-math", "mistral", "llama2", "neural-chat", "codegemma")
TAGS = [f"rh-{name}:latest" for name in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")]


@pytest.fixture
async def ollama():
    """A server with the six bases of the shipped roster."""
    async with serving(Script({name: ModelScript(default=("yes",)) for name in BASES})) as running:
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


HERE, TO_COME = BASES[:4], BASES[4:]
PULL_LIMIT_S = 30.0


def lacking(**pull):
    """A script whose server has four of the six bases and must fetch the other two."""
    there = {name: ModelScript(default=("yes",)) for name in HERE}
    return Script(there, {name: ModelScript(resident_bytes=40_000_000, **pull) for name in TO_COME})


def pulls(running):
    return [seen.body["model"] for seen in running.seen if seen.path == "/api/pull"]


async def test_bases_that_are_missing_are_pulled_first_and_once(tmp_path):
    async with serving(lacking()) as running:
        use_shipped_roster(tmp_path, running.url)
        first = await create(tmp_path, "--pull", "--json")
        assert first.returncode == 0, first.stderr
        told = json.loads(first.stdout)
        assert [(one["base"], one["outcome"], one["bytes"]) for one in told["pulled"]] == [
            (base, "pulled", 40_000_000) for base in TO_COME
        ]
        assert {student["outcome"] for student in told["students"]} == {"created"}
        assert "neural-chat: pulling manifest" in first.stderr
        assert "40 MB of 40 MB (100%)" in first.stderr
        again = json.loads((await create(tmp_path, "--pull", "--json")).stdout)
        assert again["pulled"] == []
        assert {student["outcome"] for student in again["students"]} == {"unchanged"}
        assert pulls(running) == list(TO_COME)


async def test_a_dry_run_names_what_would_be_pulled_and_pulls_nothing(tmp_path):
    async with serving(lacking()) as running:
        use_shipped_roster(tmp_path, running.url)
        shown = await create(tmp_path, "--pull", "--dry-run")
        as_json = json.loads((await create(tmp_path, "--pull", "--dry-run", "--json")).stdout)
        assert pulls(running) == []
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("# neural-chat: would be pulled\n# codegemma: would be pulled\n")
    assert shown.stdout.count("\nFROM ") == len(BASES)
    assert [one["outcome"] for one in as_json["pulled"]] == ["would_be_pulled"] * 2
    assert {student["outcome"] for student in as_json["students"]} == {"created"}


async def test_a_dry_run_without_an_ollama_says_what_it_could_not_check(tmp_path):
    use_shipped_roster(tmp_path, "http://127.0.0.1:9")
    shown = await create(tmp_path, "--pull", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("would be pulled, unless it is there already (no Ollama answered)") == len(
        BASES
    )


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
async def test_missing_bases_are_named_with_the_command_that_pulls_them(tmp_path, dry_run):
    async with serving(lacking()) as running:
        use_shipped_roster(tmp_path, running.url)
        refused = await create(tmp_path, *dry_run)
        assert [seen for seen in running.seen if seen.path in ("/api/pull", "/api/create")] == []
    assert refused.returncode == 4
    assert "lacks 2 of 6 bases: neural-chat, codegemma" in refused.stderr
    assert "studium students create --engine ollama --pull" in refused.stderr


@pytest.mark.parametrize(
    ("kind", "status", "told"),
    [
        (FaultKind.REFUSE, 5, "max retries exceeded"),
        (FaultKind.CRASH, 5, "the connection to Ollama"),
        (FaultKind.HALF_STREAM, 5, "ended at 'pulling "),
        (FaultKind.GARBAGE, 5, "sent no JSON"),
        (FaultKind.HANG, 5, "got nowhere for 0.5 s"),
        (FaultKind.STALL, 5, "got nowhere for 0.5 s"),
    ],
)
async def test_a_pull_that_breaks_says_why_and_the_same_command_goes_on(tmp_path, kind, status, told):
    fault = Fault(kind, after_tokens=2, seconds=0.05, times=1)
    async with serving(lacking(pull_fault=fault)) as running:
        use_shipped_roster(tmp_path, running.url)
        broken = await create(tmp_path, "--pull", "--stall-limit", "0.5")
        assert broken.returncode == status
        error = broken.stderr[broken.stderr.index("error: ") :]
        assert told in error and "neural-chat" in error
        assert "\n  expected: " in error and "\n  try: " in error
        assert [seen for seen in running.seen if seen.path == "/api/create"] == []
        second = await create(tmp_path, "--pull", "--stall-limit", "0.5")
        assert "neural-chat: success" in second.stderr  # and codegemma breaks once too
        assert "0 B of 40 MB" not in second.stderr.split("codegemma")[0]
        third = await create(tmp_path, "--pull", "--stall-limit", "0.5")
        assert third.returncode == 0, third.stderr
        assert pulls(running) == ["neural-chat", "neural-chat", "codegemma", "codegemma"]


async def test_a_base_that_no_registry_has_is_the_fault_of_the_roster(tmp_path):
    async with serving(Script({name: ModelScript() for name in BASES[:5]})) as running:
        use_shipped_roster(tmp_path, running.url)
        refused = await create(tmp_path, "--pull", "--json")
    assert refused.returncode == 4
    error = json.loads(refused.stdout)["error"]
    assert error["code"] == "model_not_found" and "'codegemma'" in error["message"] and error["try_next"]


async def test_an_interrupted_pull_says_how_to_go_on_and_goes_on_there(tmp_path):
    async with serving(lacking(part_s=0.5)) as running:
        use_shipped_roster(tmp_path, running.url)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "studium.cli.main", "students", "create", "--pull"),
            cwd=tmp_path,
            env=os.environ | {"HOME": str(tmp_path)},
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(PULL_LIMIT_S):
                async for line in process.stderr:
                    if b"of 40 MB" in line:
                        break
                await asyncio.sleep(0.7)  # at least one part more
                process.send_signal(signal.SIGINT)
                last_words = (await process.stderr.read()).decode()
                assert await process.wait() == 130
        finally:
            if process.returncode is None:
                process.kill()
        assert "interrupted at neural-chat: pulling " in last_words
        assert "try: studium students create --engine ollama --pull goes on" in last_words
        finished = await create(tmp_path, "--pull")
        assert finished.returncode == 0, finished.stderr
        assert "0 B of 40 MB" not in finished.stderr.split("codegemma")[0]


async def test_a_student_may_stand_on_another_student(tmp_path):
    async with serving(Script({"mistral": ModelScript()})) as running:
        (tmp_path / "studium.yaml").write_text(
            f"""
engines: {{ollama: {{kind: ollama, url: "{running.url}"}}}}
models:
  - {{name: one, engine: ollama, source: "one:latest"}}
  - {{name: two, engine: ollama, source: "two:latest"}}
students:
  - {{name: alpha, model: one, base: mistral, system_prompt: Be brief.}}
  - {{name: beta, model: two, base: one, system_prompt: Be briefer.}}
"""
        )
        shown = await create(tmp_path, "--pull", "--dry-run", "--json")
        made = await create(tmp_path, "--pull", "--json")
        assert pulls(running) == []
    assert [one["outcome"] for one in json.loads(shown.stdout)["students"]] == ["created", "created"]
    assert [one["outcome"] for one in json.loads(made.stdout)["students"]] == ["created", "created"]
