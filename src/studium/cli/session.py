"""`studium session`: research sessions made of cycles, run here, watched and stopped from anywhere."""

from typing import Annotated

import typer

from studium.cli.options import ConfigOption, JsonOption, MemoryBudgetOption, WorkspaceOption, settings

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The session's name, such as rh_main.")]

app = typer.Typer(
    help="Run research sessions in cycles; watch, stop and resume them.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command("run")
def run(
    name: NameArgument,
    topic: Annotated[str, typer.Option(metavar="TOPIC", help="What to work on, such as riemann.")],
    duration: Annotated[float, typer.Option(metavar="MINUTES", help="How long; fractions allowed.")] = 120.0,
    cycles: Annotated[int | None, typer.Option(metavar="N", help="End after so many cycles.")] = None,
    students: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these students; else the whole roster.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Generate at most so many tokens in all.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which work is handed out; the same seed, the same work.")] = 0,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    memory_budget: MemoryBudgetOption = None,
    json: JsonOption = False,
) -> None:
    """Begin a session and run it until its time is up. Ctrl-C stops it after the runs at work.

    Where a Studium serves the workspace it runs the session, within its own memory budget and behind people's
    questions; the session goes on there if this command is killed. Else it runs here.

    Example: studium session run rh_main --topic riemann --duration 120
    """
    from studium.cli.session_run import Invocation, run_new

    invocation = Invocation(
        settings(config, workspace, memory_budget),
        config,
        workspace,
        as_json=json,
        own_budget=memory_budget is not None,
    )
    status = run_new(
        invocation,
        name,
        topic,
        minutes=duration,
        cycles=cycles,
        students=students,
        tokens=tokens,
        seed=seed,
    )
    raise typer.Exit(status)


@app.command("resume")
def resume(
    name: NameArgument,
    duration: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Give it so much more time.")
    ] = None,
    cycles: Annotated[int | None, typer.Option(metavar="N", help="Give it so many more cycles.")] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    memory_budget: MemoryBudgetOption = None,
    json: JsonOption = False,
) -> None:
    """Go on with a session that was stopped, interrupted or killed. What was recorded stays as it is.

    Example: studium session resume rh_main
    """
    from studium.cli.session_run import Invocation, run_again

    invocation = Invocation(
        settings(config, workspace, memory_budget),
        config,
        workspace,
        as_json=json,
        own_budget=memory_budget is not None,
    )
    raise typer.Exit(run_again(invocation, name, minutes=duration, cycles=cycles))


@app.command("stop")
def stop(
    name: NameArgument,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait until it has ended.")
    ] = 180.0,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """End a session that runs in another terminal, after the runs at work. Nothing is lost.

    Example: studium session stop rh_main
    """
    from studium.cli.session_control import stop_session

    stop_session(settings(config, workspace).workspace, name, wait_s=wait, as_json=json)


@app.command("list")
def list_sessions(
    config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """List the sessions of the workspace.

    Example: studium session list
    """
    from studium.cli.session_show import list_all

    list_all(settings(config, workspace).workspace, as_json=json)


@app.command("show")
def show(
    name: NameArgument,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a session yielded: by student, by cycle, and its latest useful proposals.

    Example: studium session show rh_main
    """
    from studium.cli.session_show import show_one

    show_one(settings(config, workspace).workspace, name, as_json=json)


@app.command("monitor")
def monitor(
    name: NameArgument,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=60, help="How often to look.")
    ] = 0.5,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Watch a session from a second terminal, until it ends or Ctrl-C. --json shows one moment.

    Example: studium session monitor rh_main
    """
    from studium.cli.session_monitor import watch

    watch(settings(config, workspace).workspace, name, once=once, every_s=every, as_json=json)


@app.command("replay")
def replay(
    name: NameArgument,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="Only this policy; may be repeated.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs to average over.")] = 1,
    export: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write the trace, for studium bench schedule.")
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Put a session's recorded work through the planner on a virtual clock, and through other policies.

    Example: studium session replay rh_main
    """
    from pathlib import Path

    from studium.cli.session_replay import replay_session

    target = Path(export).expanduser() if export is not None else None
    folder = settings(config, workspace).workspace
    replay_session(folder, name, policy or [], seeds=seeds, export=target, as_json=json)
