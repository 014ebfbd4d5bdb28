"""`studium adapters`: what was trained and taken in, who serves each role, and changing that.

Works on the workspace's store, with or without a running Studium there: one that runs sees a change within a second.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from studium.cli import adapters_export
from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.errors import BadRequest

if TYPE_CHECKING:
    from studium.config import Config
    from studium.records.adapters import Adapter, RouteChange
    from studium.registry import Registry

Json = dict[str, Any]
EXIT_FAULTS = 1

RoleName = Annotated[
    str, typer.Argument(metavar="ROLE", help="A student's name, or one of `roles` in studium.yaml.")
]
RoleOption = Annotated[str | None, typer.Option("--role", metavar="ROLE", help="Only this role.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Adapters and models that were trained: take them in, see who serves each role, promote and roll back.\n\n"
    "Example: studium adapters state",
)
adapters_export.register(app)


class Open(NamedTuple):
    """The registry of a workspace, and the roles of its roster: who holds each."""

    registry: "Registry"
    roles: Mapping[str, str]
    config: "Config"


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
    with _opened(config, workspace) as (registry, roles, _):
        _was_or_is(role, roles, registry)
        found = registry.adapters(role or "")
        serving = {one.champion for one in registry.routes().values()}
    if json:
        write_json(found)
        return
    if not found:
        note("nothing is registered; studium adapters register RUN --role ROLE takes a finished run in")
        return
    write_table(
        ("role", "name", "kind", "base", "registered", "made from", "id"),
        [
            (
                one.role,
                one.name + (" (serves)" if one.id in serving else ""),
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
    with _opened(config, workspace) as (registry, roles, _):
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


@app.command("register")
def register(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_FOLDER", help="A finished training run by name, or a folder with a trained model."
        ),
    ],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="The place it is meant for.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Else the run's or the folder's.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="MODEL", help="The roster's model it was trained on.")
    ] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="Of a run with an adapter, the whole model it became.")
    ] = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Take a trained adapter or model in: files checked and copied, lineage noted. It serves once it is promoted.

    Only .safetensors and .gguf files with sound headers are accepted, beside plain texts.

    Example: studium adapters register my-run --role sprout
    """
    from studium.cli.adapters_source import source_of
    from studium.registry import known_role

    with _opened(config, workspace) as (registry, roles, given):
        known_role(role, roles)
        found = source_of(what, given, registry, base, merged=merged)
        adapter = registry.register(
            found.folder,
            role,
            name=name or found.name,
            base=found.base,
            base_sha256=found.base_sha256,
            kind=found.kind,
            lineage=found.lineage,
            actor=_user(),
            dry_run=dry_run,
        )
    if json:
        write_json(adapter)
        return
    does = "would be registered" if dry_run else "registered"
    write(
        f"{does}: {adapter.role}/{adapter.name}, {adapter.kind.value} of {adapter.base} ({adapter.id[:12]})\n"
    )
    note(f"compare it with studium compare {adapter.role} {adapter.role}/{adapter.name}, then promote it")


@app.command("promote")
def promote(
    role: RoleName,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A registered adapter, or its id; with --force own-student, the student itself.",
        ),
    ],
    evidence: Annotated[
        str | None, typer.Option("--evidence", metavar="ID", help="What the gate measured, with its verdict.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Without evidence; needs --reason.")] = False,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Let an adapter serve a role, on evidence about it and the champion of now.

    Example: studium adapters promote sprout my-run --evidence 1f3a9c0d
    """
    if force == (evidence is not None):
        raise BadRequest(
            "both --evidence and --force were given" if force else "a promotion needs evidence",
            expected="--evidence ID, or --force with --reason TEXT",
            try_next="studium compare tells the id of its evidence",
        )
    from studium.registry import known_role

    with _opened(config, workspace) as (registry, roles, _):
        known_role(role, roles)
        with _token(registry, dry_run=dry_run) as token:
            if evidence is None:
                adapter_id = registry.adapter_id(role, name)
                change = registry.force(role, adapter_id, reason=reason, actor=_user(), token=token)
            else:
                adapter_id = registry.adapter(role, name).id
                change = registry.promote(
                    role,
                    adapter_id,
                    evidence=_replayed(registry, evidence),
                    actor=_user(),
                    token=token,
                    reason=reason,
                )
        _tell(change, registry, dry_run=dry_run, as_json=json)


@app.command("rollback")
def rollback(
    role: RoleName,
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Let the champion before this one serve again, at once. Twice leads further back, in the end to the student.

    Example: studium adapters rollback sprout
    """
    with _opened(config, workspace) as (registry, roles, _):
        _was_or_is(role, roles, registry)
        with _token(registry, dry_run=dry_run) as token:
            change = registry.rollback(role, actor=_user(), token=token, reason=reason)
        _tell(change, registry, dry_run=dry_run, as_json=json)


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
    with _opened(config, workspace) as (registry, roles, _):
        _was_or_is(role, roles, registry)
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
    with _opened(config, workspace) as (registry, _, _):
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


@contextmanager
def _opened(config: str | None, workspace: str | None) -> Iterator[Open]:
    from studium.app import STORE_FILE
    from studium.registry import Registry, build_roster
    from studium.serve.team.routing import holders_of
    from studium.store import open_store

    given = settings(config, workspace)
    roster = build_roster(given)
    further = {role: declared.student for role, declared in given.roles.items()}
    roles = {role: one.name for role, one in holders_of(roster.students, further).items()}
    store = open_store(given.workspace / STORE_FILE)
    try:
        yield Open(Registry(store, given.workspace, roster.models), roles, given)
    finally:
        store.close()


@contextmanager
def _token(registry: "Registry", *, dry_run: bool) -> Iterator[int | None]:
    if dry_run:
        yield None
        return
    with registry.lease(_user()) as token:
        yield token


def _was_or_is(role: str | None, roles: Mapping[str, str], registry: "Registry") -> None:
    """Raise BadRequest for a role that neither the roster nor the history has."""
    from studium.registry import known_role

    if role is not None:
        known_role(role, {*roles, *registry.routes()})


def _replayed(registry: "Registry", evidence_id: str) -> str:
    """Return the id of evidence whose verdict follows from what was measured. Raises StudiumError otherwise."""
    from studium.evals.gate.evidence import replay

    found = registry.evidence(evidence_id)
    replay(found)
    return found.id


def _tell(change: "RouteChange", registry: "Registry", *, dry_run: bool, as_json: bool) -> None:
    from studium.registry import name_of

    if as_json:
        write_json(change)
        return
    names = registry.names()
    before, after = (name_of(side["champion"], names) for side in (change.before, change.after))
    write(f"{change.role}: {after} {'would serve' if dry_run else 'serves'}, {before} served before\n")
    if not dry_run and change.after["champion"]:
        note(f"the way back: studium adapters rollback {change.role}")


def _origin(adapter: "Adapter") -> str:
    run, stage = (str(adapter.lineage.get(key) or "") for key in ("run", "stage"))
    return f"{stage or 'training'} {run}" if run else "a folder"


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local"
