"""What is done every night: which night is due, and the job that a running Studium keeps for it.

A night is known by its date, which is in the name of its job. The job's row is what only one can add: of all Studiums
on one store the first to look has it, and a night that failed or was stopped is not begun again by itself. Of nights
that were missed, the last is made up for; none is, before nights were switched on, or while one is still open.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studium.errors import ConfigurationError
from studium.manage.jobs import FOLDER, Jobs
from studium.manage.looking import looking
from studium.records.jobs import Job
from studium.registry import build_roster
from studium.serve.team.routing import holders_of
from studium.train.recipe_file import Told, read_told

if TYPE_CHECKING:
    from studium.config import Config

log = logging.getLogger(__name__)

KIND, STAGE = "nightly", "distil"
LOOK_S = 30.0
Clock = Callable[[], datetime]
"""What the time is here, without a zone: a night that summer time skips or repeats is still one night."""


@dataclass(frozen=True, slots=True)
class Nightly:
    """The hour, and what a night's job is told: its `recipe_file`, and its students' `roles` in order, "" for none."""

    at: str
    request: Mapping[str, Any]


def nightly_of(config: "Config") -> Nightly | None:
    """Return what is to be done every night, None for nothing. Raises ConfigurationError. Reads the recipe."""
    wanted = config.nightly.distil
    if not wanted.recipe:
        return None
    path = ((config.file.parent if config.file else Path()) / Path(wanted.recipe).expanduser()).absolute()
    if not path.is_file():
        raise ConfigurationError(
            f"nightly.distil.recipe: there is no file {path}",
            expected="a recipe for distillation",
            try_next="see recipes/distil.yaml",
        )
    holders = holders_of(
        build_roster(config).students, {name: one.student for name, one in config.roles.items()}
    )
    *links, last = students_of(read_told(path, STAGE))
    role = wanted.role or last
    if role not in holders:
        raise ConfigurationError(
            f"nightly.distil: {role[:80]!r}, for which {path.name} trains, is no role",
            expected=f"one of {', '.join(holders)}",
            try_next="set nightly.distil.role",
        )
    roles = [*(one if one in holders and one != role else "" for one in links), role]
    told = {"stage": STAGE, "recipe_file": str(path), "roles": roles, "problems": wanted.problems}
    return Nightly(wanted.at, told | {"config": str(config.file or "")})


def students_of(told: Told) -> tuple[str, ...]:
    """Return the students that a recipe for distillation trains, each the teacher of the next."""
    recipe: Any = told.recipe
    return (recipe.model, *recipe.then)


def latest(now: datetime, at: str) -> datetime:
    """Return when the hour `at` last was."""
    today = datetime.combine(now.date(), datetime.strptime(at, "%H:%M").time())
    return today if today <= now else today - timedelta(days=1)


def name_of(night: date) -> str:
    """Return what a night's job and run are called."""
    return f"{STAGE}-{night:%Y-%m-%d}"


def due(now: datetime, at: str, since: datetime, nights: Sequence[Job]) -> date | None:
    """Return the night that is to begin now, None for none. `since` is when nights were switched on. Pure."""
    last = latest(now, at)
    known = any(one.name == name_of(last.date()) or one.state.open for one in nights)
    return None if known or last < since else last.date()


def nights_of(jobs: Jobs) -> list[Job]:
    """Return the nights there have been, the oldest first, and those that were begun by hand."""
    return [one for one in jobs.jobs() if one.kind == KIND]


def look(plan: Nightly, jobs: Jobs, since: datetime, now: datetime) -> Job | None:
    """Keep the job of the night that is due; return it, None for none. Whoever tends the workspace begins it."""
    night = due(now, plan.at, since, nights_of(jobs))
    return None if night is None else jobs.submit(KIND, name_of(night), plan.request, again=False)


def begin_now(plan: Nightly, jobs: Jobs, now: datetime) -> Job:
    """Keep a job beside the nights', named by the minute."""
    return jobs.submit(KIND, f"{STAGE}-{now:%Y-%m-%d-at-%H%M}", plan.request)


def switched_on(workspace: Path, now: datetime) -> datetime:
    """Return since when there are nights here, which is noted the first time."""
    file = workspace / FOLDER / f"{KIND}-since"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(now.isoformat(timespec="seconds"), encoding="utf-8")
    return min(now, datetime.fromisoformat(file.read_text(encoding="utf-8").strip()))


@asynccontextmanager
async def nightly(config: "Config", jobs: Jobs, clock: Clock = datetime.now) -> AsyncIterator[None]:
    """Begin each night until the block ends, where the configuration names a recipe. Raises ConfigurationError."""
    plan = await asyncio.to_thread(nightly_of, config)
    if plan is None:
        yield
        return
    since = await asyncio.to_thread(switched_on, config.workspace, clock())

    async def once() -> None:
        if job := await asyncio.to_thread(look, plan, jobs, since, clock()):
            log.info("the night's %s begins: studium jobs show %s", STAGE, job.id)

    async with looking("what is done every night", once, LOOK_S):
        yield
