"""The command that makes the students, and the cards that travel with those that ship."""

import hashlib
import json

import pytest

from studium.train.recipes import STUDENTS, Recipe, generalist
from studium.train.sft import new_model
from studium.train.students import EMBEDDED, main

pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

SKILLS = ("arithmetic", "sorting", "measures", "sentiment", "programs")
CARDS = sorted(EMBEDDED.glob("*.json"))


def test_the_quick_command_writes_a_model_and_its_cards(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sprout", "--quick", "--out", "made"]) == 0
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "sprout.gguf",
        "sprout.json",
        "sprout.md",
    ]
    card = json.loads((tmp_path / "made" / "sprout.json").read_text())
    assert card["training"]["steps"] == 20
    assert {score["skill"] for score in card["scores"]} >= {"arithmetic", "sentiment", "outside"}
    assert "tiny" in (tmp_path / "made" / "sprout.md").read_text()
    assert not (tmp_path / "build" / "students-quick" / "sprout.pt").exists()
    assert capsys.readouterr().out == ""


def test_an_unknown_student_is_refused_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["hercules"]) == 4
    assert "there is no recipe for 'hercules'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_generalist_has_about_the_parameters_of_all_students_together():
    def parameters(recipe: Recipe) -> int:
        return sum(weight.numel() for weight in new_model(recipe.shape, seed=0).parameters())

    together = sum(map(parameters, STUDENTS))
    assert parameters(generalist(steps=1)) == pytest.approx(together, rel=0.05)


def test_a_generalist_without_students_to_equal_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--generalist", "--out", "nothing"]) == 4
    assert "no card of a student in nothing/" in capsys.readouterr().err


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_a_shipped_card_belongs_to_its_file(path):
    card = json.loads(path.read_text())
    gguf = path.with_suffix(".gguf")
    assert card["file"]["sha256"] == hashlib.sha256(gguf.read_bytes()).hexdigest()
    assert card["licence"] == "Apache-2.0"
    assert path.with_suffix(".md").exists()


def test_the_shipped_students_are_small_and_cover_every_skill_twice():
    cards = [json.loads(path.read_text()) for path in CARDS]
    assert sum(card["file"]["bytes"] for card in cards) < 10 * 2**20
    for skill in SKILLS:
        _, second, *_ = sorted((mean_accuracy(card, skill) for card in cards), reverse=True)
        assert second >= 0.8, (skill, second)


def test_no_shipped_student_is_good_at_more_than_half_of_the_skills_and_all_decline_what_is_outside():
    for path in CARDS:
        card = json.loads(path.read_text())
        assert sum(mean_accuracy(card, skill) >= 0.6 for skill in SKILLS) <= 2
        assert mean_accuracy(card, "outside") >= 0.85


def mean_accuracy(card, skill: str) -> float:
    scores = [score["accuracy"] for score in card["scores"] if score["skill"] == skill]
    return sum(scores) / len(scores)
