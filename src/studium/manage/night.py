"""One night's distillation, as its job: the recipe with problems of its own, what it made registered, and judged.

The night's name seeds what is drawn, so that no night repeats another. The last student begins as what serves its role
now, where the recipe names that role's student. Every adapter of the chain is registered for its role and compared with
who serves there; none serves by that, whatever the gate says: promoting it is left to people.
"""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studium.config import load_config
from studium.manage.improve.champion import trainable
from studium.manage.improve.commands import Commands, OutOfTime
from studium.manage.job_work import AtWork, Ended, train_told
from studium.manage.nightly import STAGE, students_of
from studium.manage.training import RUNS
from studium.records.jobs import JobState
from studium.train.recipe_file import Told, read_told, text_of

REGISTER_S, GATE_S = 600.0, 6 * 3600.0
GATE_EXITS = (0, 10, 11, 12)
MOST_SEED = 2**31


def carry_out(work: AtWork) -> Ended:
    """Train, register and judge; what was done before is not done again."""
    text = work.once("night", lambda: {"recipe": text_of(_tonight(work))})["recipe"]
    told = work.told(text)
    ended = train_told(work, told)
    if ended.state is not JobState.DONE:
        return ended
    says = [line for made in _made(work, told) for line in _taken_in(work, told, *made)]
    return Ended(JobState.DONE, "; ".join([ended.message, *says]))


def _taken_in(work: AtWork, told: Told, folder: Path, student: str, role: str) -> Iterator[str]:
    """Register what was made of one student, have it judged, and say so."""
    if not role:
        yield f"{student} has no role: it stays in {folder}"
        return
    name, request = work.job.name, work.job.request
    commands = Commands(work.workspace, request["config"] or None, work.tell)
    adapter = work.once(f"register {role}", lambda: _registered(commands, folder, student, role, name))
    yield adapter["says"]
    if "id" in adapter:
        judged = work.once(f"gate {role}", lambda: _judged(commands, role, name, told, request["problems"]))
        yield judged["says"]


def sets(told: Told, name: str, student: str) -> list[str]:
    """Return what a night changes of its recipe: the name, what is drawn, and who is trained last."""
    seed = zlib.crc32(name.encode()) % MOST_SEED
    recipe: Any = told.recipe
    last = f"then.{len(recipe.then)}" if recipe.then else "model"
    drawn = [
        f"data.{number}.seed={(source.seed + seed) % MOST_SEED}"
        for number, source in enumerate(recipe.data, start=1)
        if source.domain
    ]
    return [f"name={name}", f"seed={seed}", *drawn, f"{last}={student}"]


def _tonight(work: AtWork) -> Told:
    request = work.job.request
    path = Path(request["recipe_file"])
    told = read_told(path, STAGE)
    role, student = request["roles"][-1], students_of(told)[-1]
    config = load_config(
        Path(request["config"]) if request["config"] else None,
        environment=os.environ,
        overrides={"workspace": work.workspace},
    )
    holder = config.roles[role].student if role in config.roles else role
    if student == holder:
        student = trainable(config, role)
    return read_told(path, STAGE, sets(told, work.job.name, student))


def _made(work: AtWork, told: Told) -> Iterator[tuple[Path, str, str]]:
    """Yield each student's folder, what it was trained on, and its role."""
    run = work.workspace / RUNS / work.job.name
    students = students_of(told)
    for number, (student, role) in enumerate(zip(students, work.job.request["roles"], strict=True), start=1):
        yield (run if number == len(students) else run / f"student-{number}"), student, role


def _registered(commands: Commands, folder: Path, student: str, role: str, name: str) -> dict[str, str]:
    # What stands on a champion has no base in the roster: it is registered whole.
    whole = ("--merged",) if "/" in student else ()
    words = ("adapters", "register", str(folder), "--role", role, "--name", name, *whole)
    try:
        done = commands.run(*words, timeout_s=REGISTER_S)
    except OutOfTime as late:
        return {"says": f"{role}/{name} was not registered: that was {late}"}
    if done.status:
        return {"says": f"{role}/{name} was not registered: {done.error}"}
    return {"says": f"registered as {role}/{name}", "id": done.data["id"]}


def _judged(commands: Commands, role: str, name: str, told: Told, problems: int) -> dict[str, str]:
    on = [
        word
        for one in dict.fromkeys(one.domain for one in told.recipe.data if one.domain)
        for word in ("--on", one)
    ]
    if not on:
        return {"says": "not judged: its recipe names no domain to judge it by"}
    words = (
        "compare",
        role,
        f"{role}/{name}",
        *on,
        "--problems",
        str(problems),
        "--seed",
        str(told.recipe.seed),
    )
    try:
        done = commands.run(*words, timeout_s=GATE_S)
    except OutOfTime as late:
        return {"says": f"not judged: the comparison was {late}"}
    if done.status not in GATE_EXITS:
        return {"says": f"not judged: {done.error}"}
    verdict, evidence = done.data["verdict"], done.data["evidence"]
    way = f"studium adapters promote {role} {name} --evidence {evidence[:16]}"
    says = f"the gate says {verdict}, and it does not serve by itself"
    return {"verdict": verdict, "evidence": evidence, "says": says + (f": {way}" if done.status == 0 else "")}
