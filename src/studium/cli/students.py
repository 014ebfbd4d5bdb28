"""`studium students`: who there is, and making those an engine derives from a base model (requirement SES-2)."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.errors import ConfigurationError, Unsupported

if TYPE_CHECKING:
    from studium.config import Config
    from studium.engines.ollama import Derivation

_WOULD = {
    "created": "would be created",
    "replaced": "would be replaced",
    "unchanged": "is there already",
    "unchecked": "would be created, unless it is there already (no Ollama answered)",
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be made.")] = False,
    json: JsonOption = False,
) -> None:
    """Make each student that has a `base` a model of its own in an engine. Safe to repeat.

    Example: studium students create --engine ollama --dry-run
    """
    made = asyncio.run(_create(settings(config, workspace), engine, dry_run=dry_run))
    if json:
        write_json({"dry_run": dry_run, "students": [{"student": name} | asdict(one) for name, one in made]})
        return
    for name, derivation in made:
        write(f"# {name}: {derivation.tag} {_WOULD[derivation.outcome] if dry_run else derivation.outcome}\n")
        if dry_run:
            write(derivation.modelfile + "\n")
    if dry_run:
        note("nothing was made; leave out --dry-run to make them")


async def _create(config: "Config", name: str, *, dry_run: bool) -> "list[tuple[str, Derivation]]":
    """Derive the students of one engine, in the order of the roster. Raises ConfigurationError."""
    from studium.app import build_engines
    from studium.engines.ollama import OllamaEngine
    from studium.registry import build_roster

    roster = build_roster(config)
    bases = {
        student.name: student.base
        for student in config.students
        if student.base and roster.students[student.name].model.engine == name
    }
    if not bases:
        raise ConfigurationError(
            f"no student of the engine {name!r} has a base to be made from",
            expected="students with a line such as 'base: mistral:7b'",
            try_next="see the roster: studium students list",
        )
    engines = build_engines(config, roster)
    engine = engines[name]
    try:
        if not isinstance(engine, OllamaEngine):
            raise Unsupported(
                f"the engine {name!r} cannot make models",
                expected="an engine of kind ollama",
                try_next="studium students create --engine ollama",
            )
        return [
            (student, await engine.create_student(roster.students[student], base, dry_run=dry_run))
            for student, base in bases.items()
        ]
    finally:
        for one in engines.values():
            await one.close()
