"""What it costs to run a program that a model wrote: in the sandbox, in one started each time, and unconfined.

Milliseconds for `print(6 * 7)` with each backend that works here, and for a whole verdict on a `codegen` reply.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from benchmarks.report import Aim, Report, run, say
from studium.domains.codegen import Codegen
from studium.tools.backends import backends
from studium.tools.box import Box
from studium.tools.outcome import Fate, Limits
from studium.tools.sandbox import available, run_in

PROGRAM = "print(6 * 7)"
AIM_MS = 10.0


def main() -> None:
    run("sandbox", __doc__ or "", measure)


def measure(quick: bool) -> Report:
    times = 30 if quick else 200
    say(f"sandbox: {times} programs each way")
    rows: list[Mapping[str, Any]] = [
        _row("no sandbox", "a Python started each time", _clock(_unconfined, times))
    ]
    aims: list[Aim] = []
    for backend in backends():
        if run_in(backend, PROGRAM).fate is not Fate.DONE:
            rows.append({"sandbox": backend.name, "way": "does not work here"})
            continue
        fresh = _clock(lambda backend=backend: _fresh(backend), max(10, times // 5))
        waiting = _clock(lambda backend=backend: run_in(backend, PROGRAM), times)
        rows += [
            _row(backend.name, "a sandbox started each time", fresh),
            _row(backend.name, "a sandbox that waits", waiting),
        ]
        middle = _middle(waiting)
        aim = f"a program in a waiting {backend.name} sandbox, ms, median"
        aims.append(Aim(aim, *middle, f"at most {AIM_MS:.0f}", middle[0] <= AIM_MS))
    if available().backend is not None:
        rows.append(_row(available().found, "a verdict on a codegen reply", _clock(_verdicts(), times)))
    return Report(rows, aims, ("low and high bound the median with 95 % confidence, from order statistics",))


def _unconfined() -> None:
    subprocess.run([sys.executable, "-S", "-c", PROGRAM], check=True, capture_output=True)


def _fresh(backend: Any) -> None:
    box = Box(backend)
    box.run(PROGRAM, "", Limits())
    box.close()


def _verdicts() -> Callable[[], object]:
    domain, rng = Codegen(), Random(1)
    problems = [domain.make(rng, level) for level in domain.levels for _ in range(20)]
    return lambda: domain.verify((problem := rng.choice(problems)), domain.solution(problem))


def _clock(what: Callable[[], object], times: int) -> Sequence[float]:
    taken: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        what()
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)


def _middle(taken: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of sorted times with its interval."""
    half, spread = len(taken) // 2, math.ceil(0.98 * math.sqrt(len(taken)))
    return taken[half], taken[max(half - spread, 0)], taken[min(half + spread, len(taken) - 1)]


def _row(sandbox: str, way: str, taken: Sequence[float]) -> Mapping[str, Any]:
    median, low, high = _middle(taken)
    p95 = taken[int(len(taken) * 0.95)]
    return {"sandbox": sandbox, "way": way, "median_ms": median, "low": low, "high": high, "p95_ms": p95}


if __name__ == "__main__":
    main()
