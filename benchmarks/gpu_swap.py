"""Real swaps of random-weight models in memory for one: seconds, and how well their memory was forecast.

Where NVML finds a GPU the models have 1 to 8 GB and all their layers go there (by a llama-server on the PATH,
else by the llama.cpp of the package, if that is a GPU build); elsewhere the same is done at a tenth of
the size in main memory, and says so. Models are asked in turn, so each ask waits for a swap: the former
one unloaded and its memory seen to be free, the next one loaded. A forecast is what the fleet sets aside
just before a load; its error is taken against the most that was then measured.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.random_models import write_random_gguf
from benchmarks.report import Aim, Report, run, say
from studium.engines.llamacpp.engine import LlamaCppEngine
from studium.fleet import Fleet
from studium.fleet.limits import Limits
from studium.hardware import available_bytes, detect_devices, snapshot
from studium.records.answers import MemoryMove, MoveKind
from studium.records.hardware import DeviceBudget, DeviceKind
from studium.records.messages import Ask, Message, Reply, Sampling
from studium.records.models import ModelSpec, Student
from studium.records.runs import StudentRun

MIB = 2**20
GPU_MB, GPU_QUICK_MB = (1_000, 2_000, 4_000, 8_000), (1_000, 2_000)
CPU_MB, CPU_QUICK_MB = (100, 200, 400, 800), (50, 100, 200)
ROUNDS, QUICK_ROUNDS = 4, 2
MARGIN_BYTES = 2**30
ASK = Ask(
    messages=(Message("user", "Tell me what you know of this."),),
    sampling=Sampling(max_tokens=16, temperature=0.0, seed=1),
)


@dataclass(frozen=True, slots=True)
class Swap:
    """One ask that had to wait for its model. `round` counts from 0; bytes of forecast and truth."""

    model: str
    megabytes: int
    round: int
    wait_s: float
    load_s: float
    unload_s: float | None
    forecast_bytes: int
    measured_bytes: int | None

    @property
    def error(self) -> float | None:
        """The forecast's excess over what was measured, as a share; negative: it was too little."""
        return None if not self.measured_bytes else self.forecast_bytes / self.measured_bytes - 1


async def _measure(quick: bool) -> Report:
    home = detect_devices(MARGIN_BYTES, snapshot())[0]
    on_gpu = home.kind is DeviceKind.GPU
    sizes = (GPU_QUICK_MB if quick else GPU_MB) if on_gpu else (CPU_QUICK_MB if quick else CPU_MB)
    with tempfile.TemporaryDirectory(prefix="studium-benchmark-") as folder:
        students = [_student(Path(folder), megabytes, on_gpu=on_gpu) for megabytes in sizes]
        swaps = await _swap(students, sizes, home, QUICK_ROUNDS if quick else ROUNDS)
    return _report(swaps, sizes, home)


def _student(folder: Path, megabytes: int, *, on_gpu: bool) -> Student:
    say(f"writing a model of {megabytes:,} MB")
    path = write_random_gguf(folder / f"random-{megabytes}.gguf", megabytes, seed=megabytes)
    options = {"runner": "llama-server"} if on_gpu and shutil.which("llama-server") else {}
    model = ModelSpec(
        path.stem,
        "llamacpp",
        str(path),
        context_tokens=2048,
        gpu_layers=999 if on_gpu else 0,
        options=options,
    )
    return Student(path.stem, model)


async def _swap(
    students: Sequence[Student], sizes: Sequence[int], home: DeviceBudget, rounds: int
) -> list[Swap]:
    """Ask each model in turn in memory that holds only the one asked; the forecasts learn as they go."""
    engine, moves, runs = LlamaCppEngine(), list[MemoryMove](), list[StudentRun]()
    fleet = Fleet(
        {"llamacpp": engine},
        Limits(home.bytes, max_models=1, load_timeout_s=300.0, devices=(home,)),
        known={},
        save_profile=lambda profile: None,
        record_run=runs.append,
        available=lambda: available_bytes([home]),
    )
    fleet.residency.listeners.append(moves.append)
    fleet.start()
    swaps: list[Swap] = []
    try:
        for number in range(rounds):
            for student, megabytes in zip(students, sizes, strict=True):
                forecast = await fleet.need_bytes(student.model)
                del moves[:]
                began = time.monotonic()
                async with fleet.seat(student, timeout_s=600.0) as seat:
                    wait_s = time.monotonic() - began
                    async with aclosing(seat.generate(ASK)) as pieces:
                        answered = [piece async for piece in pieces if isinstance(piece, Reply)]
                assert answered
                load = next(move for move in moves if move.kind is MoveKind.LOAD)
                unload = next((move for move in moves if move.kind is MoveKind.UNLOAD), None)
                swaps.append(
                    Swap(
                        student.name,
                        megabytes,
                        number,
                        wait_s,
                        load.seconds,
                        unload.seconds if unload else None,
                        forecast,
                        runs[-1].memory_bytes,
                    )
                )
                say(f"round {number + 1}: {student.name} after {wait_s:.2f} s")
    finally:
        await fleet.close()
    return swaps


def _report(swaps: Sequence[Swap], sizes: Sequence[int], home: DeviceBudget) -> Report:
    rows: list[Mapping[str, Any]] = []
    for megabytes in sizes:
        mine = [swap for swap in swaps if swap.megabytes == megabytes]
        unloads = [swap.unload_s for swap in mine if swap.unload_s is not None]
        rows.append(
            {
                "model MB": megabytes,
                "device": home.name,
                "swaps": len(mine),
                "swap s": fmean(swap.wait_s for swap in mine),
                "load s": fmean(swap.load_s for swap in mine),
                "unload before it s": fmean(unloads) if unloads else None,
                "measured MiB": (mine[-1].measured_bytes or 0) / MIB,
                "forecast error, first": _percent(mine[0].error),
                "after 1": _percent(mine[1].error) if len(mine) > 1 else None,
                "last": _percent(mine[-1].error),
            }
        )
    first = [abs(swap.error) for swap in swaps if swap.round == 0 and swap.error is not None]
    later = [abs(swap.error) for swap in swaps if swap.round > 0 and swap.error is not None]
    short = [swap for swap in swaps if swap.error is not None and swap.error < 0]
    aims = [
        _error("memory forecast, mean error before a first load", first, 0.25),
        _error("memory forecast, mean error after it", later, 0.10),
        Aim("forecasts below what was measured", float(len(short)), None, None, "0", not short),
    ]
    where = (
        "a GPU" if home.kind is DeviceKind.GPU else "main memory: NVML finds no GPU here, so sizes are small"
    )
    notes = [f"on {where} ({home.source})", "the first model of the first round has nobody to displace"]
    return Report(rows, aims, notes)


def _error(name: str, errors: Sequence[float], most: float) -> Aim:
    if not errors:
        return Aim(name, None, None, None, f"<= {most:g}", None, "nothing was measured")
    mean = fmean(errors)
    return Aim(name, mean, min(errors), max(errors), f"<= {most:g}", mean <= most)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:+.1f} %"


def main() -> None:
    run("gpu_swap", __doc__ or "", lambda quick: asyncio.run(_measure(quick)))


if __name__ == "__main__":
    main()
