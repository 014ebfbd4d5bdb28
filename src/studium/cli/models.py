"""`studium models`: which models there are, who speaks through them, what they cost here and how far to trust them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from studium.cli import models_calibrate, models_why
from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write_json, write_table

if TYPE_CHECKING:
    from studium.registry import Roster


class _ModelCommands(typer.core.TyperGroup):
    """Without a command of its own, `models [NAME]` shows; `models show NAME` is there for a model called like one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        helps = bool(args) and args[0] in ctx.help_option_names
        return super().parse_args(
            ctx, args if helps or (args and args[0] in self.commands) else ["show", *args]
        )


app = typer.Typer(
    cls=_ModelCommands,
    rich_markup_mode=None,
    help="List the models of the roster; of one, or with --learned of all, what it costs on this machine.\n\n"
    "Example: studium models --learned",
)
app.command("why")(models_why.why)
app.command("calibrate")(models_calibrate.calibrate)
app.command("calibration")(models_calibrate.calibration)


@app.command("show", hidden=True)
def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One model, in detail.")] = None,
    learned: Annotated[
        bool, typer.Option("--learned", help="What was learned of each: memory, seconds, speed, failures.")
    ] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """List the models of the roster; of one, or with --learned of all, what it costs on this machine.

    Example: studium models --learned
    """
    from studium.cli import forecasts
    from studium.registry import build_roster

    chosen = settings(config, workspace)
    roster = build_roster(chosen)
    if name is not None:
        forecasts.show_one(chosen, roster, name, json=json)
    elif learned:
        forecasts.show_learned(chosen, roster, json=json)
    else:
        _list(roster, json=json)


def _list(roster: "Roster", *, json: bool) -> None:
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
