"""Swapping the model behind a role while streams run: what planned swaps and dead workers cost those who ask.

An open-loop client sends streamed requests at a fixed pace to one role, over HTTP, whatever becomes of them.
Undisturbed stretches and stretches with promotions take turns in one run, so that the machine's moods fall on both.
Promotions go through the endpoint: a lease, a durable row of the history, loading, and the answer once the new one
serves. First the scripted engine, then llama.cpp workers with two of the embedded students' files; there, after each
promotion, the worker that serves is killed by its process id. Counted is what each request came to: a whole stream, an
error of its own kind (told in the stream or by status), or a stream that ended without a word.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from benchmarks.report import REPOSITORY, Aim, Report, run, say
from studium.registry import EMBEDDED

ROLE = "sprout"
NAMES = ("v1", "v2", "v3", "v4")
PER_SECOND = 50
LIMIT_S = 20.0
BURST = 6
"""Requests at once just before a kill, so that streams are in flight when it comes."""

RECOVER_S = 15.0
SCRIPTED = f"""
server: {{port: 0, concurrent_requests_per_key: 1000}}
cache: {{enabled: no}}
models:
  - {{name: {ROLE}, engine: scripted, source: {ROLE}, slots: 64}}
  - {{name: other, engine: scripted, source: {ROLE}}}
students: [{{name: {ROLE}}}, {{name: other}}]
"""
LLAMACPP = "server: {port: 0, concurrent_requests_per_key: 1000}\ncache: {enabled: no}\nhealth: {probe: 1s}\n"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done; `per_second` are requests against llama.cpp, of which two cores carry fewer."""

    promotions: int
    stretch_s: float
    stretches: int
    kills: int
    per_second: int


FULL = Sizes(1_000, 15.0, 5, 50, 20)
QUICK = Sizes(60, 4.0, 1, 4, 20)


@dataclass(slots=True)
class Asked:
    """One request: when it began (monotonic seconds), how long it took, and what it came to."""

    began: float
    seconds: float = 0.0
    outcome: str = "cut"
    said: str = ""
    adapter: str = ""
    stood_in: bool = False


