"""`studium bootstrap` as a user types it, up to where it would train."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

from studium.cli import main


def test_a_dry_run_says_what_would_be_done_and_begins_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "state"
    assert main.run(["bootstrap", "--dry-run", "--json", "--workspace", str(where)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["wanted"]["role"], told["wanted"]["domains"], told["wanted"]["levels"]) == (
        "implementer",
        ["arithmetic"],
        [1, 2],
    )
    assert not where.exists()


def test_a_foundational_adapter_from_elsewhere_is_not_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "adapters" / "foundational" / "champion_v1").mkdir(parents=True)
    assert main.run(["bootstrap", "--workspace", str(tmp_path)]) == 4
    assert "was not made here" in capsys.readouterr().err
    assert not (tmp_path / "improvements").exists()


def test_a_role_that_another_student_holds_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("studium.yaml").write_text("roles: {implementer: {student: abacus}}\n")
    assert main.run(["bootstrap", "--dry-run"]) != 0
    assert "is held by abacus" in capsys.readouterr().err
