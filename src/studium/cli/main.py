"""The way in: `studium <verb or noun> [thing]`. Turns every ending into an exit status (see `failures`)."""

import os
import sys
from collections.abc import Sequence

import typer
import typer.main

from studium.cli import (
    adapters,
    ask,
    bench,
    bootstrap,
    cache,
    compare,
    compare_ensembles,
    configuration,
    doctor,
    domains,
    evals,
    feedback,
    governor,
    improve,
    intents,
    jobs,
    lease,
    models,
    nightly,
    rollout,
    session,
    students,
    train,
    version,
    weakness,
)
from studium.cli.failures import report, report_bug
from studium.cli.group import Commands
from studium.errors import StudiumError

# Plain help: the decorated one takes twice as long to start.
app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A team of small language models on the hardware you have.\n\n"
    'Example: studium ask "What is 47 + 58?" --explain',
)
app.command("ask")(ask.ask)
app.command("compare")(compare.compare)
app.command("bootstrap")(bootstrap.bootstrap)
app.command("compare-ensembles")(compare_ensembles.compare_ensembles)
app.command("feedback")(feedback.feedback)
app.command("doctor")(doctor.doctor)
app.command("lease")(lease.lease)
app.command("weakness")(weakness.weakness)
app.command("version")(version.version)
app.add_typer(students.app, name="students")
app.add_typer(models.app, name="models")
app.add_typer(domains.app, name="domains")
app.add_typer(evals.app, name="eval")
app.add_typer(train.app, name="train")
app.add_typer(adapters.app, name="adapters")
app.add_typer(rollout.app, name="rollout")
app.add_typer(jobs.app, name="jobs")
app.add_typer(improve.app, name="improve")
app.add_typer(nightly.app, name="nightly")
app.add_typer(session.app, name="session")
app.add_typer(intents.app, name="intents")
app.add_typer(governor.app, name="governor")
app.add_typer(cache.app, name="cache")
app.add_typer(configuration.app, name="config")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line of this process and end it."""
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone; without this Python would complain once more while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or 1
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    as_json = "--json" in arguments
    try:
        typer.main.get_command(app).main(list(arguments), prog_name="studium")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except StudiumError as error:
        return report(error, as_json=as_json)
    except Exception as error:
        return report_bug(error, as_json=as_json)
    return 0


if __name__ == "__main__":
    main()
