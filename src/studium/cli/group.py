"""The group of commands, and how homes beside `cli` contribute theirs.

A package names a function in the entry-point group `studium.commands`; the function adds a command of the
entry point's name to the Typer app it is given. It is imported only when that command is called: in the
list of commands a contributed one is a line of text.
"""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
import typer.core
import typer.main

ENTRY_POINTS = "studium.commands"
SUMMARIES: Mapping[str, str] = {"up": "Serve the students to any OpenAI or Ollama client."}


class Commands(typer.core.TyperGroup):
    """Our own commands first, then the contributed ones by name."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the help page."""
        return [*sorted(_contributed()), *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; of a contributed one only its line in the list."""
        if own := super().get_command(ctx, cmd_name):
            return own
        entry = _contributed().get(cmd_name)
        if entry is None:
            return None
        summary = SUMMARIES.get(cmd_name, f"Added by {entry.module.partition('.')[0]}.")
        return typer.core.TyperCommand(cmd_name, help=summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return what is to be run, importing a contributed command now."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and name not in self.commands and (entry := _contributed().get(name)):
            command = _load(entry)
        return name, command, rest


def _contributed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def _load(entry: EntryPoint) -> Any:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    entry.load()(app)
    return typer.main.get_command(app)
