"""`studium train rlvr` stops by itself where the reward rises and problems kept from training show nothing for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.roster import studium

pytestmark = pytest.mark.slow

# Eight problems, over and over: learnt by heart within some thirty steps.
RECIPE = """
model: sprout
name: by-heart
data: [{domain: arithmetic, levels: [1], rows: 8, teach: prompts}]
steps: 100
batch: 8
max_tokens: 96
draws: {each: 8, most_tokens: 40, most_rounds: 1}
optimiser: {rate: 0.001, warmup_steps: 5, schedule: constant}
validation: {every_steps: 5, problems: 60}
"""


def test_a_reward_that_is_learnt_by_heart_stops_the_run_and_each_step_tells_what_replies_are_like(
    tmp_path: Path,
) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    ran = studium("train", "rlvr", "--config", "recipe.yaml", "--workspace", "state", folder=tmp_path)
    assert ran.returncode == 8, ran.stderr
    assert "score of problems kept from training" in ran.stderr
    run = tmp_path / "state" / "runs" / "by-heart"
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [one["kind"] for one in events if one.get("action") == "stop"] == ["gamed"]
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert {"reply_tokens", "cut_off", "well_formed", "copied", "same_reply"} <= set(first)


STRICT = """
from studium.domains.arithmetic import Arithmetic

class Strict(Arithmetic):
    name = "strict-arithmetic"

    def verify(self, problem, reply):
        score = super().verify(problem, reply)
        return score and float(reply.strip() == self.solution(problem).strip())
"""
SECOND = """
model: sprout
name: seconded
second_verifier: strict-arithmetic
data: [{domain: arithmetic, levels: [1], rows: 8, teach: prompts}]
steps: 2
batch: 4
max_tokens: 96
draws: {each: 4, most_tokens: 40, most_rounds: 1}
optimiser: {warmup_steps: 1}
validation: {every_steps: 1, problems: 12}
"""


def test_a_stricter_domain_of_ones_own_is_asked_at_every_validation_and_shown_everywhere(
    tmp_path: Path,
) -> None:
    site = tmp_path / "site"
    card = site / "strict-1.dist-info"
    card.mkdir(parents=True)
    (site / "strict.py").write_text(STRICT)
    (card / "METADATA").write_text("Metadata-Version: 2.1\nName: strict\nVersion: 1\n")
    (card / "entry_points.txt").write_text("[studium.domains]\nstrict-arithmetic = strict:Strict\n")
    (tmp_path / "recipe.yaml").write_text(SECOND)

    def studium_with_it(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "studium", *words, "--workspace", "state"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    ran = studium_with_it("train", "rlvr", "--config", "recipe.yaml")
    assert ran.returncode == 0, ran.stderr
    said = [line for line in ran.stderr.splitlines() if line.startswith("validation at step")]
    assert len(said) == 2 and all("second_verifier" in line for line in said)
    watched = studium_with_it("train", "watch", "seconded", "--once")
    assert "second_verifier at step  1: " in watched.stdout
    run = tmp_path / "state" / "runs" / "seconded"
    assert "![second_verifier](second_verifier.svg)" in (run / "report.md").read_text()
