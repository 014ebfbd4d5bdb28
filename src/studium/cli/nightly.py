"""`studium nightly`: what a running Studium does every night, when it does it next, and how the last night ended."""

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json
from studium.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from studium.config import Config
    from studium.manage.jobs import Jobs

app = typer.Typer(
    help="Distillation every night (nightly.distil in studium.yaml): when it is next, how it went, and at once.\n\n"
    "Example: studium nightly status",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command("status")
def status(config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Show when the next night begins, what it trains for whom, and how the last one ended.

    Example: studium nightly status
    """
    from datetime import datetime, timedelta

    from studium.config.running import running_server
    from studium.manage.job_view import glance
    from studium.manage.nightly import latest, nightly_of, nights_of

    given = settings(config, workspace)
    plan = nightly_of(given)
    with _jobs(given) as jobs:
        last = [glance(one, given.workspace) for one in nights_of(jobs)][-1:]
    url = running_server(given.workspace)
    told: dict[str, Any] = {"on": plan is not None, "running": url, "last": last[0] if last else None}
    if plan is not None:
        following = latest(datetime.now(), plan.at) + timedelta(days=1)
        told |= {"next_at": following.isoformat(), "recipe": str(plan.recipe), "roles": plan.roles}
    if json:
        write_json(told)
        return
    if plan is None:
        note("nothing is done at night: set nightly.distil.recipe in studium.yaml")
    else:
        write(
            f"next   {told['next_at'].replace('T', ' ')}"
            + ("" if url else ", where studium up runs then")
            + "\n"
        )
        write(f"recipe {plan.recipe}, for the role {plan.roles[-1]}\n")
    for one in last:
        write(
            f"last   {one['id']}: {one['state']}, {one['step']} of {one['steps']} steps; {one['message']}\n"
        )


@app.command("run")
def run(config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Do at once what is done every night, as a job of its own; the next night is done all the same.

    Example: studium nightly run
    """
    from datetime import datetime

    from studium.cli.checks import need_training_tools
    from studium.config.running import running_server
    from studium.manage.job_view import glance
    from studium.manage.nightly import begin_now, nightly_of

    need_training_tools()
    given = settings(config, workspace)
    plan = nightly_of(given)
    if plan is None:
        raise ConfigurationError(
            "nothing is to be done at night",
            expected="nightly.distil.recipe in studium.yaml",
            try_next="see the example: studium config init",
        )
    with _jobs(given) as jobs:
        job = begin_now(plan, jobs, datetime.now())
        if running_server(given.workspace) is None:
            jobs.tend()
        found = glance(jobs.job(job.id), given.workspace)
    if json:
        write_json(found)
    else:
        note(f"{job.id} is {found['state']}; studium jobs show {job.id}")


@contextmanager
def _jobs(given: "Config") -> "Iterator[Jobs]":
    from studium.app import STORE_FILE
    from studium.manage.jobs import Jobs
    from studium.store import open_store

    store = open_store(given.workspace / STORE_FILE)
    try:
        yield Jobs(store.jobs, given.workspace, given.workspace / STORE_FILE)
    finally:
        store.close()
