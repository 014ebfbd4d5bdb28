"""The command line as a user or a script meets it: in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.roster import studium, write_roster


def test_help_lists_every_command_and_an_example(tmp_path):
    shown = studium("--help", folder=tmp_path)
    assert shown.returncode == 0
    for command in ("up", "ask", "students", "models", "doctor", "config", "version"):
        assert f"  {command} " in shown.stdout
    assert 'studium ask "What is 47 + 58?"' in shown.stdout


@pytest.mark.parametrize(
    "command", ["up", "ask", "models", "doctor", "version", "students list", "config show"]
)
def test_each_command_shows_an_example(tmp_path, command):
    shown = studium(*command.split(), "--help", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert f"Example: studium {command}" in shown.stdout


def test_light_commands_load_nothing_heavy(tmp_path):
    write_roster(tmp_path)
    code = (
        "import sys; from studium.cli.main import run; status = run(sys.argv[1:]);"
        "heavy = {'aiohttp', 'sqlalchemy', 'torch', 'rich', 'xllamacpp'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(status)"
    )
    for command in (["--help"], ["students", "list", "--json"], ["models", "--json"], ["config", "show"]):
        done = studium_code(code, *command, folder=tmp_path)
        assert done.returncode == 0, done.stderr


def test_a_mistyped_command_is_answered_with_the_nearest(tmp_path):
    refused = studium("modles", folder=tmp_path)
    assert refused.returncode == 2
    assert "models" in refused.stderr


def test_students_and_models_are_listed_for_people_and_for_programs(tmp_path):
    write_roster(tmp_path)
    table = studium("students", "list", folder=tmp_path)
    assert "alpha" in table.stdout and "sums" in table.stdout
    students = json.loads(studium("students", "list", "--json", folder=tmp_path).stdout)
    assert [(one["name"], one["model"]["name"], one["tier"]) for one in students] == [
        ("alpha", "adder", "fast"),
        ("beta", "doubter", "balanced"),
    ]
    models = json.loads(studium("models", "--json", folder=tmp_path).stdout)
    assert {entry["model"]["name"]: entry["students"] for entry in models} == {
        "adder": ["alpha"],
        "doubter": ["beta"],
    }
    assert not (tmp_path / "state").exists()


def test_what_was_learned_of_a_model_is_shown_with_its_interval(tmp_path):
    write_roster(tmp_path)
    before = json.loads(studium("models", "adder", "--json", folder=tmp_path).stdout)["forecasts"]
    assert [(one["model"], one["runs"], one["tokens_per_answer"]) for one in before] == [("adder", 0, None)]
    assert not (tmp_path / "state").exists()
    for _ in range(2):
        assert studium("ask", "What is 47 + 58?", "--student", "alpha", folder=tmp_path).returncode == 0
    [found] = json.loads(studium("models", "adder", "--json", folder=tmp_path).stdout)["forecasts"]
    assert (found["runs"], found["loads"], found["failures"]) == (2, 2, 0)
    assert found["memory_bytes"]["low"] < 8_000_000 < found["memory_bytes"]["high"]
    assert found["reserve_bytes"] >= 8_000_000
    assert found["load_seconds"]["observations"] == 2
    table = studium("models", "--learned", folder=tmp_path)
    assert table.returncode == 0, table.stderr
    rows = {line.split()[0]: line for line in table.stdout.splitlines() if line.strip()}
    assert "7.63 (" in rows["adder"]
    detail = studium("models", "adder", folder=tmp_path).stdout
    assert "2 loads, 2 runs, 0 failed" in detail and "in 90 % of cases" in detail


def test_a_model_nobody_declared_is_answered_with_those_there_are(tmp_path):
    write_roster(tmp_path)
    refused = studium("models", "addr", folder=tmp_path)
    assert refused.returncode == 4
    assert "expected: one of adder, doubter" in refused.stderr


def test_a_store_that_is_none_is_said_to_be_so(tmp_path):
    write_roster(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.db").write_bytes(b"no database" * 100)
    refused = studium("models", "--learned", folder=tmp_path)
    assert refused.returncode == 3
    assert "what was learned cannot be read" in refused.stderr


def test_a_question_is_answered_and_explained(tmp_path):
    write_roster(tmp_path)
    answered = studium("ask", "What is 47 + 58?", "--explain", folder=tmp_path)
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.startswith("105\n")
    assert "alpha" in answered.stdout and "agreement" in answered.stdout


def test_explain_tells_why_this_way_and_what_else_was_weighed(tmp_path):
    write_roster(tmp_path)
    question = "1. What is 47 + 58? 2. What is 47 + 58 dollars?"
    told = studium("ask", question, "--strategy", "clone_dispatch", "--explain", folder=tmp_path).stdout
    assert "why clone_dispatch: chosen by the caller" in told
    assert "sub answer" in told and "clone_dispatch *" in told and "why or why not" in told


def test_the_answer_as_json_is_the_whole_of_stdout(tmp_path):
    write_roster(tmp_path)
    answered = studium("ask", "-", "--json", "--student", "alpha", folder=tmp_path, stdin="What is 47 + 58?")
    answer = json.loads(answered.stdout)
    assert answer["text"] == "105"
    assert [member["student"] for member in answer["members"]] == ["alpha"]


def test_nobody_having_an_answer_has_its_own_exit_status(tmp_path):
    write_roster(tmp_path)
    unable = studium("ask", "What is 2 + 3?", folder=tmp_path)
    assert unable.returncode == 6, unable.stdout + unable.stderr


def test_an_error_has_three_parts_and_its_exit_status(tmp_path):
    write_roster(tmp_path)
    refused = studium("ask", "What is 1 + 1?", "--complexity", "hard", folder=tmp_path)
    assert refused.returncode == 4
    assert refused.stdout == ""
    happened, expected, try_next = refused.stderr.splitlines()
    assert happened == "error: there is no complexity 'hard'"
    assert expected.startswith("  expected: one of simple")
    assert try_next.startswith("  try: ")


def test_an_error_is_json_where_json_was_asked_for(tmp_path):
    refused = studium("models", "--json", "--config", "absent.yaml", folder=tmp_path)
    assert refused.returncode == 2
    error = json.loads(refused.stdout)["error"]
    assert error["code"] == "bad_configuration" and error["try_next"]


def test_a_mistake_of_ours_leaves_a_crash_log_and_status_70(tmp_path):
    code = (
        "import sys, typer; from studium.cli import main\n"
        "@main.app.command('break')\n"
        "def break_it() -> None: raise RuntimeError('on purpose')\n"
        "sys.exit(main.run(sys.argv[1:]))"
    )
    broken = studium_code(code, "break", folder=tmp_path)
    assert broken.returncode == 70
    assert "unexpected RuntimeError: on purpose" in broken.stderr
    log = broken.stderr.split("details in ")[1].strip()
    assert log.startswith(str(tmp_path))
    assert "on purpose" in Path(log).read_text()


def test_a_reader_that_leaves_is_no_drama(tmp_path):
    write_roster(tmp_path)
    code = (
        "import os, sys; from studium.cli.main import main; reading, writing = os.pipe(); os.close(reading);"
        "os.dup2(writing, 1); sys.argv[0] = 'studium'; main()"
    )
    left = studium_code(code, "config", "show", "--json", folder=tmp_path)
    assert left.returncode == 1
    assert left.stderr == ""


def test_config_init_writes_an_example_once(tmp_path):
    written = studium("config", "init", folder=tmp_path)
    assert written.returncode == 0
    example = (tmp_path / "studium.yaml").read_text()
    assert "memory_budget" in example
    again = studium("config", "init", folder=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert (tmp_path / "studium.yaml").read_text() == example


def test_config_show_tells_where_each_value_comes_from(tmp_path):
    write_roster(tmp_path)
    shown = studium("config", "show", "--origin", "--memory-budget", "3GiB", folder=tmp_path)
    lines = {line.split()[0]: line.split()[1:] for line in shown.stdout.splitlines()}
    assert lines["fleet.memory_budget"] == ["3GiB", "--memory-budget"]
    assert lines["workspace"] == [str(tmp_path / "state"), "studium.yaml:2"]
    assert lines["server.max_body"] == ["8MiB", "default"]
    values = json.loads(studium("config", "show", "--json", folder=tmp_path).stdout)["values"]
    assert values["fleet.memory_budget"] == {"value": 2 * 1024**3, "origin": "studium.yaml:3"}


def test_text_that_steers_terminals_is_made_harmless(tmp_path):
    config = write_roster(tmp_path)
    config.write_text(config.read_text().replace("speciality: sums", 'speciality: "\\e[31msums"'))
    assert "\x1b" not in studium("students", "list", folder=tmp_path).stdout


def studium_code(code, *arguments, folder):
    """Run `code` as a program that drives the command line."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=os.environ | {"HOME": str(folder), "TMPDIR": str(folder)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
