"""`studium feedback`, `models why`, `models calibrate` and `models calibration`, in processes of their own."""

import json
from pathlib import Path

import pytest
from tests.cli.roster import studium, write_roster


@pytest.fixture
def folder(tmp_path) -> Path:
    write_roster(tmp_path)
    return tmp_path


def told(*arguments: str, folder: Path):
    done = studium(*arguments, "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ask(folder: Path) -> str:
    return told("ask", "What is 47 + 58?", folder=folder)["request_id"]


def test_an_answer_shows_its_id_and_takes_feedback_without_a_server(folder):
    shown = studium("ask", "What is 47 + 58?", "--explain", folder=folder).stdout.splitlines()[-1]
    name = shown.split("studium feedback ")[1].split()[0]
    said = studium("feedback", name, "good", folder=folder)
    assert said.returncode == 0 and said.stdout.startswith("noted: good (arithmetic); ")
    corrected = told("feedback", name, "Answer: 106", folder=folder)
    assert corrected["rating"] == "corrected" and set(corrected["grades"].values()) == {0.0}


def test_feedback_on_nothing_is_refused(folder):
    refused = studium("feedback", "nothing", "good", folder=folder)
    assert refused.returncode == 4
    assert "there is no answer 'nothing' of yours" in refused.stderr and "try:" in refused.stderr


def test_feedback_changes_who_is_trusted(folder):
    def trust() -> dict[str, float]:
        found = told("models", "why", "What is 47 + 58?", folder=folder)
        return {one["student"]: one["reliability"] for one in found["students"]}

    before, name = trust(), ask(folder)
    told("feedback", name, "Answer: 106", folder=folder)
    after = trust()
    assert min(after.values()) < max(before.values()) == 0.5


def test_why_reads_as_a_table(folder):
    shown = studium("models", "why", "What is 47 + 58?", folder=folder)
    assert shown.stdout.startswith("kind: arithmetic\n")
    assert "alpha" in shown.stdout and "nats/s" in shown.stdout


def test_the_old_ways_to_call_models_still_work(folder):
    assert "adder" in studium("models", folder=folder).stdout
    assert [one["model"]["name"] for one in told("models", folder=folder)] == ["adder", "doubter"]
    assert studium("models", "adder", folder=folder).stdout.startswith("adder (scripted")
    assert "tokens/s" in studium("models", "--learned", folder=folder).stdout
    assert studium("models", "whyy", folder=folder).returncode == 4


def test_calibration_is_planned_done_once_and_resumed(folder):
    plan = told(
        "models", "calibrate", "--problems", "4", "--domain", "arithmetic", "--dry-run", folder=folder
    )
    assert (plan["to_ask"], plan["done_before"]) == (16, 0)
    assert {name: one["questions"] for name, one in plan["left"].items()} == {"alpha": 8, "beta": 8}
    done = told("models", "calibrate", "--problems", "4", "--domain", "arithmetic", folder=folder)
    # These students know one sum only, and it is not among the problems: declining is not being right, and no
    # reason to ask once more.
    assert done["results"] == [["alpha", "arithmetic", 4, 0.0, 0.0], ["beta", "arithmetic", 4, 0.0, 0.0]]
    more = told("models", "calibrate", "--problems", "6", "--domain", "arithmetic", folder=folder)
    assert (more["to_ask"], more["done_before"]) == (8, 8)
    again = told("models", "calibrate", "--problems", "6", "--domain", "arithmetic", folder=folder)
    assert (again["to_ask"], again["done_before"]) == (0, 12)
    found = told("models", "why", "What is 47 + 58?", folder=folder)
    assert all(one["reliability"] < 0.4 and round(one["grades"]) == 6 for one in found["students"])


@pytest.mark.parametrize(
    "arguments",
    [("--student", "nobody"), ("--domain", "nothing"), ("--problems", "0")],
    ids=lambda one: one[0],
)
def test_calibration_of_what_is_not_there_is_refused(folder, arguments):
    assert studium("models", "calibrate", *arguments, folder=folder).returncode in (2, 4)


def test_calibration_says_what_it_has_and_what_it_lacks(folder):
    assert "no graded answer" in studium("models", "calibration", folder=folder).stderr
    ask(folder)
    found = told("models", "calibration", folder=folder)
    assert (found["of"], found["pairs"]) == ("the ensemble", 1)
    assert 0 <= found["ece"]["value"] <= 1
    shown = studium("models", "calibration", folder=folder).stdout
    assert "ECE" in shown and "|" in shown
