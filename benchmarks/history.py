"""What reading a forecast costs with a long history in the same store, beside averaging that history."""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from sqlalchemy import select

from benchmarks.report import Aim, say
from studium.fleet.profiles import Profiles
from studium.records.models import ModelSpec
from studium.records.profiles import Forecast, ModelProfile
from studium.store import open_store, schema
from studium.store.profiles import profile_from_row


def reading(
    folder: Path, models: Sequence[ModelSpec], teach: Callable[[Profiles], None], history: int
) -> tuple[Aim, Mapping[str, Any]]:
    """Read forecasts of `models`, which `teach` tells the profiles of, in a store that holds `history` runs."""
    path = folder / "state.db"
    store = open_store(path)
    profiles = Profiles({}, store.save_profile)
    teach(profiles)
    store.flush()
    say(f"writing a history of {history:,} runs")
    _fill(path, [model.name for model in models], history)
    in_memory = _milliseconds(2_000, lambda i: profiles.forecast(models[i % len(models)]))

    def from_disk(index: int) -> Forecast:
        key = profiles.of(models[index % len(models)]).model
        table = schema.model_profiles
        row = store.read(select(table).where(table.c.model == key))[0]
        known: dict[str, ModelProfile] = {key: profile_from_row(row)}
        return Profiles(known, lambda _profile: None).forecast(models[index % len(models)])

    disk = _milliseconds(500, from_disk)
    began = time.perf_counter()
    with sqlite3.connect(path) as client:
        client.execute(
            "SELECT student, AVG(time_seconds), AVG(vram_mb) FROM student_runs GROUP BY student"
        ).fetchall()
    scan_s = time.perf_counter() - began
    store.close()
    row = {
        "what": f"reading with {history:,} runs in the store",
        "forecast, median ms": median(in_memory),
        "p99 ms": _p99(in_memory),
        "row read and forecast, median ms": median(disk),
        "disk p99 ms": _p99(disk),
        "averaging the history instead, s": scan_s,
        "store MB": path.stat().st_size / 1e6,
    }
    usual = median(in_memory)
    aim = Aim(
        f"reading a forecast with {history:,} runs, ms",
        usual,
        min(in_memory),
        _p99(in_memory),
        "< 1",
        usual < 1,
        "low is the quickest, high the 99th percentile; whoever else uses the processor is in it",
    )
    return aim, row


def _fill(path: Path, students: Sequence[str], history: int) -> None:
    """Put `history` runs into `student_runs`, made by SQLite itself."""
    names = ", ".join(f"({index}, '{name}')" for index, name in enumerate(students))
    with sqlite3.connect(path) as client:
        client.execute(
            f"""
            WITH RECURSIVE named(n, name) AS (VALUES {names}),
            runs(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM runs WHERE i < {history})
            INSERT INTO student_runs (cycle, student, vram_mb, time_seconds, tokens, tokens_per_sec, success,
                timestamp, model, prompt_tokens, load_seconds, error_code)
            SELECT i / 10, name, 50.0 + i % 7, 0.1 + (i % 13) * 0.01, 20, 150.0, i % 50 > 0,
                '2026-11-21T03:00:00+00:00', name, 30, 0.0, ''
            FROM runs JOIN named ON n = i % (SELECT COUNT(*) FROM named)
            """
        )


def _milliseconds(times: int, read: Callable[[int], object]) -> list[float]:
    taken = list[float]()
    for index in range(times):
        began = time.perf_counter()
        read(index)
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def _p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100)[98]
