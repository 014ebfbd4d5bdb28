"""`studium train rlvr` stops by itself where the reward rises and problems kept from training show nothing for it."""

import json
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
