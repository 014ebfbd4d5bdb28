"""Is a student better after each recipe that ships? Trained from its command, then compared on fresh problems.

Per recipe for a processor and per seed: `studium train STAGE --config recipes/STAGE.yaml`, then `studium compare` of
the student as it ships with what was trained, on problems that neither training nor its validation saw: of the levels
that are trained, and of an old skill that shows forgetting.

--seeds N (default 2), --only STAGE...; --quick: one seed, fewer problems. Runs of the same commit are kept in build/:
stopped, it goes on.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.report import BUILD, REPOSITORY, Aim, Report, commit, emit, say

STUDENT, OLD_SKILL, OLD_LEVELS = "sprout", "sorting", (1, 2)
PROBLEMS, QUICK_PROBLEMS, SEED = 1000, 100, 8_000_001
SEEDS = 2
LIMIT_S = 1800.0

Json = dict[str, Any]


class Skill(NamedTuple):
    """What a recipe trains: a domain and its levels."""

    domain: str
    levels: tuple[int, ...]


TRAINED = {
    "sft": Skill("chains", (2, 3)),
    "weighted_sft": Skill("arithmetic", (1,)),
    "srl": Skill("arithmetic", (1,)),
    "rlvr": Skill("arithmetic", (1,)),
    "dpo": Skill("arithmetic", (1,)),
    "kto": Skill("arithmetic", (1,)),
    "distil": Skill("arithmetic", (1,)),
}


def main() -> None:
    """Parse the command line, measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=TRAINED, default=list(TRAINED))
    given = parser.parse_args()
    seeds = given.seeds or (1 if given.quick else SEEDS)
    problems = QUICK_PROBLEMS if given.quick else PROBLEMS
    rows = [_kept(stage, seed, problems) for stage in given.only for seed in range(1, seeds + 1)]
    only = "" if given.only == list(TRAINED) else f" --only {' '.join(given.only)}"
    command = f"python -m benchmarks.recipes --seeds {seeds}{only}" + (" --quick" if given.quick else "")
    emit("recipes", _report(rows), command=command, as_json=given.json)


def _kept(stage: str, seed: int, problems: int) -> Json:
    """Return what a recipe and seed measured, now or when this was begun at the same commit."""
    path = BUILD / "recipes" / commit() / f"{stage}-{seed}-{problems}.json"
    if not path.exists():
        say(f"{stage}, seed {seed}")
        with TemporaryDirectory(prefix="studium-recipes-") as folder:
            found = _measured(stage, seed, problems, Path(folder))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    return json.loads(path.read_text())


def _measured(stage: str, seed: int, problems: int, workspace: Path) -> Json:
    recipe = REPOSITORY / "recipes" / f"{stage}.yaml"
    began = time.monotonic()
    ran = _studium(workspace, "train", stage, "--config", str(recipe), "--set", f"seed={seed}")
    seconds = time.monotonic() - began
    new = _difference(workspace, ran["folder"], TRAINED[stage], problems)
    old = _difference(workspace, ran["folder"], Skill(OLD_SKILL, OLD_LEVELS), problems)
    return {
        "recipe": stage,
        "seed": seed,
        "ended": ran["state"],
        "s": round(seconds, 1),
        "skill": TRAINED[stage].domain,
        "before": round(new["baseline"], 3),
        "after": round(new["tuned"], 3),
        "gain": round(new["difference"], 3),
        "low": round(new["low"], 3),
        "high": round(new["high"], 3),
        "old skill": round(old["difference"], 3),
        "its low": round(old["low"], 3),
    }


def _difference(workspace: Path, run: str, skill: Skill, problems: int) -> Json:
    """Return the paired difference of a run and the student it began with, over all levels asked."""
    levels = [word for level in skill.levels for word in ("--level", str(level))]
    words = ("--on", skill.domain, *levels, "--all", "--problems", str(problems), "--seed", str(SEED))
    told = _studium(workspace, "compare", STUDENT, run, *words)
    return next(one for one in told["differences"] if one["domain"] == skill.domain and one["level"] is None)


def _report(rows: Sequence[Json]) -> Report:
    gains = [
        Aim(
            f"{stage}: gain in the trained skill, the least of the seeds",
            min(one["gain"] for one in own),
            min(one["low"] for one in own),
            max(one["high"] for one in own),
            "> 0",
            min(one["low"] for one in own) > 0,
        )
        for stage in TRAINED
        if (own := [one for one in rows if one["recipe"] == stage])
    ]
    worst = min(rows, key=lambda one: one["old skill"])
    kept = Aim(
        "change of the old skill, the worst",
        worst["old skill"],
        worst["its low"],
        None,
        ">= -0.05",
        worst["old skill"] >= -0.05,
        worst["recipe"],
    )
    return Report(
        rows, [*gains, kept], ["gains are paired differences in shares of 1, with Tango's interval"]
    )


def _studium(workspace: Path, *words: str) -> Json:
    line = [sys.executable, "-m", "studium", *words, "--workspace", str(workspace), "--json"]
    told = subprocess.run(
        line,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
    )
    if not told.stdout:
        raise RuntimeError(f"studium {' '.join(words)}: {told.stderr[-2000:]}")
    return json.loads(told.stdout)


if __name__ == "__main__":
    main()