@dataclass(slots=True)
class House:
    """A server under test, its client session, and all that was asked of it."""

    url: str
    session: aiohttp.ClientSession
    process: asyncio.subprocess.Process
    asked: list[Asked] = field(default_factory=list)

    async def workers(self) -> Mapping[str, int | None]:
        """Return the process ids of the models in memory, by name."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(b"\n")
        return json.loads(await asyncio.wait_for(self.process.stdout.readline(), LIMIT_S))

    async def promote(self, name: str) -> float:
        """Promote an adapter; return the seconds until it served. Raises RuntimeError where it did not."""
        began = time.monotonic()
        body = {"name": name, "force": True, "reason": "measuring a swap"}
        async with self.session.post(f"{self.url}/api/adapters/promote/{ROLE}", json=body) as response:
            told = await response.json()
        if response.status != 200 or told.get("answers") != f"{ROLE}@{name}":
            raise RuntimeError(f"{name} was not promoted: {told}")
        return time.monotonic() - began

    async def ask(self, number: int) -> Asked:
        """Ask for a stream and read it to its end, whatever that is."""
        one = Asked(time.monotonic())
        self.asked.append(one)
        messages = [{"role": "user", "content": f"What is {number % 90 + 10} + {number % 7}?"}]
        body = {"model": ROLE, "stream": True, "messages": messages}
        try:
            async with self.session.post(f"{self.url}/v1/chat/completions", json=body) as response:
                if response.status != 200:
                    told = await response.json()
                    one.outcome = f"error: {told['error'].get('code') or response.status}"
                else:
                    async for line in response.content:
                        _read(line, one)
        except TimeoutError:
            one.outcome = "hung"
        except (aiohttp.ClientError, ConnectionError, ValueError, KeyError):
            one.outcome = "cut"
        one.seconds = time.monotonic() - one.began
        return one


def _read(line: bytes, one: Asked) -> None:
    """Take in one line of a stream."""
    data = line.removeprefix(b"data: ").strip()
    if data == b"[DONE]":
        one.outcome = "whole" if one.outcome == "cut" else one.outcome
    elif data.startswith(b"{"):
        told = json.loads(data)
        if "error" in told:
            one.outcome = f"error: {told['error'].get('code')}"
        for choice in told.get("choices", ()):
            one.said += choice.get("delta", {}).get("content") or ""
        if report := told.get("studium"):
            one.adapter = report.get("adapter") or ""
            one.stood_in = "stood_in" in report.get("flags", ())


@asynccontextmanager
async def house(configuration: str, files: Mapping[str, Path]) -> AsyncIterator[House]:
    """Serve a workspace of its own with `files` registered as adapters of ROLE."""
    with tempfile.TemporaryDirectory(prefix="studium-swap-") as name:
        folder = Path(name)
        (folder / "studium.yaml").write_text(configuration)
        for adapter, file in files.items():
            (folder / adapter).mkdir()
            shutil.copy(file, folder / adapter / "model.gguf")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.swap_house", str(folder), ROLE, *files,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            url = (await asyncio.wait_for(process.stdout.readline(), 60.0)).decode().strip()
            timeout = aiohttp.ClientTimeout(total=LIMIT_S)
            async with aiohttp.ClientSession(
                timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
            ) as session:
                yield House(url, session, process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 40.0)
            except TimeoutError:
                process.kill()


async def pour(house: House, per_second: float, until: asyncio.Event) -> list[Asked]:
    """Send requests at a fixed pace until told, then wait for all; return them."""
    began, tasks = time.monotonic(), list[asyncio.Task[Asked]]()
    while not until.is_set():
        due = began + len(tasks) / per_second
        with suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), max(0.0, due - time.monotonic()))
        if not until.is_set():
            tasks.append(asyncio.create_task(house.ask(len(house.asked))))
    return list(await asyncio.gather(*tasks))


async def planned(sizes: Sizes) -> dict[str, Any]:
    """Promote under streams against the scripted engine, undisturbed stretches between."""
    still: list[Asked] = []
    swapped: list[Asked] = []
    swaps: list[float] = []
    files: dict[str, Path] = dict.fromkeys(NAMES, EMBEDDED / f"{ROLE}.gguf")
    each = -(-sizes.promotions // sizes.stretches)
    async with house(SCRIPTED, files) as one:
        for name in NAMES:  # everybody was asked once, and the history holds them
            await one.promote(name)
            await one.ask(0)
        for number in range(sizes.stretches):
            say(f"scripted: stretch {number + 1} of {sizes.stretches}")
            until = asyncio.Event()
            asyncio.get_running_loop().call_later(sizes.stretch_s, until.set)
            still += await pour(one, PER_SECOND, until)
            until = asyncio.Event()
            pouring = asyncio.create_task(pour(one, PER_SECOND, until))
            began = time.monotonic()
            for swap in range(min(each, sizes.promotions - len(swaps))):
                due = began + swap * sizes.stretch_s / each
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                swaps.append(await one.promote(NAMES[len(swaps) % len(NAMES)]))
            until.set()
            swapped += await pouring
    return {"still": still, "swapped": swapped, "swaps": swaps}


async def killed(sizes: Sizes) -> dict[str, Any]:
    """Promote llama.cpp workers under streams, and kill the one that serves after each."""
    still: list[Asked] = []
    swapped: list[Asked] = []
    lost: list[Asked] = []
    swaps: list[float] = []
    recovered: list[float | None] = []
    returned: list[float | None] = []
    rng = Random(7)
    files = {"v1": EMBEDDED / f"{ROLE}.gguf", "v2": EMBEDDED / "tinker.gguf"}
    async with house(LLAMACPP, files) as one:
        for number in range(sizes.kills):
            if number % 10 == 0:
                say(f"llama.cpp: undisturbed, then promotion and kill {number + 1} of {sizes.kills} and on")
                for name in files:  # the two do not answer equally fast
                    await one.promote(name)
                    await one.ask(0)
                    until = asyncio.Event()
                    asyncio.get_running_loop().call_later(sizes.stretch_s / 2, until.set)
                    still += await pour(one, sizes.per_second, until)
            name = list(files)[number % 2]
            until = asyncio.Event()
            pouring = asyncio.create_task(pour(one, sizes.per_second, until))
            await asyncio.sleep(0.3)
            swaps.append(await one.promote(name))
            await asyncio.sleep(0.7)
            until.set()
            swapped += await pouring
            until = asyncio.Event()
            pouring = asyncio.create_task(pour(one, sizes.per_second, until))
            await asyncio.sleep(0.1)
            pid = (await one.workers()).get(f"{ROLE}@{name}")
            if pid is None:
                raise RuntimeError(f"{ROLE}@{name} has no worker to be killed")
            burst = [asyncio.create_task(one.ask(each)) for each in range(BURST)]
            await asyncio.sleep(rng.uniform(0.0, 0.06))
            os.kill(pid, signal.SIGKILL)
            at = time.monotonic()
            recovered.append(await _until(one, at, adapter=""))
            returned.append(await _until(one, at, adapter=f"{ROLE}/{name}"))
            until.set()
            lost += [*await pouring, *await asyncio.gather(*burst)]
    return {
        "still": still, "swapped": swapped, "lost": lost,
        "swaps": swaps, "recovered": recovered, "returned": returned,
    }  # fmt: skip


async def _until(house: House, at: float, *, adapter: str) -> float | None:
    """Return the seconds from `at` to the end of the first whole answer begun since, by `adapter` if named."""
    while time.monotonic() - at < RECOVER_S:
        for one in house.asked:
            if one.began >= at and one.outcome == "whole" and one.seconds and adapter in ("", one.adapter):
                return one.began + one.seconds - at
        await asyncio.sleep(0.01)
    return None


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile: the value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ratio_of_p99(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of two 99th percentiles with its bootstrap interval (95 %, requests resampled)."""
    rng = Random(1)
    drawn = sorted(
        quantile(rng.choices(one, k=len(one)), 0.99) / quantile(rng.choices(other, k=len(other)), 0.99)
        for _ in range(400)
    )
    return quantile(one, 0.99) / quantile(other, 0.99), drawn[10], drawn[389]


