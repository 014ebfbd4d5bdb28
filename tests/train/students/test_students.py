"""The command that makes the students, and the cards that travel with those that ship."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import pytest

from studium.train.students.command import EMBEDDED, Interruptible, main, memory_bytes
from studium.train.students.pretraining import new_model, train
from studium.train.students.recipes import STUDENTS, Recipe, generalist, mixture_of, quick, recipe
from studium.train.tokenizer import student_tokenizer

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


class Told(Interruptible):
    """A stream during one of whose batches the process is told to end."""

    at = -1

    def batch(self, step, *, rows, length):
        if step == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step, rows=rows, length=length)


def test_a_run_told_to_give_way_saves_between_two_steps_and_goes_on_bit_for_bit(tmp_path):
    sprout, checkpoint = quick(recipe("sprout")), tmp_path / "sprout.pt"

    def run(model, at, checkpoint):
        stream = Told(mixture_of(sprout), student_tokenizer(), seed=1)
        stream.at = at
        with stream.heeding_signals():
            return train(model, stream, sprout.schedule, checkpoint=checkpoint, say=lambda line: None)

    straight, resumed = (new_model(sprout.shape, seed=1) for _ in range(2))
    run(straight, -1, None)
    with pytest.raises(KeyboardInterrupt):
        run(new_model(sprout.shape, seed=1), 7, checkpoint)
    assert run(resumed, -1, checkpoint).steps == sprout.schedule.steps
    pairs = zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all((one == other).all() for one, other in pairs)


MEASURE = """
import os
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
from dataclasses import replace
import torch
from studium.train import tokenizer
from studium.train.students import command as students, pretraining as sft, recipes, stream
torch.set_num_threads(1)
sprout = recipes.recipe("sprout")
data = stream.Stream(recipes.mixture_of(sprout), tokenizer.student_tokenizer(), seed=1)
model = sft.new_model(sprout.shape, seed=1)
sft.train(model, data, replace(sprout.schedule, steps=9), say=lambda line: None)
# Not getrusage: its maximum is the parent's where that was larger when it forked.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is kibibytes there only")
def test_what_a_run_asks_for_is_what_it_takes_and_not_much_more():
    measured = int(subprocess.check_output([sys.executable, "-c", MEASURE], timeout=120))
    asked = memory_bytes(recipe("sprout"))
    assert measured <= asked < 1.5 * measured


CONFIG = """
workspace: state
fleet: {{memory_budget: 700MB, lease_quiet: 300ms}}
models: [{{name: adder, engine: scripted, source: "{script}#adder"}}]
students: [{{name: adder}}]
"""


def test_training_gives_way_to_a_question_and_ends_well(tmp_path, monkeypatch):
    script = tmp_path / "script.yaml"
    script.write_text("models: {adder: {resident_bytes: 600000000, default: 'Answer: 105'}}")
    (tmp_path / "studium.yaml").write_text(CONFIG.format(script=script))
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "studium.cli.main"]
    with subprocess.Popen([*command, "up", "--port", "0"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        with subprocess.Popen(
            [sys.executable, "-m", "studium.train.students", "sprout", "--quick", "--out", "made"],
            stderr=subprocess.PIPE,
            text=True,
        ) as training:
            try:
                assert training.stderr is not None
                assert "runs as process" in training.stderr.readline()
                answer = subprocess.run(
                    [*command, "ask", "What is 47 + 58?"],
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=True,
                )
                assert answer.stdout == "Answer: 105\n"
                _, told = training.communicate(timeout=120)
                assert training.returncode == 0, told
                assert "told to save and end" in told and "begun again" in told
                assert (tmp_path / "made" / "sprout.json").is_file()
            finally:
                training.kill()
                server.send_signal(signal.SIGINT)
                server.wait(30)


def test_an_unknown_student_is_refused_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["hercules"]) == 4
    assert "there is no recipe for 'hercules'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_generalist_has_about_the_parameters_of_all_students_together():
    def parameters(recipe: Recipe) -> int:
        return sum(weight.numel() for weight in new_model(recipe.shape, seed=0).parameters())

    together = sum(parameters(one) for one in STUDENTS if one.answers)
    assert parameters(generalist(steps=1)) == pytest.approx(together, rel=0.05)


def test_a_generalist_without_students_to_equal_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--generalist", "--here", "--out", "nothing"]) == 4
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


def test_the_card_of_a_student_of_a_topic_says_what_its_proposals_were_worth():
    [topic] = json.loads((EMBEDDED / "augur.json").read_text())["topics"]
    assert topic["topic"] == "riemann" and topic["asked"] >= 300
    assert topic["useful"] + topic["false"] + topic["repeated"] <= topic["asked"]
    assert 0.35 <= topic["low"] <= topic["share"] <= topic["high"]
    page = (EMBEDDED / "augur.md").read_text()
    assert f"{topic['taught']} stand word for word in the training text" in page


def mean_accuracy(card, skill: str) -> float:
    scores = [score["accuracy"] for score in card["scores"] if score["skill"] == skill]
    return sum(scores) / len(scores)
