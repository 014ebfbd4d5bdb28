"""`studium bootstrap`: the loop of `studium improve`, once, for the foundational adapter of the role `implementer`."""

from typing import TYPE_CHECKING, Annotated

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note
from studium.errors import BadRequest, ConfigurationError

if TYPE_CHECKING:
    from studium.config import Config


def bootstrap(
    minutes: Annotated[
        float, typer.Option(metavar="M", min=0.5, max=10_000, help="How long it may take in all.")
    ] = 10.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Train the foundational adapter and let it serve the role `implementer`, once the gate says so.

    It teaches the student sprout sums of one and two digits, as studium improve does, and goes on where it was
    stopped. Ask it with --student implementer. Exit status as of studium improve.

    Example: studium bootstrap
    """
    from studium.cli.checks import need_training_tools
    from studium.cli.improve import carried_out, plan, tell
    from studium.manage.bootstrap import DOMAIN, ROLE, improvement, wanted
    from studium.manage.improve.champion import champion_of
    from studium.manage.improve.ending import EXIT, Ending

    need_training_tools()
    given = settings(config, workspace)
    _check_role(given)
    if dry_run:
        plan(wanted(minutes), as_json=json)
        return
    _check_free(given)
    turn = carried_out(given, config, improvement(given.workspace, minutes))
    tell([turn], as_json=json)
    if turn.ending is Ending.PROMOTED and (champion := champion_of(given, ROLE)) is not None:
        note(f"{champion.name} serves: studium ask --student {ROLE} 'What is 47 + 58?'")
    elif turn.ending is Ending.PROMOTED:
        note(f"it was taken back since: studium adapters promote {ROLE} {turn.name} --force --reason '...'")
    elif turn.ending in (Ending.HELD, Ending.ROLLED_BACK):
        levels = " ".join(f"--level {one}" for one in turn.wanted.levels)
        note(f"another try, under another name: studium improve --role {ROLE} --on {DOMAIN} {levels} --lora")
    raise typer.Exit(EXIT[turn.ending or Ending.STOPPED])


def _check_role(given: "Config") -> None:
    """Raise ConfigurationError where the role is not held by the student that is trained."""
    from studium.manage.bootstrap import ROLE, STUDENT, held

    if not held(given):
        holder = given.roles.get(ROLE)
        raise ConfigurationError(
            f"the role {ROLE} is held by {holder.student if holder else 'nobody'}",
            expected=f"{STUDENT}, which the foundational adapter changes",
            try_next=f"roles: {{{ROLE}: {{student: {STUDENT}}}}} with embedded_students: yes, in studium.yaml",
        )


def _check_free(given: "Config") -> None:
    """Raise BadRequest where a foundational adapter lies here that was made elsewhere."""
    from studium.manage.bootstrap import NAME, SHELF
    from studium.manage.improve.folder import HOME

    if (given.workspace / "adapters" / SHELF / NAME).is_dir() and not (
        given.workspace / HOME / NAME
    ).is_dir():
        raise BadRequest(
            f"there is an adapters/{SHELF}/{NAME} already, which was not made here",
            expected="a workspace without one; a running Studium lets it serve from its start",
            try_next="studium adapters state",
        )
