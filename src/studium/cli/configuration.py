"""`studium config`: what is in force and who said so; an example to start from."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from studium.cli.options import ConfigOption, JsonOption, MemoryBudgetOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json
from studium.errors import ConfigurationError, OperatorError

LONGEST_SHOWN = 60

app = typer.Typer(
    help="Show the configuration, or write an example.", rich_markup_mode=None, no_args_is_help=True
)


@app.command("show")
def show(
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    memory_budget: MemoryBudgetOption = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    json: JsonOption = False,
) -> None:
    """Show every value in force.

    Example: studium config show --origin
    """
    from studium.config import leaves

    chosen = settings(config, workspace, memory_budget)
    values = leaves(chosen)
    if json:
        entries = {path: {"value": value, "origin": chosen.origins[path]} for path, value in values}
        write_json({"file": chosen.file, "values": entries})
        return
    note(f"file: {chosen.file or 'none found, so these are the defaults'}")
    shown = [(path, _shown(path, value), chosen.origins[path]) for path, value in values]
    widths = [max(len(row[column]) for row in shown) for column in (0, 1)]
    for path, value, source in shown:
        line = (
            f"{path:<{widths[0]}}  {value:<{widths[1]}}  {source}"
            if origin
            else f"{path:<{widths[0]}}  {value}"
        )
        write(line.rstrip() + "\n")


@app.command("init")
def init(
    path: Annotated[str, typer.Argument(help="The file to write.")] = "studium.yaml",
    ollama: Annotated[bool, typer.Option("--ollama", help="The roster of six students for Ollama.")] = False,
) -> None:
    """Write an example with every option and its default, commented. Never overwrites.

    Example: studium config init
    """
    target = Path(path).expanduser()
    target = target / "studium.yaml" if target.is_dir() else target
    example = files("studium") / "examples" / ("six-students-ollama.yaml" if ollama else "studium.yaml")
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(example.read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise ConfigurationError(
            f"{target} exists already",
            expected="a file that is not there yet",
            try_next=f"choose another name: studium config init {target.with_suffix('.example.yaml').name}",
        ) from error
    except OSError as error:
        raise OperatorError(
            f"{target} cannot be written: {error.strerror}",
            expected="a folder that exists and may be written to",
            try_next="choose another place: studium config init ~/studium.yaml",
        ) from error
    print(f"wrote {target}")
    note("next: edit it, then see what is in force with: studium config show --origin")


def _shown(path: str, value: object) -> str:
    """Write a value as the file would hold it."""
    from studium.config.units import format_duration, format_size

    key = path.rpartition(".")[2]
    if path == "fleet.memory_budget" and value is None:
        return "auto"
    if value is None or value in ((), {}, ""):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    sizes = {"memory_budget", "memory", "safety_margin", "max_body", "max_dataset", "max_size"}
    if isinstance(value, int) and key in sizes:
        return format_size(value)
    if isinstance(value, float) and (
        key.endswith("timeout") or key in {"heartbeat", "patience", "lease_leave", "expiry"}
    ):
        return format_duration(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, Path):
        return str(value)
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
