"""`studium students`: who there is, and making those an engine derives from a base model (requirement SES-2)."""

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write_json, write_table

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
