"""`studium adapters` as a user types it, without a running server: the store tells, and keeps what is changed."""

import json

import pytest
from tests.registry.weights import BASE, adapter_folder, base_file, model_folder

from studium.cli import main
from studium.evals.gate.evidence import Side, body_of, seal, write
from studium.evals.gate.verdict import Limits, Pair
from studium.records.adapters import Verdict, content_sha256
from studium.registry.files import sha256_of_file

WORKSPACE = "state"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "studium.yaml").write_text(f"workspace: {WORKSPACE}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Return what runs one command in the folder and checks its exit status."""

    def run(*arguments, expect=0):
        status = main.run(["adapters", *arguments])
        said = capsys.readouterr()
        assert status == expect, said.out + said.err
        return said

    return run


@pytest.fixture
def told(run):
    return lambda *arguments, expect=0: json.loads(run(*arguments, "--json", expect=expect).out)


def finished_run(folder, name="my-run"):
    """Lay a run's folder down as training leaves it after a LoRA: adapter and merged checkpoint."""
    run_folder = folder / WORKSPACE / "runs" / name
    adapter_folder(run_folder / "adapter", name)
    model_folder(run_folder / "checkpoint")
    recipe = {
        "stage": "sft",
        "recipe": {"model": BASE, "name": name, "steps": 6},
        "data": "12" * 32,
        "base_sha256": sha256_of_file(base_file()),
        "versions": {"studium": "0.1.0"},
        "commit": "abc1234",
    }
    (run_folder / "recipe.json").write_text(json.dumps(recipe))
    (run_folder / "status.json").write_text(
        json.dumps({"state": "done", "step": 6, "steps": 6, "seconds": 2.0})
    )
    return run_folder


def gate_says(folder, adapter, wins):
    """Lay evidence down as the gate does; return it."""
    fresh = [Pair(f"p{number}", "arithmetic", 1, 0.0, 1.0 if number < wins else 0.0) for number in range(60)]
    suite = [Pair(f"s{number}", "arithmetic", 1, 1.0, 1.0) for number in range(200)]
    sides = Side(BASE), Side(f"{BASE}@{adapter['name']}", adapter["id"])
    body = body_of(*sides, asked={}, engine="test", limits=Limits(), fresh=fresh, suite=suite)
    evidence = seal(body, role=BASE, at=1.0)
    write(evidence, folder / WORKSPACE / "evidence")
    return evidence


def test_a_finished_run_is_taken_in_with_its_lineage(folder, run, told):
    finished_run(folder)
    adapter = told("register", "my-run", "--role", BASE)
    assert (adapter["name"], adapter["kind"], adapter["base"]) == ("my-run", "adapter", BASE)
    lineage = adapter["lineage"]
    assert (lineage["run"], lineage["stage"], lineage["commit"]) == ("my-run", "sft", "abc1234")
    assert lineage["data_sha256"] == "12" * 32 and len(lineage["recipe_sha256"]) == 64
    whole = told("register", "my-run", "--role", BASE, "--merged", "--name", "whole")
    assert (whole["kind"], whole["serving_file"]) == ("model", "model.gguf")
    listed = run("list").out
    assert "sft my-run" in listed and "whole" in listed


@pytest.mark.parametrize("whole", [True, False])
def test_what_went_on_from_an_adapter_names_it_and_the_student_both_began_with(folder, run, told, whole):
    """Its base was told as a path of the file it was trained on, which led nobody anywhere."""
    finished_run(folder)
    first = told("register", "my-run", "--role", BASE, *(["--merged"] if whole else []))
    file = (
        f"{WORKSPACE}/{first['folder']}/model.gguf"
        if whole
        else f"{WORKSPACE}/runs/my-run/checkpoint/model.gguf"
    )
    for number, name in enumerate(("second", "third")):
        recipe = json.loads((finished_run(folder, name) / "recipe.json").read_text())
        before = f"{WORKSPACE}/adapters/{BASE}/second/model.gguf" if number else file
        recipe |= {"recipe": {"model": before}, "base_sha256": sha256_of_file(folder / before)}
        (folder / WORKSPACE / "runs" / name / "recipe.json").write_text(json.dumps(recipe))
        made = told("register", name, "--role", BASE, "--merged")
        assert made["base"] == f"{BASE}/{first['name']}"
        assert (made["lineage"]["stands_on"], made["lineage"]["student"]) == (first["id"], BASE)
        first = made
    assert f"{BASE}/second" in run("list").out


def test_promotion_on_the_gates_evidence_and_the_way_back(folder, run, told):
    finished_run(folder)
    adapter = told("register", "my-run", "--role", BASE)
    evidence = gate_says(folder, adapter, wins=60)
    assert evidence.verdict is Verdict.PROMOTE
    promote = ("promote", BASE, "my-run", "--evidence", evidence.id[:12])
    assert "my-run would serve" in run(*promote, "--dry-run").out
    assert told("state")[-2]["champion"] == "own-student"
    assert "my-run serves, own-student served before" in run(*promote).out
    role = next(one for one in told("state") if one["role"] == BASE)
    assert (role["champion"], role["back"]) == ("my-run", ["own-student"])
    assert "(serves)" in run("list").out
    assert "own-student serves" in run("rollback", BASE, "--reason", "no better").out
    history = told("history")
    assert [one["action"] for one in history] == ["register", "promote", "roll back"]
    assert history[1]["evidence"] == evidence.id and history[2]["reason"] == "no better"
    shown = run("history", "--role", BASE).out
    assert evidence.id[:12] in shown and "no better" in shown
    assert "was used for change 2" in run(*promote, expect=4).err


def test_evidence_that_says_hold_or_was_changed_promotes_nobody(folder, run, told):
    finished_run(folder)
    adapter = told("register", "my-run", "--role", BASE)
    held = gate_says(folder, adapter, wins=1)
    assert held.verdict is not Verdict.PROMOTE
    done = run("promote", BASE, "my-run", "--evidence", held.id, expect=4)
    assert f"verdict is '{held.verdict.value}'" in done.err
    lied = {**held.body, "engine": "another"}
    path = folder / WORKSPACE / "evidence" / f"{content_sha256(lied)}.json"
    path.write_text(
        json.dumps(
            {
                "id": content_sha256(lied),
                "at": 1.0,
                "role": BASE,
                "champion": "",
                "challenger": adapter["id"],
                "verdict": "promote",
                "body": lied,
            }
        )
    )
    done = run("promote", BASE, "my-run", "--evidence", content_sha256(lied), expect=2)
    assert "its pairs say" in done.err
    assert [one["action"] for one in told("history")] == ["register"]


WRONG = [
    (("promote", BASE, "my-run"), 4, "a promotion needs evidence"),
    (("promote", BASE, "my-run", "--force"), 4, "forcing needs a reason"),
    (("promote", BASE, "my-run", "--force", "--evidence", "x"), 4, "both --evidence and --force"),
    (("promote", BASE, "my-rnu", "--force", "--reason", "x"), 4, "did you mean 'my-run'?"),
    (("promote", "sprot", "my-run", "--force", "--reason", "x"), 4, "did you mean 'sprout'?"),
    (("promote", BASE, "my-run", "--evidence", "0" * 64), 4, "there is no evidence"),
    (("rollback", BASE), 4, "nothing before that"),
    (("rollback", "../x"), 4, "there is no role '../x'"),
    (("list", "--role", "sprot"), 4, "did you mean 'sprout'?"),
    (("history", "--role", "sprot"), 4, "did you mean 'sprout'?"),
    (("register", "no-such-run", "--role", BASE), 4, "neither a run nor a folder"),
    (("register", "my-run", "--role", "sprot"), 4, "did you mean 'sprout'?"),
    (("register", "my-run", "--role", BASE, "--name", "../up"), 4, "is no name for an adapter"),
    (("register", "my-run", "--role", BASE, "--base", "abacus"), 4, "is not the one this was trained on"),
]


def test_what_is_wrong_is_said_with_what_was_expected(folder, run, told):
    finished_run(folder)
    run("register", "my-run", "--role", BASE)
    for arguments, status, said in WRONG:
        done = run(*arguments, expect=status)
        assert said in done.err and "expected:" in done.err and "try:" in done.err, arguments
    assert len(told("history")) == 1


def test_verify_names_a_changed_file_and_ends_with_a_status(folder, run, told):
    finished_run(folder)
    adapter = told("register", "my-run", "--role", BASE)
    sound = told("verify")
    assert (sound["sound"], sound["changes"], sound["adapters"]) == (True, 1, 1)
    with (folder / WORKSPACE / adapter["folder"] / "adapter.gguf").open("ab") as file:
        file.write(b"\0")
    found = told("verify", expect=1)
    assert [one["where"] for one in found["faults"]] == ["adapters/sprout/my-run/adapter.gguf"]
    assert "1 faults" in run("verify", expect=1).out


def test_a_plain_folder_needs_a_base_and_a_role_may_be_one_of_the_configuration(folder, run, told):
    (folder / "studium.yaml").write_text(
        f"workspace: {WORKSPACE}\nroles:\n  implementer: {{student: sprout}}\n"
    )
    adapter_folder(folder / "given")
    done = run("register", "given", "--role", "implementer", expect=4)
    assert "nobody noted what" in done.err and "--base" in done.err
    run("register", "given", "--role", "implementer", "--base", BASE)
    run("promote", "implementer", "given", "--force", "--reason", "try it")
    state = {one["role"]: one for one in told("state")}
    assert state["implementer"]["champion"] == "given" and state["implementer"]["student"] == BASE
    assert state[BASE]["champion"] == "own-student"
    run("promote", "implementer", "own-student", "--force", "--reason", "enough")
    assert told("state")[4]["champion"] == "own-student"


def test_cleaning_says_what_goes_and_the_list_says_what_went(folder, run, told):
    for name in ("first", "second"):
        finished_run(folder, name)
        run("register", name, "--role", BASE)
    [would] = told("clean", "--dry-run")["removed"]
    assert would["name"] == "first" and would["size_bytes"] > 0
    assert "sprout/first" in run("clean").out
    assert [one["removed"] for one in told("list")] == [True, False]
    assert "first (removed)" in run("list").out
    assert told("clean") == {"removed": [], "exposures": 0, "dry_run": False}
    assert "all as written" in run("verify").out and told("history")[-1]["action"] == "remove"
