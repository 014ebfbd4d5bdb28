"""The recipe of an improvement: fresh problems of the weak skill, and old skills in half of every batch.

Old skills are replayed as fresh problems, each seen about once: some hundreds of the model's own replies, seen again
and again, are learned by heart, and the skill behind them fades (measured: docs/decisions/0030). What the model
declines is replayed in its own words.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studium.domains.protocol import Split
from studium.manage.improve.folder import LEAST_STEPS, Wanted
from studium.manage.improve.weakest import Choice
from studium.train.config import Source
from studium.train.data import problems_of

REPLAY_SHARE = 0.6
BATCH = 32
PACE_STEPS = 12
VALIDATED = 100
MOST_STEPS = 3000
_RATE, _LORA_RATE, _LORA_RANK = 0.001, 0.004, 32


def recipe(choice: Choice, model: str, rehearsal: Path, wanted: Wanted) -> dict[str, Any]:
    """Return the recipe as plain data, without steps. `rows` problems of each domain, or those there are.

    Of the weak skill the levels it gets something of are taught, where none are wanted: another is beyond what minutes
    can teach, unless it gets nothing of any. Nothing is replayed that the weak skill's domain could have asked: it may
    be measured on there.
    """
    chosen, seed, rows = choice.chosen.domain, wanted.seed, wanted.rows
    weak = _fresh(chosen, wanted.levels or choice.chosen.begun, rows, seed)
    kept = (_fresh(one.domain, one.levels, rows, seed, chosen) for one in choice.kept if one.levels)
    told: dict[str, Any] = {
        "model": model,
        "seed": seed,
        "data": [weak],
        "validation": {"problems": _there(weak, VALIDATED, Split.SCORING)},
        "replay": {
            "share": REPLAY_SHARE,
            "data": [*(one for one in kept if one["rows"]), {"file": str(rehearsal)}],
        },
        "batch": BATCH,
        "max_tokens": 512,
        "optimiser": {"rate": _LORA_RATE if wanted.lora else _RATE, "warmup_steps": 20},
    }
    return told | ({"lora": {"rank": _LORA_RANK, "alpha": 2 * _LORA_RANK}} if wanted.lora else {})


def _fresh(domain: str, levels: Sequence[int], rows: int, seed: int, beside: str = "") -> dict[str, Any]:
    """Return a source of a domain's problems: so many, or as many different ones as it has."""
    told: dict[str, Any] = {"domain": domain, "levels": list(levels), "seed": seed}
    told |= {"beside": beside} if beside else {}
    return told | {"rows": _there(told, rows, Split.TRAIN)}


def _there(told: Mapping[str, Any], most: int, side: Split) -> int:
    wanted = Source(**{**told, "levels": tuple(told["levels"]), "rows": most})
    return len(problems_of(wanted, side=side, scarce=True))


def for_pace(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe for the few steps that tell how long one takes, on no more rows: all are checked before."""
    optimiser = {**told["optimiser"], "warmup_steps": PACE_STEPS // 3}
    return {
        **told,
        "data": _few(told["data"]),
        "replay": {**told["replay"], "data": _few(told["replay"]["data"])},
        "steps": PACE_STEPS,
        "optimiser": optimiser,
        "validation": {"every_steps": PACE_STEPS, "problems": 1},
    }


def _few(sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    most = PACE_STEPS * BATCH
    return [{**one, "rows": min(one["rows"], most)} if "rows" in one else dict(one) for one in sources]


def with_steps(told: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the recipe for so many steps, validated four times on the way; the best of these is kept."""
    return {
        **told,
        "steps": steps,
        "validation": {**told["validation"], "every_steps": max(1, steps // 4)},
    }


def steps_within(seconds: float, seconds_a_step: float, least: int = LEAST_STEPS) -> int:
    """Return how many steps fit; 0 where fewer than `least` do."""
    fit = int(seconds / seconds_a_step) if seconds_a_step > 0 else MOST_STEPS
    return 0 if fit < least else min(fit, MOST_STEPS)
