"""`studium lease`: any command under a lease of memory, which gives way to questions (see `fleet.borrow`)."""

from enum import StrEnum
from typing import Annotated

import typer

from studium.cli.options import ConfigOption, WorkspaceOption, settings
from studium.cli.output import note
from studium.errors import BadRequest


class OnRecall(StrEnum):
    """What becomes of the command when its memory is needed."""

    STOP = "stop"
    PAUSE = "pause"


def lease(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the run is called, such as sft.")],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="What to run, after a --.")],
    memory: Annotated[str, typer.Option(metavar="SIZE", help="What it needs at most, such as 2GiB.")],
    on_recall: Annotated[
        OnRecall, typer.Option(help="What is done when a question needs the memory; see above.")
    ] = OnRecall.STOP,
    leave: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Report a command that takes longer to leave.")
    ] = 30.0,
    on_gpu: Annotated[bool, typer.Option("--on-gpu", help="The memory is a GPU's.")] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Run a command under a lease of memory, shared with the Studium that serves the workspace.

    The command begins when the memory is there, and gives way when a question needs it. By default
    (--on-recall stop) it is sent SIGTERM, on which it should save what it must not lose and end; it is begun
    again when the memory is back, so it must go on from what it saved. A process that has ended has surely given
    its memory back, which is why this is the default. With --on-recall pause it is sent SIGTSTP instead: it frees its
    memory and stops itself with SIGSTOP, and gets SIGCONT when the memory is back; if it was stopped and still
    holds more than a tenth of its lease, that is told, and it is ended after all. It is never killed while it saves.

    The exit status is the command's. Ctrl-C ends both; twice, at once. Where no Studium serves the workspace the
    command begins at once, and gives way to one that is started later.

    Example: studium lease sft --memory 2GiB -- python train.py --resume
    """
    from studium.fleet.leased_command import run_leased

    if on_gpu and on_recall is OnRecall.PAUSE:
        raise BadRequest(
            "a paused command's memory on a GPU is not measured",
            expected="--on-recall stop with --on-gpu",
            try_next="leave --on-recall out",
        )
    status = run_leased(
        settings(config, workspace).workspace,
        name,
        command,
        _size(memory),
        tell=lambda line: note(f"lease {name}: {line}"),
        may_pause=on_recall is OnRecall.PAUSE,
        leave_s=leave,
        on_gpu=on_gpu,
    )
    raise typer.Exit(status)


def _size(text: str) -> int:
    from studium.config.units import parse_size

    try:
        num_bytes = parse_size(text)
    except ValueError as error:
        raise BadRequest(f"--memory is {text[:40]!r}", expected=str(error)) from None
    if num_bytes <= 0:
        raise BadRequest("--memory is nothing", expected="more than no bytes, such as 2GiB")
    return num_bytes
