"""`studium compare` with real students: one word, its exit status, and evidence that replays or is refused."""

import json
import shutil
from pathlib import Path

import pytest

from studium.cli.compare_run import Wanted, contest_of
from studium.cli.main import run
from studium.records.adapters import AdapterKind, Verdict
from studium.registry import EMBEDDED, Registry
from studium.store import open_store


def compare(workspace: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(["compare", *arguments, "--workspace", str(workspace)])
    told = capsys.readouterr()
    return status, told.out, told.err


NARROW = ("--on", "arithmetic", "--narrow")


@pytest.mark.slow
def test_a_better_student_is_promoted_on_evidence_that_replays_and_a_worse_one_rolled_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    status, out, _ = compare(
        tmp_path, capsys, "sprout", "clerk", *NARROW, "--json", "--out", str(tmp_path / "o")
    )
    told = json.loads(out)
    assert (status, told["verdict"], told["stopped_early"]) == (0, "promote", True)
    assert told["tuned"]["cost"]["peak_bytes"] > told["tuned"]["cost"]["file_bytes"]
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"report.md", "report.html", "report.json"}

    status, out, _ = compare(tmp_path, capsys, "--replay", told["evidence"][:12])
    assert (status, out.splitlines()[0]) == (0, "PROMOTE: clerk")
    status, out, _ = compare(tmp_path, capsys, "clerk", "sprout", *NARROW)
    assert (status, out.splitlines()[0]) == (10, "ROLL BACK: sprout in the place of clerk")

    file = Path(told["evidence_file"])
    body = json.loads(file.read_text())
    body["body"]["engine"] = "another"
    file.write_text(json.dumps(body))
    status, _, err = compare(tmp_path, capsys, "--replay", str(file))
    assert status == 2
    assert "the evidence was changed" in err


@pytest.mark.slow
def test_forgetting_on_the_suite_rolls_back_who_is_better_at_what_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    status, out, _ = compare(tmp_path, capsys, "sprout", "clerk", "--on", "arithmetic", "--markdown")
    assert status == 10
    assert "Worse on the frozen suite: sentiment (18 lost, 0 won)" in out


@pytest.mark.slow
def test_a_file_that_changed_since_makes_its_evidence_void(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    checkpoint = tmp_path / "runs" / "mine" / "checkpoint"
    checkpoint.mkdir(parents=True)
    shutil.copy(EMBEDDED / "sprout.gguf", checkpoint / "model.gguf")
    arguments = ("sprout", str(checkpoint.parent), "--on", "sorting", "--problems", "9")
    status, out, _ = compare(tmp_path, capsys, *arguments, "--json")
    told = json.loads(out)
    assert (status, told["verdict"]) == (11, "hold")
    assert {row["won"] + row["lost"] for row in told["differences"]} == {0}
    assert compare(tmp_path, capsys, "--replay", told["evidence"][:16])[0] == 11

    shutil.copy(EMBEDDED / "clerk.gguf", checkpoint / "model.gguf")
    status, _, err = compare(tmp_path, capsys, "--replay", told["evidence"][:16])
    assert status == 2
    assert "challenger.files" in err


@pytest.mark.slow
def test_a_registered_adapter_is_compared_in_its_role_and_its_evidence_promotes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "given").mkdir()
    shutil.copy(EMBEDDED / "clerk.gguf", tmp_path / "given" / "model.gguf")
    store = open_store(tmp_path / "state.db")
    registry = Registry(store, tmp_path)
    adapter = registry.register(
        tmp_path / "given",
        "sprout",
        name="sums",
        base="sprout",
        base_sha256="",
        kind=AdapterKind.MODEL,
        lineage={},
    )
    status, out, _ = compare(tmp_path, capsys, "sprout", "sprout/sums", *NARROW, "--json")
    told = json.loads(out)
    assert (status, told["role"], told["tuned"]["name"]) == (0, "sprout", "sprout/sums")
    kept = registry.evidence(told["evidence"])
    assert (kept.champion, kept.challenger, kept.verdict) == ("", adapter.id, Verdict.PROMOTE)
    with registry.lease("a test") as token:
        registry.promote("sprout", adapter.id, evidence=kept.id, actor="a test", token=token)
    store.close()
    # The name of a role is who serves it now: evidence about the former champion is no longer about the same two.
    status, _, err = compare(tmp_path, capsys, "--replay", told["evidence"][:16])
    assert status == 2
    assert "champion" in err


def test_more_problems_go_on_where_fewer_ended_and_none_is_of_the_suite():
    fewer, asked = contest_of(Wanted(("arithmetic", "sorting"), (), 40, 1, "core"))
    more, _ = contest_of(Wanted(("arithmetic", "sorting"), (), 80, 1, "core"))
    ids = [one.id for one in more.fresh]
    assert ids[: len(fewer.fresh)] == [one.id for one in fewer.fresh]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {one.id for one in more.suite}
    assert asked["problems"] == 40


def test_a_skill_nobody_has_is_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, out, _ = compare(
        tmp_path, capsys, "critic", "critic", "--on", "arithmetic", "--problems", "3", "--narrow"
    )
    assert status == 12
    assert "0 to 0 right of 3 scored" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sprout",), "two models are needed"),
        (("sprut", "clerk"), "did you mean 'sprout'"),
        (("sprout", "sprout/none"), "no role 'sprout' with adapters"),
        (("sprout", "./none.gguf"), "there is no file"),
        (("sprout", "clerk", "--on", "arithmetc"), "did you mean 'arithmetic'"),
        (("sprout", "clerk", "--suite", "none"), "none is no suite"),
        (("--replay", "../../none"), "there is no evidence"),
        (("--replay", "0123456789"), "0 files of evidence"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
):
    status, _, err = compare(tmp_path, capsys, *arguments)
    assert status == 4
    assert said in err
    assert not (tmp_path / "compare").exists()


def test_a_dry_run_says_how_much_would_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, out, _ = compare(
        tmp_path, capsys, "sprout", "clerk", "--on", "sentiment", "--problems", "7", "--dry-run"
    )
    assert status == 0
    assert "7 fresh problems of sentiment and 108 of the suite core" in out
    assert "230 questions at most" in out
    assert not list(tmp_path.iterdir())
