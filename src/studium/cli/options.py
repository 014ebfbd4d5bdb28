"""Options several commands share, and the configuration they lead to.

Values stay text until the configuration reads them, so that the command line and the file refuse a wrong
value in the same words.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from studium.config import Config

ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="The configuration; else ./studium.yaml.")
]
WorkspaceOption = Annotated[
    str | None, typer.Option("--workspace", metavar="FOLDER", help="Where history and state are kept.")
]
MemoryBudgetOption = Annotated[
    str | None,
    typer.Option("--memory-budget", metavar="SIZE", help="What all models may occupy, such as 2GiB."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for programs.")]


def settings(
    config: str | None = None, workspace: str | None = None, memory_budget: str | None = None
) -> "Config":
    """Load the configuration these options choose. Raises ConfigurationError."""
    from studium.config import load_config

    return load_config(
        Path(config).expanduser() if config is not None else None,
        environment=os.environ,
        overrides={"workspace": workspace, "fleet.memory_budget": memory_budget},
    )
