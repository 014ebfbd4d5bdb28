"""`studium models`: which models there are and who speaks through them. Loads none of them."""

from pathlib import Path

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write_json, write_table


def models(config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List the models of the roster.

    Example: studium models --json
    """
    from studium.registry import build_roster

    roster = build_roster(settings(config, workspace))
    speakers = {
        name: [student.name for student in roster.students.values() if student.model.name == name]
        for name in roster.models
    }
    if json:
        write_json([{"model": model, "students": speakers[name]} for name, model in roster.models.items()])
        return
    if not speakers:
        note("There are no models. Declare some: studium config init")
        return
    write_table(
        ("model", "engine", "context", "slots", "students", "source"),
        [
            (
                name,
                model.engine,
                f"{model.context_tokens:,}",
                str(model.slots),
                ", ".join(speakers[name]),
                Path(model.source).name if roster.embedded else model.source,
            )
            for name, model in roster.models.items()
        ],
    )