def _row(what: str, asked: Sequence[Asked]) -> dict[str, Any]:
    outcomes = Counter(one.outcome for one in asked)
    seconds = [one.seconds for one in asked if one.outcome == "whole"]
    return {
        "stretch": what,
        "requests": len(asked),
        "whole": outcomes["whole"],
        "stood in": sum(one.stood_in for one in asked),
        "errors told": sum(number for name, number in outcomes.items() if name.startswith("error")),
        "cut or hung": outcomes["cut"] + outcomes["hung"],
        "p50 ms": round(1000 * quantile(seconds, 0.5), 1),
        "p99 ms": round(1000 * quantile(seconds, 0.99), 1),
        "kinds of errors": ", ".join(sorted(name for name in outcomes if name.startswith("error"))) or "-",
    }


def _measure(quick: bool) -> Report:
    sizes = QUICK if quick else FULL
    scripted = asyncio.run(planned(sizes))
    workers = asyncio.run(killed(sizes))
    rows = [
        _row("scripted, undisturbed", scripted["still"]),
        _row(f"scripted, {len(scripted['swaps'])} promotions", scripted["swapped"]),
        _row("llama.cpp, undisturbed", workers["still"]),
        _row(f"llama.cpp, {len(workers['swaps'])} promotions", workers["swapped"]),
        _row(f"llama.cpp, {len(workers['recovered'])} workers killed", workers["lost"]),
    ]
    swaps = [*scripted["swaps"], *workers["swaps"]]
    notes = [
        f"a promotion took {1000 * quantile(scripted['swaps'], 0.5):.0f} ms (median) and "
        f"{1000 * quantile(scripted['swaps'], 0.99):.0f} ms (p99) until it served, scripted; "
        f"{1000 * quantile(workers['swaps'], 0.5):.0f} and {1000 * max(workers['swaps']):.0f} ms (most) with llama.cpp",
        _returned(workers["returned"]),
        f"{len(swaps)} promotions in all; requests come at {PER_SECOND} and {sizes.per_second} a second",
    ]
    return Report(rows, _aims(scripted, workers), notes)


def _returned(seconds: Sequence[float | None]) -> str:
    back = [one for one in seconds if one is not None]
    typical = f"{quantile(back, 0.5):.2f} s (median), {max(back):.2f} s at most" if back else "never"
    return f"a killed champion itself answered again in {len(back)} of {len(seconds)} cases, after {typical}"


def _aims(scripted: Mapping[str, Any], workers: Mapping[str, Any]) -> list[Aim]:
    everyone = [
        *scripted["still"],
        *scripted["swapped"],
        *workers["still"],
        *workers["swapped"],
        *workers["lost"],
    ]
    planned_swaps = [*scripted["swapped"], *workers["swapped"]]
    failed = sum(one.outcome != "whole" for one in planned_swaps)
    cut = sum(one.outcome in ("cut", "hung") for one in everyone)
    odd = sum(one.outcome == "whole" and not one.said.strip() for one in everyone)
    slow = [one for one in workers["recovered"] if one is None or one > 2.0]
    known = [one for one in workers["recovered"] if one is not None]
    aims = [
        Aim("requests that failed on a planned swap", failed, None, None, "0", failed == 0),
        Aim("streams cut or hung without a word", cut, None, None, "0", cut == 0),
        Aim("whole streams without words", odd, None, None, "0", odd == 0),
        Aim(
            "seconds until somebody answers after a kill, at most", round(max(known), 3) if known else None,
            None, None, "at most 2", not slow,
        ),
    ]  # fmt: skip
    for who, one in (("scripted", scripted), ("llama.cpp", workers)):
        still, swapped = (
            [each.seconds for each in one[key] if each.outcome == "whole"] for key in ("still", "swapped")
        )
        ratio, low, high = ratio_of_p99(swapped, still)
        aims.append(
            Aim(
                f"p99 with swaps by p99 undisturbed, {who}",
                round(ratio, 3),
                round(low, 3),
                round(high, 3),
                "at most 1.2",
                ratio <= 1.2,
            )
        )
    return aims


def main() -> None:
    run("swap", __doc__ or "", _measure)


if __name__ == "__main__":
    main()
