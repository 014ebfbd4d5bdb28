"""`studium jobs`: training that goes on without whoever began it; looked at, stopped, taken up again.

Works on the workspace's store, with or without a running Studium. Where none runs, `resume` begins the process itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table

if TYPE_CHECKING:
    from studium.manage.jobs import Jobs

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id; see studium jobs list.")]

app = typer.Typer(
    help="Training jobs that were begun over HTTP and outlive the server.\n\nExample: studium jobs list",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command("list")
def listing(config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List jobs, the latest first.

    Example: studium jobs list
    """
    from studium.manage.job_view import glance

    with opened(config, workspace) as (jobs, place):
        found = [glance(one, place) for one in reversed(jobs.jobs())]
    if json:
        write_json(found)
        return
    if not found:
        note("no jobs yet: POST /api/train begins one")
        return
    write_table(
        ("job", "stage", "state", "step", "s", "says"),
        [
            (
                one["id"],
                one["stage"],
                one["state"],
                f"{one['step']}/{one['steps']}",
                f"{one['seconds']:.0f}",
                one["message"],
            )
            for one in found
        ],
    )


@app.command("show")
def show(
    job: JobId, config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """Show a job: how far it is, what it has done, what may come next.

    Example: studium jobs show train-sums
    """
    from studium.manage.job_view import detail

    with opened(config, workspace) as (jobs, place):
        found = detail(jobs.job(job), jobs.steps(job), place)
    if json:
        write_json(found)
        return
    for key, value in found.items():
        if value not in (None, "", [], {}):
            write(f"{key:<10} {value}\n" if not isinstance(value, list) else f"{key}\n")
        for line in value if isinstance(value, list) else ():
            write(f"  {line}\n")


@app.command("stop")
def stop(
    job: JobId, config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """Have a job stop after the step at work; it can be resumed.

    Example: studium jobs stop train-sums
    """
    from studium.manage.job_view import glance

    with opened(config, workspace) as (jobs, place):
        found = glance(jobs.stop(job), place)
    how = "is stopped" if found["state"] == "stopped" else "stops after its step"
    _say(found, f"{job} {how}; studium jobs resume {job} goes on", json=json)


@app.command("resume")
def resume(
    job: JobId, config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """Have a job go on from what it last saved, exactly, as soon as no other is at work.

    Example: studium jobs resume train-sums
    """
    from studium.cli.checks import need_training_tools
    from studium.config.running import running_server
    from studium.manage.job_view import glance
    from studium.records.jobs import JobState

    need_training_tools()
    with opened(config, workspace) as (jobs, place):
        if jobs.job(job).state is not JobState.QUEUED:  # which may lack nothing but who begins it
            jobs.resume(job)
        if running_server(place) is None:
            jobs.tend()
        found, before = glance(jobs.job(job), place), jobs.waits_for(job)
        other = None if before is None else glance(before, place)
    how = "goes on"
    if other is not None:
        how = f"waits: {other['id']} is {other['state']}; it goes on when that is over"
    _say(found, f"{job} {how}; studium jobs show {job}", json=json)


def _say(found: dict[str, object], line: str, *, json: bool) -> None:
    if json:
        write_json(found)
    else:
        note(line)


@contextmanager
def opened(config: str | None, workspace: str | None) -> "Iterator[tuple[Jobs, Path]]":
    """Yield the jobs of the workspace that the options choose, and where it is."""
    from studium.app import STORE_FILE
    from studium.manage.jobs import Jobs
    from studium.store import open_store

    place = settings(config, workspace).workspace
    store = open_store(place / STORE_FILE)
    try:
        yield Jobs(store.jobs, place, place / STORE_FILE), place
    finally:
        store.close()
