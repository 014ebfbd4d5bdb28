"""`studium domains`: what there is, what it looks like, and whether it holds."""

import json

import pytest

from studium.cli.main import run
from studium.domains.catalogue import shipped_domains


def told(capsys: pytest.CaptureFixture[str], *arguments: str):
    assert run(["domains", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_domain_is_listed_with_what_it_is_measured_by(capsys: pytest.CaptureFixture[str]):
    rows = {row["name"]: row for row in told(capsys, "list")}
    assert list(rows)[: len(shipped_domains())] == list(shipped_domains())
    assert rows["moderation"]["metrics"] == ["accuracy", "f1", "false_positive_rate", "detection_rate"]
    assert rows["sentiment"]["reads_rows"] and not rows["sorting"]["reads_rows"]


def test_a_domain_shows_a_problem_of_each_level_and_the_form_of_a_row(capsys: pytest.CaptureFixture[str]):
    shown = told(capsys, "show", "moderation")
    assert [one["level"] for one in shown["examples"]] == [1, 2, 3]
    assert all(one["solution"].splitlines()[-1].startswith("Answer: ") for one in shown["examples"])
    assert shown["schema"]["required"] == ["text", "label"]
    assert run(["domains", "show", "moderation"]) == 0
    assert "Answer: " in capsys.readouterr().out


def test_a_domain_is_put_under_attack_and_every_attack_is_told(capsys: pytest.CaptureFixture[str]):
    found = told(capsys, "stress", "arithmetic", "--problems", "3")
    assert found["holds"] and found["problems"] == 9
    assert all(row["holds"] for row in found["attacks"])
    assert {"empty", "hedge, gold last", "gold buried in prose"} <= {
        row["attack"] for row in found["attacks"]
    }
    assert run(["domains", "stress", "arithmetic", "--problems", "3"]) == 0
    assert "arithmetic holds (9 problems)" in capsys.readouterr().out


def test_a_domain_there_is_not_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]):
    assert run(["domains", "stress", "arithmetik"]) == 4
    assert "did you mean 'arithmetic'" in capsys.readouterr().err
