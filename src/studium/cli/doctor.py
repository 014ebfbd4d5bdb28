"""`studium doctor`: what this machine can do, what is missing and why, and the command that adds it.

Exit status 0 when a question can be answered, 3 when not.
"""

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from studium.cli.options import ConfigOption, JsonOption, MemoryBudgetOption, WorkspaceOption, settings
from studium.cli.output import write, write_json, write_table
from studium.errors import OperatorError, StudiumError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studium.config import Config
    from studium.engines.protocol import Engine
    from studium.records.hardware import DeviceBudget
    from studium.records.models import Student
    from studium.registry import Roster

ESTIMATE_TIMEOUT_S = 10.0
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class StudentFinding:
    """Whether a student could be asked. `needed_bytes` is estimated; None where it could not be."""

    name: str
    model: str
    needed_bytes: int | None
    usable: bool
    found: str
    try_next: str = ""


def doctor(
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    memory_budget: MemoryBudgetOption = None,
    json: JsonOption = False,
) -> None:
    """Say what this machine can do, and what would let it do more. Loads no model.

    Example: studium doctor
    """
    from studium.app.devices import device_budgets
    from studium.cli.checks import State, look_around
    from studium.hardware import snapshot
    from studium.registry import build_roster

    chosen = settings(config, workspace, memory_budget)
    hardware, roster = snapshot(), build_roster(chosen)
    devices = device_budgets(chosen, roster)
    findings = look_around(chosen, hardware, os.environ)
    students = asyncio.run(examine_students(chosen, roster, devices))
    broken = [finding.name for finding in findings if finding.state is State.BROKEN]
    can_answer = "workspace" not in broken and any(student.usable for student in students)
    if json:
        write_json(
            {
                "can_answer": can_answer,
                "file": chosen.file,
                "budget": {"bytes": devices[0].bytes, "source": devices[0].source},
                "devices": devices,
                "hardware": hardware,
                "findings": findings,
                "students": students,
            }
        )
    else:
        rows = [(one.name, one.state.value, _with_advice(one.found, one.try_next)) for one in findings]
        rows += [("budget", "ok", _budget(device)) for device in devices]
        write_table(("", "", "found"), rows)
        write("\n")
        _show_students(students)
        write("\n" + _verdict(can_answer, students))
    if not can_answer:
        raise typer.Exit(OperatorError.exit_code)


async def examine_students(
    config: "Config", roster: "Roster", devices: "Sequence[DeviceBudget]"
) -> list[StudentFinding]:
    """Estimate each student's memory and compare it with the budget of every device its model may live on."""
    from studium.app.engines import build_engines

    engines = build_engines(config, roster)
    try:
        return [
            await _examine(student, engines[student.model.engine], devices)
            for student in roster.students.values()
        ]
    finally:
        for engine in engines.values():
            await engine.close()


async def _examine(student: "Student", engine: "Engine", devices: "Sequence[DeviceBudget]") -> StudentFinding:
    from studium.fleet.limits import homes_of, placed

    name, model = student.name, student.model.name
    homes = homes_of(student.model, engine.capabilities, devices)
    try:
        async with asyncio.timeout(ESTIMATE_TIMEOUT_S):
            needs = [(await engine.estimate(placed(student.model, home))).total_bytes for home in homes]
    except StudiumError as error:
        return StudentFinding(name, model, None, False, error.happened, error.try_next)
    except TimeoutError:
        return StudentFinding(
            name, model, None, False, f"its engine did not answer in {ESTIMATE_TIMEOUT_S:.0f} s"
        )
    if not engine.capabilities.manages_memory:
        return StudentFinding(name, model, needs[0], True, "runs elsewhere, takes nothing of the budget")
    for needed, home in zip(needs, homes, strict=True):
        if needed <= home.bytes:
            where = f" on {home.name}" if len(devices) > 1 else ""
            return StudentFinding(name, model, needed, True, f"fits{where}: about {needed / MIB:,.0f} MiB")
    needed, missing = min(
        ((needed, needed - home.bytes) for needed, home in zip(needs, homes, strict=True)),
        key=lambda one: one[1],
    )
    short = f"needs about {needed / MIB:,.0f} MiB, {missing / MIB:,.0f} MiB too much"
    budget = "a device's memory in fleet.devices" if len(devices) > 1 else "fleet.memory_budget"
    return StudentFinding(name, model, needed, False, short, f"raise {budget}, or take a smaller model")


def _budget(device: "DeviceBudget") -> str:
    return f"{device.bytes / MIB:,.0f} MiB for models on {device.name} ({device.kind.value}): {device.source}"


def _show_students(students: list[StudentFinding]) -> None:
    if not students:
        write("no students: the roster is empty\n  try: studium config init\n")
        return
    write_table(
        ("student", "model", "found"),
        [(one.name, one.model, _with_advice(one.found, one.try_next)) for one in students],
    )


def _verdict(can_answer: bool, students: list[StudentFinding]) -> str:
    if not can_answer:
        return "A question cannot be answered yet; see what is broken above.\n"
    usable = sum(student.usable for student in students)
    return (
        f'{usable} of {len(students)} students can be asked. Try: studium ask "What is 47 + 58?" --explain\n'
    )


def _with_advice(found: str, try_next: str) -> str:
    return f"{found}\n→ {try_next}" if try_next else found
