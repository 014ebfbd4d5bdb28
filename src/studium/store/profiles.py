"""A model's profile as a row and back: readable columns for people, one JSON column for forecasts."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import Engine, select

from studium.records.models import MemoryEstimate
from studium.records.profiles import ModelProfile, Quantity, Spread
from studium.store import schema

log = logging.getLogger(__name__)

_PLAIN = ("model", "name", "engine", "device", "runs", "failures", "loads", "peak_bytes")
_TYPICAL = (
    "load_seconds",
    "unload_seconds",
    "run_seconds",
    "prompt_tokens_per_second",
    "tokens_per_second",
    "tokens_per_answer",
)


def profile_row(profile: ModelProfile) -> dict[str, Any]:
    """Return the profile as a row of `model_profiles`."""
    estimate = profile.estimate
    statistics = {
        "spreads": {quantity.value: _numbers(spread) for quantity, spread in profile.spreads.items()},
        "recent_runs": (profile.recent_failures, profile.recent_successes),
    }
    return {name: getattr(profile, name) for name in (*_PLAIN, *_TYPICAL)} | {
        "quantisation": estimate.quantisation if estimate else "",
        "weights_bytes": estimate.weights_bytes if estimate else None,
        "kv_cache_bytes": estimate.kv_cache_bytes if estimate else None,
        "overhead_bytes": estimate.overhead_bytes if estimate else None,
        "statistics": orjson.dumps(statistics).decode(),
    }


def read_profiles(database: Engine) -> dict[str, ModelProfile]:
    """Return every model's profile by key. Raises DBAPIError where the table is missing or too old."""
    with database.connect() as connection:
        rows = connection.execute(select(schema.model_profiles)).mappings()
        return {row["model"]: profile_from_row({**row}) for row in rows}


def _numbers(spread: Spread) -> tuple[float, ...]:
    # On the path of every run, where `dataclasses.astuple` copies too much.
    return spread.observations, spread.weight, spread.mean, spread.squares, spread.surprises


def profile_from_row(row: Mapping[str, Any]) -> ModelProfile:
    """Return the profile of a row of `model_profiles`.

    Statistics that cannot be read are left out with a log line: they are learned again, while counts
    and the highest memory stay.
    """
    plain = {name: row[name] for name in _PLAIN}
    try:
        statistics = orjson.loads(row["statistics"])
        spreads = {Quantity(name): Spread(*values) for name, values in statistics.get("spreads", {}).items()}
        failures, successes = statistics.get("recent_runs", (0.0, 0.0))
    except (ValueError, TypeError, AttributeError):
        log.warning("the statistics of %s cannot be read; they are learned anew", row["model"])
        spreads, failures, successes = {}, 0.0, 0.0
    return ModelProfile(
        **plain,
        estimate=_estimate(row),
        spreads=spreads,
        recent_failures=failures,
        recent_successes=successes,
    )


def _estimate(row: Mapping[str, Any]) -> MemoryEstimate | None:
    if row["weights_bytes"] is None:
        return None
    return MemoryEstimate(
        row["weights_bytes"], row["kv_cache_bytes"], row["overhead_bytes"], row["quantisation"]
    )
