"""`studium governor`: what may be spent, what is spent, and changing it, with or without a running Studium."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.errors import BadRequest

if TYPE_CHECKING:
    from studium.config import Config

Json = dict[str, Any]
_ROUTE = "/api/config/governor"

app = typer.Typer(
    help="What may be spent: money and GPU time, per request, hour, day and session.",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback()
def show(
    context: typer.Context,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show every cap, what is spent and reserved of it, what is left, and the switches for refinement.

    What is spent leaves an hour's or a day's window as that time passes: "empty in" says when all of it will have.

    Example: studium governor
    """
    if context.invoked_subcommand is None:
        _tell(_ask_about(settings(config, workspace), None), as_json=json)


@app.command("set")
def change(
    values: Annotated[
        list[str], typer.Argument(metavar="NAME=VALUE...", help="Such as usd_per_day=2 or refinement=off.")
    ],
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Change settings at once, and keep them; usd_per_day=none lifts a cap. All or none.

    Example: studium governor set usd_per_day=2 usd_per_request=0.05
    """
    from studium.serve.governor.settings import text_of

    changes = {name: text_of(name, value) for name, value in map(_pair, values)}
    _tell(_ask_about(settings(config, workspace), changes), as_json=json)


@app.command("reset")
def reset(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Such as usd_per_day.")],
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Go back to what the configuration says. What was spent stays spent.

    Example: studium governor reset usd_per_day
    """
    from studium.serve.governor.settings import known

    changes = {"reset": [known(name) for name in names]}
    _tell(_ask_about(settings(config, workspace), changes), as_json=json)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadRequest(
            f"{text[:60]!r} says no value",
            expected="NAME=VALUE",
            try_next="studium governor set usd_per_day=2",
        )
    return name.strip(), value.strip()


def _ask_about(chosen: "Config", changes: Json | None) -> Json:
    """Change what is to be changed and return where the governor stands: the running one, else the store's."""
    from studium.cli.running import get, post, running_server

    url = running_server(chosen.workspace)
    if url is None:
        return _at_rest(chosen, changes)
    return get(url, _ROUTE) if changes is None else post(url, _ROUTE, changes)


def _at_rest(chosen: "Config", changes: Json | None) -> Json:
    from studium.app import STORE_FILE
    from studium.serve.governor.governor import Governor
    from studium.store.database import open_database
    from studium.store.spending import Spending

    database = open_database(chosen.workspace / STORE_FILE)
    spending = Spending(database)
    try:
        governor = Governor(spending, chosen.governor)
        if changes is not None:
            values = {name: value for name, value in changes.items() if name != "reset"}
            governor.change(values, reset=changes.get("reset", ()), by=_user())
        return governor.standing().as_json()
    finally:
        spending.close()
        database.dispose()


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local"


def _tell(standing: Json, *, as_json: bool) -> None:
    if as_json:
        write_json(standing)
        return
    write_table(
        ("cap", "limit", "spent", "reserved", "left", "empty in", "says who"), map(_row, standing["usage"])
    )
    for name in ("refinement", "force_arbiter"):
        state = "on" if standing["settings"][name] else "off"
        write(f"{name}: {state} ({standing['sources'][name]})\n")
    for one in standing["sessions"]:
        write(f"session {one['session']}: {one['usd']:.6g} USD, {one['gpu_s']:.4g} s of GPU time\n")
    assumed = standing["assumed"]
    if assumed["usd"] or assumed["gpu_s"]:
        note(
            f"of this day, {assumed['usd']:.6g} USD and {assumed['gpu_s']:.4g} s are assumed: calls that were never "
            "settled, so all they could have cost is counted"
        )


def _row(use: Json) -> tuple[str, ...]:
    of_one = use["name"].endswith(("_per_request", "_per_session"))  # these are counted for each by itself
    free = use["free_in_s"]
    return (
        use["name"],
        _figure(use["cap"]),
        "-" if of_one else _figure(use["spent"]),
        "-" if of_one else _figure(use["reserved"]),
        "-" if of_one else _figure(use["left"]),
        "-" if free is None else f"{int(free // 3600)}:{int(free % 3600 // 60):02} h",
        use["source"],
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
