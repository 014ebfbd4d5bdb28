"""Whether a role's student should be trained again: five criteria, each said by itself; two that hold are a reason.

Performance down by 5 %, accuracy under the minimum, failures up by 10 %, earlier improvements of the role that paid
off, enough new grades. What was graded before the last improvement is not held against what came of it. What could
not be measured does not hold. Switched on (`improve.automatic`), a running Studium
looks now and then, logs every criterion, and begins `studium improve`; it is off by default.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import orjson

from studium.manage.improve.ending import Ending
from studium.manage.improve.folder import HOME, Improvement, improvements
from studium.manage.looking import looking
from studium.store.learning import Standing, Window

if TYPE_CHECKING:
    from studium.config import Config
    from studium.store import Store

log = logging.getLogger(__name__)

WINDOW = 200
LEAST = 30
"""Grades or runs on either side, or a share of them says nothing."""

LOST, RISEN, NEEDED = 0.05, 0.10, 2
WORDS = {True: "holds", False: "does not hold", None: "not measured"}
LEASE, LEASE_S, ENDING_S = "improve", 60.0, 60.0


@dataclass(frozen=True, slots=True)
class Criterion:
    """One reason. `holds` None: not measured."""

    name: str
    holds: bool | None
    says: str


def criteria(
    standing: Standing, past: Sequence[Improvement], *, min_accuracy: float, min_new: int
) -> list[Criterion]:
    """Return the five criteria, decided from counts; `past` are the role's improvements."""
    lately, before = standing.lately, standing.before
    return [
        _fallen(lately, before),
        _under(lately, min_accuracy),
        _failing(standing.failed_lately, standing.failed_before),
        _advised(past),
        Criterion(
            "enough new grades",
            standing.graded_since >= min_new,
            f"{standing.graded_since} since the last improvement, {min_new} asked for",
        ),
    ]


def due(found: Sequence[Criterion]) -> bool:
    """Say whether a student should be trained again."""
    return sum(one.holds is True for one in found) >= NEEDED


def criteria_of(config: "Config", store: "Store", role: str) -> list[Criterion]:
    """Return a role's criteria as its workspace stands. Blocks for the disk."""
    past = [one for one in improvements(config.workspace) if one.wanted.role == role]
    tried = [one.began_at for one in past if one.ending not in (None, Ending.STOPPED)]
    found = store.standing(role, window=WINDOW, since=max(tried, default=0.0))
    return criteria(found, past, min_accuracy=config.improve.min_accuracy, min_new=config.improve.min_new)


@asynccontextmanager
async def retraining(config: "Config", store: "Store", roles: Sequence[str]) -> AsyncIterator[None]:
    """Look after the roles until the block ends, where that is switched on; what is at work then is stopped gently."""
    if not config.improve.automatic:
        yield
        return
    look = partial(_look, config, store, roles)
    async with looking("looking for what to train again", look, config.improve.check_s):
        yield


async def _look(config: "Config", store: "Store", roles: Sequence[str]) -> None:
    """Log every role's criteria and improve the first that is due, on one process of all that share the workspace."""
    needy: list[str] = []
    for role in roles:
        found = await asyncio.to_thread(criteria_of, config, store, role)
        await asyncio.to_thread(_note, config, role, found)
        needy += [role] if due(found) else []
    if needy:
        await _improve(config, store, needy[0])


def _note(config: "Config", role: str, found: Sequence[Criterion]) -> None:
    for one in found:
        log.info("%s: %s: %s (%s)", role, one.name, WORDS[one.holds], one.says)
    home = config.workspace / HOME
    home.mkdir(parents=True, exist_ok=True)
    line = {"at": time.time(), "role": role, "due": due(found), "criteria": [asdict(one) for one in found]}
    with (home / "criteria.jsonl").open("ab") as file:
        file.write(orjson.dumps(line) + b"\n")


async def _improve(config: "Config", store: "Store", role: str) -> None:
    token = await asyncio.to_thread(store.leases.take, LEASE, f"process {os.getpid()}", LEASE_S)
    if token is None:
        log.info("%s: another process improves", role)
        return
    words = ("improve", "--role", role, "--once", "--minutes", str(config.improve.minutes))
    where = ("--workspace", str(config.workspace), *(("--config", str(config.file)) if config.file else ()))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "studium", *words, *where, "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while process.returncode is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), LEASE_S / 3)
            await asyncio.to_thread(store.leases.renew, LEASE, token, LEASE_S)
        log.info("%s: studium improve ended with %s", role, process.returncode)
    finally:
        await _end(process)
        await asyncio.to_thread(store.leases.release, LEASE, token)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Interrupt a whole improvement, its commands too, as Ctrl-C would; for good where that does not help."""
    for how in (signal.SIGINT, signal.SIGKILL):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), ENDING_S)


def _fallen(lately: Window, before: Window) -> Criterion:
    name = "performance down by 5 %"
    if min(lately.number, before.number) < LEAST or not before.share:
        return Criterion(name, None, f"{lately.number} and {before.number} grades are too few to compare")
    lost = (before.share - lately.share) / before.share
    return Criterion(name, lost >= LOST, f"{before.share:.1%} before, {lately.share:.1%} lately")


def _under(lately: Window, least: float) -> Criterion:
    name = "accuracy under the minimum"
    if lately.number < LEAST:
        return Criterion(name, None, f"{lately.number} grades are too few")
    says = f"{lately.share:.1%} of the last {lately.number} graded right, {least:.0%} asked for"
    return Criterion(name, lately.share < least, says)


def _failing(lately: Window, before: Window) -> Criterion:
    name = "failures up by 10 %"
    if min(lately.number, before.number) < LEAST:
        return Criterion(name, None, f"{lately.number} and {before.number} runs are too few to compare")
    # One failure more is chance; three are not.
    more = (lately.share - before.share) * lately.number >= 3
    risen = more and lately.share >= before.share * (1 + RISEN)
    return Criterion(name, risen, f"{before.share:.1%} of runs failed before, {lately.share:.1%} lately")


def _advised(past: Sequence[Improvement]) -> Criterion:
    """Return what the role's past says: the mean of a Beta(1, 1) posterior of an improvement being promoted."""
    name = "earlier improvements paid off"
    ended = [one for one in past if one.ending not in (None, Ending.STOPPED)]
    if not ended:
        return Criterion(name, None, "none was made yet")
    promoted = sum(one.ending is Ending.PROMOTED for one in ended)
    chance = (promoted + 1) / (len(ended) + 2)
    return Criterion(name, chance > 0.5, f"{promoted} of {len(ended)} were promoted")
