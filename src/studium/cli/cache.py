"""`studium cache`: what is kept of answers, clearing it, and the switch. A running Studium notices at once."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json

if TYPE_CHECKING:
    from studium.store.cache import AnswerShelf

Json = dict[str, Any]

app = typer.Typer(
    help="Answers kept to be given again: show, clear, on, off.", rich_markup_mode=None, no_args_is_help=True
)


@app.command("show")
def show(config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Show the switch, the limits, and how much is kept for all callers.

    Example: studium cache show
    """
    _tell(config, workspace, as_json=json)


@app.command("clear")
def clear(config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Remove every kept answer, of all callers.

    Example: studium cache clear
    """
    _tell(config, workspace, lambda shelf: {"removed": shelf.clear()}, as_json=json)


@app.command("on")
def on(config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Keep answers and give them again, until told otherwise, whatever the configuration says.

    Example: studium cache on
    """
    _tell(config, workspace, lambda shelf: _switch(shelf, True), as_json=json)


@app.command("off")
def off(config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Keep no answer and give none again, until told otherwise. What is kept stays; see: studium cache clear.

    Example: studium cache off
    """
    _tell(config, workspace, lambda shelf: _switch(shelf, False), as_json=json)


def _switch(shelf: "AnswerShelf", enabled: bool) -> Json:
    shelf.switch(enabled, by="command line", at=time.time())
    return {}


def _tell(
    config: str | None,
    workspace: str | None,
    change: Callable[["AnswerShelf"], Json] | None = None,
    *,
    as_json: bool,
) -> None:
    """Change what is to be changed and say how it is then: in the store, which every process looks into."""
    from studium.app import STORE_FILE
    from studium.serve.cache.cache import state_of
    from studium.store.cache import AnswerShelf
    from studium.store.database import open_database

    chosen = settings(config, workspace)
    database = open_database(chosen.workspace / STORE_FILE)
    try:
        shelf = AnswerShelf(database, chosen.cache)
        told = change(shelf) if change else {}
        state = state_of(shelf, chosen.cache, now=time.time()) | told
    finally:
        database.dispose()
    state["keeps_questions"] = chosen.store.keep_questions
    if as_json:
        write_json(state)
        return
    _say(state)


def _say(state: Json) -> None:
    from studium.config.units import format_duration, format_size

    kept = state["kept"]
    write(f"cache is {'on' if state['enabled'] else 'off'} ({state['source']})\n")
    if "removed" in state:
        write(f"removed {state['removed']} answers\n")
    oldest = (
        "" if kept["oldest_s"] is None else f", the oldest {format_duration(round(kept['oldest_s']))} ago"
    )
    write(
        f"kept: {kept['entries']} answers, {format_size(kept['bytes'])}, given again {kept['hits']} times{oldest}\n"
    )
    write(
        f"limits: {format_duration(state['expiry_s'])}, {format_size(state['max_bytes'])}, "
        f"{state['max_entries']:,} answers\n"
    )
    meaning = f"from a similarity of {state['similarity']:g}" if state["by_meaning"] else "no"
    write(f"by meaning: {meaning}, where a model gives embeddings\n")
    if not state["keeps_questions"]:
        note("store.keep_questions is false, so nothing is kept")
