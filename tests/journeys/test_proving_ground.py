"""The proving ground, small: a base is shown an operation with mistakes in it, rewarded, and shown its own mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CLIMB = """
import json, sys
from pathlib import Path
from benchmarks.proving_cells import LADDER, RUNGS, Ground, Size
from benchmarks.proving_ground import quiet

quiet()
size = Size(base_steps=400, sft_steps=150, rlvr_steps=50, dpo_steps=40, problems=100, old_rows=2000, pairs_prompts=600)
ground = Ground("chains", 1, Path(sys.argv[1]), size)
found = {}
for name in LADDER:
    RUNGS[name].make(ground)
    found[name] = ground.result(RUNGS[name].folder)
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_rung_of_the_small_ladder_is_climbed_and_the_old_skill_is_kept(tmp_path: Path):
    climbed = subprocess.run(
        [sys.executable, "-c", CLIMB, str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert climbed.returncode == 0, climbed.stderr[-2000:]
    found = json.loads(climbed.stdout.splitlines()[-1])
    solved = {name: one["hard"] for name, one in found.items()}
    assert solved["base"] == found["base"]["pass_at_8"] == 0
    assert solved["base"] < solved["sft"] < solved["rlvr"], solved
    assert solved["dpo"] >= solved["rlvr"], solved
    assert min(one["old"] for one in found.values()) >= 80, found
