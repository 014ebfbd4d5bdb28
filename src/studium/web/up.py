"""`studium up`: open the workspace, serve it, and leave nothing behind when told to stop.

The first SIGINT, SIGTERM or SIGHUP lets open questions finish, the second ends them. While it serves, `server.json`
in the workspace says where, so that other commands find it.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

if TYPE_CHECKING:
    from studium.app import Studium
    from studium.config import Config

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LISTED = 12
_log = logging.getLogger("studium.web")


def register(app: typer.Typer) -> None:
    """Add the command `up` to the command line."""
    app.command("up")(up)


def up(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; others than loopback need a key.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes any that is free.")] = None,
    config: Annotated[Path | None, typer.Option(help="The configuration, studium.yaml unless told.")] = None,
    workspace: Annotated[Path | None, typer.Option(help="Folder for the store and everything made.")] = None,
    memory_budget: Annotated[
        str | None, typer.Option(help="Memory that models may occupy together, such as 2GiB.")
    ] = None,
) -> None:
    """Serve the students to any OpenAI or Ollama client.

    Example: studium up --port 8377
    """
    from studium.config import load_config

    gc.disable()  # until it serves: what is imported and opened now stays, and looking through it takes time
    overrides = {
        "server.host": host,
        "server.port": port,
        "workspace": workspace,
        "fleet.memory_budget": memory_budget,
    }
    resolved = load_config(config, environment=os.environ, overrides=overrides)
    asyncio.run(run(resolved))


async def run(config: "Config") -> None:
    """Serve until a signal comes. Raises ConfigurationError, StoreUnavailable, OperatorError (port taken)."""
    from studium.app import open_studium
    from studium.config import SERVER_FILE
    from studium.intents.channels import keep_channels
    from studium.manage.nightly import nightly
    from studium.manage.retraining import retraining
    from studium.telemetry import configure_logging
    from studium.web.access import gate_of
    from studium.web.server import serve
    from studium.web.train_api import jobs_of, tending

    configure_logging(sys.stderr, level=config.log.level)
    gate_of(config.server, os.environ)  # before anything is opened: nothing to clean up if it refuses
    stop, hurry = asyncio.Event(), asyncio.Event()
    with _signals(stop, hurry):
        async with (
            open_studium(config) as studium,
            keep_channels(config.workspace, studium.ensemble.answer) as intents,
            serve(studium, hurry=hurry, intents=intents) as url,
        ):
            with _announced(config.workspace / SERVER_FILE, url):
                async with (
                    tending(studium),
                    retraining(config, studium.store, list(studium.roster.students)),
                    nightly(config, jobs_of(studium)),
                ):
                    typer.echo(banner(studium, url))
                    gc.freeze()  # nor is it looked through behind every question
                    gc.enable()
                    # What a question leaves is mostly gone before anybody looks.
                    gc.set_threshold(10_000, 20, 20)
                    await stop.wait()
                    typer.echo("stopping: open questions are finished first; once more ends them", err=True)


def banner(studium: "Studium", url: str) -> str:
    """Return what a newcomer needs to know: where, who, and how to ask."""
    names = list(studium.roster.students)
    shown = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    budgets = [
        f"{one.budget_bytes / 2**20:,.0f} MiB for models on {one.name} ({one.source})"
        for one in studium.fleet.devices()
    ]
    return "\n".join(
        [
            f"Studium listens on {url}",
            f"  students  {shown or 'none: add some to studium.yaml'}",
            "  memory    " + "\n            ".join(budgets),
            f"  workspace {studium.config.workspace}",
            "",
            "Ask:",
            f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\",
            '    -d \'{"model": "auto", "messages": [{"role": "user", "content": "What is 47 + 58?"}]}\'',
            "",
            "Any OpenAI client works with base_url " + url + "/v1. Stop with Ctrl-C.",
        ]
    )


@contextmanager
def _signals(stop: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, signalled)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


@contextmanager
def _announced(path: Path, url: str) -> Iterator[None]:
    """Write who serves and where. Only a convenience: where it cannot be written, serving goes on."""
    fresh = path.with_suffix(f".{os.getpid()}")
    try:
        fresh.write_bytes(orjson.dumps({"pid": os.getpid(), "url": url}))
        fresh.replace(path)
    except OSError as error:
        _log.warning("%s was not written: %s", path, error)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
