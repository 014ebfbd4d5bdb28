"""`studium nightly`: what a running Studium does every night, when it does it next, and how the last night ended."""

from typing import Any

import typer

from studium.cli.jobs import opened
from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json
from studium.errors import ConfigurationError

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

    plan = nightly_of(settings(config, workspace))
    with opened(config, workspace) as (jobs, place):
        last = [glance(one, place) for one in nights_of(jobs)][-1:]
    url = running_server(place)
    told: dict[str, Any] = {"on": plan is not None, "running": url, "last": last[0] if last else None}
    if plan is not None:
        following = latest(datetime.now(), plan.at) + timedelta(days=1)
        told |= {"next_at": following.isoformat(" "), **plan.request}
    if json:
        write_json(told)
        return
    if plan is None:
        note("nothing is done at night: set nightly.distil.recipe in studium.yaml")
    else:
        write(f"next   {told['next_at']}{'' if url else ', where studium up runs then'}\n")
        write(f"recipe {told['recipe_file']}, for the role {told['roles'][-1]}\n")
    for one in last:
        steps = f"{one['step']} of {one['steps']} steps"
        write(f"last   {one['id']}: {one['state']}, {steps}; {one['message']}\n")


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
    plan = nightly_of(settings(config, workspace))
    if plan is None:
        raise ConfigurationError(
            "nothing is to be done at night",
            expected="nightly.distil.recipe in studium.yaml",
            try_next="see the example: studium config init",
        )
    with opened(config, workspace) as (jobs, place):
        job = begin_now(plan, jobs, datetime.now())
        if running_server(place) is None:
            jobs.tend()
        found = glance(jobs.job(job.id), place)
    if json:
        write_json(found)
    else:
        note(f"{job.id} is {found['state']}; studium jobs show {job.id}")
