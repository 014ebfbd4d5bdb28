"""`studium students`: who there is, and making those an engine derives from a base model (requirement SES-2)."""

import asyncio
import shlex
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from studium.cli.failures import EXIT_INTERRUPTED
from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.errors import ConfigurationError, EngineMissing, UnknownModel, Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from studium.cli.pulls import Watch
    from studium.config import Config
    from studium.engines.ollama import Derivation, OllamaEngine
    from studium.records.models import Student

_WOULD = {
    "created": "would be created",
    "replaced": "would be replaced",
    "unchanged": "is there already",
    "unchecked": "would be created, unless it is there already (that could not be checked)",
}
_WOULD_PULL = {
    "would_be_pulled": "would be pulled",
    "unchecked": "would be pulled, unless it is there already (no Ollama answered)",
}

app = typer.Typer(
    help="List students, or create them in an engine.", rich_markup_mode=None, no_args_is_help=True
)


@app.command("list")
def list_students(
    config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """List the students of the roster, with what they are good at. Loads no model.

    Example: studium students list
    """
    from studium.registry import build_roster

    roster = build_roster(settings(config, workspace))
    if json:
        write_json(list(roster.students.values()))
        return
    if not roster.students:
        note("There are no students. Declare some: studium config init")
        return
    write_table(
        ("student", "model", "engine", "tier", "priority", "speciality"),
        [
            (
                student.name,
                student.model.name,
                student.model.engine,
                student.tier.value,
                str(student.priority),
                student.speciality,
            )
            for student in roster.students.values()
        ],
    )
    if roster.embedded:
        note("These ship with Studium: real but tiny. Your own go into studium.yaml: studium config init")


@app.command("create")
def create(
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    engine: Annotated[str, typer.Option(help="Name of the engine that is to hold them.")] = "ollama",
    pull: Annotated[
        bool, typer.Option("--pull", help="First fetch the bases that the engine lacks (gigabytes).")
    ] = False,
    stall_limit: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.1, help="End a pull that gets nowhere for so long (300)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be made.")] = False,
    json: JsonOption = False,
) -> None:
    """Make each student that has a `base` a model of its own in an engine. Safe to repeat.

    Example: studium students create --engine ollama --pull --dry-run
    """
    from studium.cli.pulls import Watch

    job = Job(engine, _command(engine, config, workspace), pull=pull, stall_s=stall_limit, dry_run=dry_run)
    watch = Watch()
    try:
        made = asyncio.run(_create(settings(config, workspace), job, watch))
    except KeyboardInterrupt:
        _tell_interrupted(watch, job)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if json:
        students = [{"student": name} | asdict(one) for name, one in made]
        write_json({"dry_run": dry_run, "pulled": watch.pulled, "students": students})
    else:
        _present(watch, made, dry_run=dry_run)


@dataclass(frozen=True, slots=True)
class Job:
    """What `create` was told. `command` is the same again with --pull, to be shown."""

    engine: str
    command: str
    pull: bool
    stall_s: float | None
    dry_run: bool


async def _create(config: "Config", job: Job, watch: "Watch") -> "list[tuple[str, Derivation]]":
    """Derive the students of one engine, in the order of the roster, their bases pulled first if told so."""
    from studium.app.engines import build_engines
    from studium.engines.ollama import OllamaEngine
    from studium.registry import build_roster

    roster = build_roster(config)
    bases = {
        student.name: student.base
        for student in config.students
        if student.base and roster.students[student.name].model.engine == job.engine
    }
    if not bases:
        raise ConfigurationError(
            f"no student of the engine {job.engine!r} has a base to be made from",
            expected="students with a line such as 'base: mistral:7b'",
            try_next="see the roster: studium students list",
        )
    engines = build_engines(config, roster)
    engine = engines[job.engine]
    try:
        if not isinstance(engine, OllamaEngine):
            raise Unsupported(
                f"the engine {job.engine!r} cannot make models",
                expected="an engine of kind ollama",
                try_next="studium students create --engine ollama",
            )
        students = {name: roster.students[name] for name in bases}
        absent = await _provide(engine, bases, students, job, watch)
        return [
            (
                name,
                await engine.create_student(
                    students[name], base, dry_run=job.dry_run, base_to_come=base in absent
                ),
            )
            for name, base in bases.items()
        ]
    finally:
        for one in engines.values():
            await one.close()


async def _provide(
    engine: "OllamaEngine",
    bases: "Mapping[str, str]",
    students: "Mapping[str, Student]",
    job: Job,
    watch: "Watch",
) -> list[str]:
    """See that the bases are there, and pull those that are not if told so. Return those that were absent."""
    from studium.cli.pulls import Pulled
    from studium.engines.ollama import STALL_S
    from studium.engines.ollama.derive import tagged

    # A student may stand on another one, which is made here and not pulled.
    own = {tagged(student.model.source) for student in students.values()}
    wanted = [base for base in dict.fromkeys(bases.values()) if tagged(base) not in own]
    try:
        absent = await engine.missing(bases.values())
    except EngineMissing:
        if not job.dry_run:
            raise
        watch.pulled += [Pulled(base, "unchecked") for base in wanted if job.pull]
        return []
    lacking = [base for base in wanted if base in absent]
    if lacking and not job.pull:
        raise UnknownModel(
            f"Ollama lacks {len(lacking)} of {len(wanted)} bases: {', '.join(lacking)}",
            expected="bases that were pulled",
            try_next=f"{job.command} fetches them (--dry-run shows which); or `ollama pull {lacking[0]}`",
        )
    if job.dry_run:
        watch.pulled += [Pulled(base, "would_be_pulled") for base in lacking]
    else:
        await watch.pull(engine, lacking, stall_s=job.stall_s or STALL_S)
    return absent


def _command(engine: str, config: str | None, workspace: str | None) -> str:
    given = {"--engine": engine, "--config": config, "--workspace": workspace}
    options = [part for flag, value in given.items() if value is not None for part in (flag, value)]
    return shlex.join(["studium", "students", "create", *options, "--pull"])


def _tell_interrupted(watch: "Watch", job: Job) -> None:
    note(f"interrupted{f' at {watch.at}' if watch.at else ''}")
    if watch.pulled:
        note(f"  there already: {', '.join(one.base for one in watch.pulled)}")
    again = job.command if job.pull else job.command.removesuffix(" --pull")
    note(f"  try: {again} goes on where it stopped: while Ollama runs it keeps what it has")


def _present(watch: "Watch", made: "Sequence[tuple[str, Derivation]]", *, dry_run: bool) -> None:
    from studium.cli.pulls import size

    for one in watch.pulled:
        told = _WOULD_PULL.get(one.outcome) or f"pulled, {size(one.bytes or 0)}"
        write(f"# {one.base}: {told}\n")
    for name, derivation in made:
        write(f"# {name}: {derivation.tag} {_WOULD[derivation.outcome] if dry_run else derivation.outcome}\n")
        if dry_run:
            write(derivation.modelfile + "\n")
    if dry_run:
        note("nothing was made; leave out --dry-run to make them")
