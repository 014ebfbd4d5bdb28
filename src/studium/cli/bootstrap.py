"""`studium bootstrap`: trains the foundational adapter, proves it, and lets it serve the role `implementer`."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json
from studium.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from studium.config import Config
    from studium.manage.bootstrap import Stand
    from studium.records.adapters import Adapter, Evidence
    from studium.registry import Registry

Json = dict[str, Any]
EXIT_STOPPED = 130
COMPARED_PROBLEMS, SEED, ASK_S = 200, 20_261_121, 60.0


def bootstrap(
    minutes: Annotated[
        float | None,
        typer.Option(metavar="M", min=0.1, help="Stop training after so long; the same command goes on."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what there is, what is left, and what it will take.")
    ] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Train the foundational adapter and let it serve the role `implementer`, once the gate says so.

    It teaches the student sprout sums of one and two digits, in about three minutes of one core, and goes on where it
    was stopped. Ask it with --student implementer.

    Exit status: 0 it serves, 10 rolled back, 11 held, 12 not measured, 130 stopped before its end.

    Example: studium bootstrap
    """
    from studium.cli.checks import need_training_tools
    from studium.train.surroundings import quiet

    need_training_tools()
    quiet()
    from studium.manage import bootstrap as steps

    given = settings(config, workspace)
    _check_role(given)
    began = time.monotonic()
    with _opened(given, dry_run=dry_run) as registry:
        stand = steps.stand_of(given.workspace, registry)
        _say_stand(stand)
        if dry_run:
            _forecast(given, stand, json)
            return
        assert registry is not None
        status, told = _carry_out(given, stand, registry, minutes)
    told |= {"seconds": round(time.monotonic() - began, 1), "exit": status}
    if json:
        write_json(told)
    else:
        write(f"{told['says']}\n")
        for line in told["next"]:
            write(f"{line}\n")
    raise typer.Exit(status)


def _carry_out(
    given: "Config", stand: "Stand", registry: "Registry", minutes: float | None
) -> tuple[int, Json]:
    from studium.cli.compare import EXIT
    from studium.manage import bootstrap as steps

    if stand.active:
        return 0, _told("it serves already", ["studium ask --student implementer 'What is 47 + 58?'"])
    if stand.adapter is None:
        told = steps.told_for(given.workspace)
        trained = steps.trained_within(
            told, given.workspace, minutes=minutes, tell=lambda line: note(f"lease: {line}")
        )
        if trained.exit_status:
            status = trained.status
            says = f"training is {status.state} after {status.step} of {status.steps} steps; {status.message}"
            return trained.exit_status, _told(says, ["studium bootstrap"])
        note(f"trained: {trained.status.steps} steps in {trained.status.seconds:.0f} s")
    adapter = stand.adapter or steps.register(given.workspace, registry)
    note(f"registered: {adapter.folder}")
    evidence = _evidence(given, adapter, registry)
    if not steps.promote(registry, adapter, evidence):
        says = f"the gate says {evidence.verdict}: {steps.NAME} does not serve"
        return EXIT[evidence.verdict], _told(says, [f"studium compare --replay {evidence.id[:16]}"])
    says = f"{steps.NAME} was proven better and serves the role {steps.ROLE}"
    following = [
        f"studium ask --student {steps.ROLE} 'What is 47 + 58?'",
        f"studium adapters rollback {steps.ROLE}",
    ]
    return 0, _told(says, following, evidence.id)


def _evidence(given: "Config", adapter: "Adapter", registry: "Registry") -> "Evidence":
    """Compare the adapter with who serves the role now."""
    from studium.cli import compare_models
    from studium.cli.compare_run import Wanted, compare_two
    from studium.manage.bootstrap import DOMAIN, ROLE

    two = compare_models.both(given, ROLE, f"{ROLE}/{adapter.name}", ROLE)
    note(
        f"compared with {two.baseline.said} on {COMPARED_PROBLEMS} fresh problems at most, and the frozen suite"
    )
    told = asyncio.run(
        compare_two(two.config, two, Wanted((DOMAIN,), (), COMPARED_PROBLEMS, SEED, "core"), ASK_S, None)
    )
    note(f"report: {told['folder']}/report.html")
    return registry.evidence(told["evidence"])


def _say_stand(stand: "Stand") -> None:
    left = stand.left()
    training = f" (step {stand.step} of {stand.steps})" if stand.step and "train" in left else ""
    note(f"left to do: {', '.join(left)}{training}" if left else "nothing is left to do")


def _forecast(given: "Config", stand: "Stand", as_json: bool) -> None:
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from studium.manage import bootstrap as steps
    from studium.manage.recipes import told_from
    from studium.manage.training import forecast_of

    with TemporaryDirectory() as folder:  # the declines are written by what is not a dry run
        there = given.workspace / "datasets" / steps.DECLINES
        declines = there if there.exists() else steps.write_declines(Path(folder))
        home = given.workspace if there.exists() else Path(folder)
        forecast = forecast_of(told_from("sft", steps.recipe(declines), home), given.workspace)
    if as_json:
        write_json({"left": stand.left(), "step": stand.step, "forecast": forecast.data()})
        return
    for line in forecast.lines():
        note(line)


def _told(says: str, following: list[str], evidence: str = "") -> Json:
    return {"says": says, "next": following, "evidence": evidence}


def _check_role(given: "Config") -> None:
    """Raise ConfigurationError where the role is not held by the student that is trained."""
    from studium.manage.bootstrap import ROLE, STUDENT, held

    if not held(given):
        holder = given.roles.get(ROLE)
        raise ConfigurationError(
            f"the role {ROLE} is held by {holder.student if holder else 'nobody'}",
            expected=f"{STUDENT}, which the foundational adapter changes",
            try_next=f"roles: {{{ROLE}: {{student: {STUDENT}}}}} with embedded_students: yes, in studium.yaml",
        )


@contextmanager
def _opened(given: "Config", *, dry_run: bool) -> "Iterator[Registry | None]":
    """Open the registry; None where a dry run would have to make the store."""
    from studium.app import STORE_FILE
    from studium.registry import Registry, build_roster
    from studium.store import open_store

    path: Path = given.workspace / STORE_FILE
    if dry_run and not path.exists():
        yield None
        return
    store = open_store(path)
    try:
        yield Registry(store, given.workspace, build_roster(given).models)
    finally:
        store.close()
