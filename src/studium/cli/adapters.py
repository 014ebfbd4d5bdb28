"""`studium adapters`: what was trained and taken in, who serves each role, and changing that.

Works on the workspace's store, with or without a running Studium there: one that runs sees a change within a second.
"""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from studium.cli import adapters_change, adapters_export
from studium.cli.adapters_open import RoleOption, opened, was_or_is
from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption
from studium.cli.output import note, write, write_json, write_table

if TYPE_CHECKING:
    from studium.records.adapters import Adapter

Json = dict[str, Any]
EXIT_FAULTS = 1

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Adapters and models that were trained: take them in, see who serves each role, promote and roll back.\n\n"
    "Example: studium adapters state",
)
adapters_change.register_with(app)
adapters_export.register(app)


@app.command("list")
def listing(
    role: RoleOption = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """List what is registered, with what it was made from.

    Example: studium adapters list --role sprout
    """
    with opened(config, workspace) as (registry, roles, *_):
        was_or_is(role, roles, registry)
        found, gone = registry.adapters(role or ""), registry.removed()
        serving = {one.champion for one in registry.routes().values()}
    if json:
        write_json([{**asdict(one), "removed": one.id in gone} for one in found])
        return
    if not found:
        note("nothing is registered; studium adapters register RUN --role ROLE takes a finished run in")
        return
    write_table(
        ("role", "name", "kind", "base", "registered", "made from", "id"),
        [
            (
                one.role,
                one.name + (" (serves)" if one.id in serving else " (removed)" if one.id in gone else ""),
                one.kind.value,
                one.base,
                _when(one.registered_at),
                _origin(one),
                one.id[:12],
            )
            for one in found
        ],
    )


@app.command("state")
def state(config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Show who serves each role, who challenges there, and where a rollback leads.

    Example: studium adapters state
    """
    with opened(config, workspace) as (registry, roles, *_):
        found = registry.state(roles)
    if json:
        write_json(found)
        return
    write_table(
        ("role", "held by", "champion", "challenger", "traffic", "since", "a rollback leads to"),
        [
            (
                one.role,
                one.student or "nobody now",
                one.champion,
                one.challenger or "-",
                "-" if one.phase == "none" else f"{one.phase} {one.share:.0%}" if one.share else one.phase,
                "-" if one.changed_at is None else _when(one.changed_at),
                ", ".join(one.back) or "-",
            )
            for one in found
        ],
    )


@app.command("history")
def history(
    role: RoleOption = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show every change of a route: who, when, on what evidence or for what reason.

    Example: studium adapters history --role sprout
    """
    with opened(config, workspace) as (registry, roles, *_):
        was_or_is(role, roles, registry)
        changes, names = registry.history(role or ""), registry.names()
    if json:
        write_json(changes)
        return
    from studium.registry import name_of

    write_table(
        ("#", "when", "role", "what", "adapter", "champion", "by", "evidence or reason"),
        [
            (
                str(one.number),
                _when(one.at),
                one.role,
                one.action.value,
                name_of(one.adapter, names),
                name_of(one.after["champion"], names),
                one.actor,
                ", ".join(part for part in (one.evidence[:12], one.reason) if part) or "-",
            )
            for one in changes
        ],
    )


@app.command("verify")
def verify(config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Check the chain of changes, the routes, and every registered file against its hash. Exit status 1 for a fault.

    A chain cannot tell that its end was cut off whole: keep the last change's hash elsewhere to notice that.

    Example: studium adapters verify
    """
    with opened(config, workspace) as (registry, *_):
        faults = registry.verify()
        changes, adapters = registry.head(), len(registry.adapters())
    if json:
        head = {"changes": changes.number, "head_sha256": changes.sha256, "adapters": adapters}
        write_json({"sound": not faults, "faults": [one._asdict() for one in faults]} | head)
    else:
        for one in faults:
            write(f"{one.where}: {one.what}\n")
        found = f"{len(faults)} faults" if faults else "all as written"
        write(
            f"{changes.number} changes (the last {changes.sha256[:12] or '-'}) and {adapters} adapters: {found}\n"
        )
    if faults:
        raise typer.Exit(EXIT_FAULTS)


def _origin(adapter: "Adapter") -> str:
    run, stage = (str(adapter.lineage.get(key) or "") for key in ("run", "stage"))
    return f"{stage or 'training'} {run}" if run else "a folder"


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
