"""How far a spend limit is passed by 200 calls at once with a kill -9 in their middle.

Four processes on one store make 50 calls at once each, of which one is killed and replaced, until nobody has room.
Compared in one run: Studium's governor, which reserves the most a call can cost before it, and a cap that is
checked before a call and recorded after it (re-implemented, as gateways commonly do). What the provider charges is
counted when a call is sent. Also: what a reservation and its settlement cost.
"""

import asyncio
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.governor_worker import ASK, MOST_USD, PRICE, reserving
from benchmarks.report import Aim, Report, run, say
from studium.config.schema import GovernorConfig
from studium.records.models import ModelSpec
from studium.serve.governor.governor import Governor
from studium.store.database import open_database
from studium.store.spending import Spending

PROCESSES, CALLS_AT_ONCE, CAP_USD = 4, 50, 400 * MOST_USD
KILL_AFTER_USD = CAP_USD * 0.4
LABELS = {
    "reserve": "Studium: reserve, call, settle",
    "check": "check, call, record (re-implemented)",
}


def trial(scheme: str, folder: Path, seed: int) -> dict[str, Any]:
    """Spend one cap, with one process killed on the way; return what was charged and how long calls waited."""
    store, charges = folder / "state.db", folder / "charges"
    if scheme == "reserve":
        open_database(store).dispose()
    charges.touch()

    def begin(number: int) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "benchmarks.governor_worker", scheme, str(store), str(charges)]
        command += [str(CAP_USD), str(CALLS_AT_ONCE), str(seed * 100 + number)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    processes = [begin(number) for number in range(PROCESSES)]
    replacement = begin(PROCESSES)
    for process in processes:
        print(file=process.stdin, flush=True)
    deadline = time.monotonic() + 60
    while charged_usd(charges) < KILL_AFTER_USD and time.monotonic() < deadline:
        time.sleep(0.002)
    victim = processes[random.Random(seed).randrange(PROCESSES)]
    victim.kill()
    print(file=replacement.stdin, flush=True)
    waits: list[float] = []
    for process in (*processes, replacement):
        told, _ = process.communicate(timeout=120)
        waits += [float(line) for line in told.splitlines()[: None if process is not victim else -1]]
    charged = charged_usd(charges)
    return {"charged": charged, "over": max(0.0, charged - CAP_USD) / CAP_USD, "waits": waits}


def charged_usd(charges: Path) -> float:
    """Return what the provider has charged so far."""
    content = charges.read_bytes()
    tokens = sum(number for (number,) in struct.iter_unpack("q", content[: len(content) // 8 * 8]))
    return tokens * PRICE.completion_usd_per_million / 1e6


async def one_after_the_other(folder: Path, calls: int) -> list[float]:
    """Return what letting in and settling one call at a time costs, in milliseconds, the settlement on disk."""
    costs: list[float] = []
    async with reserving(folder / "state.db", 1e6) as call:
        for _ in range(calls):
            began = time.perf_counter()
            async with call(10):
                pass
            costs.append((time.perf_counter() - began) * 1e3)
    return costs


async def free_call(folder: Path, calls: int) -> float:
    """Return what a call of a model that costs nothing waits for the governor, in microseconds."""
    database = open_database(folder / "state.db")
    spending = Spending(database)
    governor = Governor(spending, GovernorConfig(), {"cloud": {"large": PRICE}})
    governor.start()
    model = ModelSpec("free", "llamacpp", "free.gguf")
    began = time.perf_counter()
    for _ in range(calls):
        async with governor.allow("free", model, ASK, bill=governor.bill()):
            pass
    seconds = time.perf_counter() - began
    governor.close()
    spending.close()
    database.dispose()
    return seconds / calls * 1e6


def measure(quick: bool) -> Report:
    trials = 2 if quick else 8
    rows: list[dict[str, Any]] = []
    over: dict[str, list[float]] = {}
    for scheme, label in LABELS.items():
        found: list[dict[str, Any]] = []
        for seed in range(trials):
            with tempfile.TemporaryDirectory() as folder:
                found.append(trial(scheme, Path(folder), seed))
            say(f"{label}, trial {seed + 1} of {trials}: {found[-1]['over']:.1%} over the cap")
        over[scheme] = [one["over"] for one in found]
        waits = sorted(wait for one in found for wait in one["waits"])
        rows.append(
            {
                "scheme": label,
                "trials": trials,
                "over the cap, mean %": statistics.fmean(over[scheme]) * 100,
                "over the cap, most %": max(over[scheme]) * 100,
                "of the cap used, mean %": statistics.fmean(one["charged"] for one in found) / CAP_USD * 100,
                "calls let in": len(waits),
                "wait p50 ms": _quantile(waits, 0.5),
                "wait p99 ms": _quantile(waits, 0.99),
            }
        )
    with tempfile.TemporaryDirectory() as folder:
        alone = sorted(asyncio.run(one_after_the_other(Path(folder), 200 if quick else 2_000)))
        free_us = asyncio.run(free_call(Path(folder), 20_000))
    rows.append(
        {
            "scheme": "Studium, one call after the other",
            "calls let in": len(alone),
            "wait p50 ms": _quantile(alone, 0.5),
            "wait p99 ms": _quantile(alone, 0.99),
        }
    )
    rows.append({"scheme": "Studium, a call that costs nothing", "wait p50 ms": free_us / 1e3})
    most = max(over["reserve"])
    return Report(
        rows,
        [
            Aim(
                "no overshoot of the cap",
                most * 100,
                min(over["reserve"]) * 100,
                most * 100,
                "0 %",
                most == 0,
            ),
            Aim(
                "check-then-record in the same run passes it",
                statistics.fmean(over["check"]) * 100,
                min(over["check"]) * 100,
                max(over["check"]) * 100,
                "more than 0 %",
                min(over["check"]) > 0,
            ),
        ],
        [
            f"{PROCESSES} processes, {CALLS_AT_ONCE} calls at once in each, a cap of {CAP_USD:g} USD = 400 calls at "
            "their most expensive; a call costs a tenth to all of that; one process is killed at 40 % of the cap.",
            "What a killed process had reserved counts as spent, so the cap is not used to its end.",
            "Low and high of the aims are the least and the most of all trials. Reservations are synced to the disk.",
        ],
    )


def _quantile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


if __name__ == "__main__":
    run("governor", "How far a spend limit is passed by many calls at once and a kill -9.", measure)
