"""`studium adapters register|promote|rollback|clean`: what changes who may serve, who serves, and what is on disk."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from studium.cli.adapters_open import opened, token_of, user, was_or_is
from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption
from studium.cli.output import note, write, write_json
from studium.errors import BadRequest

if TYPE_CHECKING:
    from studium.records.adapters import RouteChange
    from studium.registry import Registry

RoleName = Annotated[
    str, typer.Argument(metavar="ROLE", help="A student's name, or one of `roles` in studium.yaml.")
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]
SEEN_DAYS = 30
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]


def register_with(app: typer.Typer) -> None:
    """Add the commands to the group of adapters."""
    for command in (register, promote, rollback, clean):
        app.command(command.__name__)(command)


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
    shelf: Annotated[
        str, typer.Option("--shelf", metavar="NAME", help="The folder below adapters/, else the role's.")
    ] = "",
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

    with opened(config, workspace) as (registry, roles, given, _):
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
            actor=user(),
            shelf=shelf,
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

    with opened(config, workspace) as (registry, roles, *_):
        known_role(role, roles)
        with token_of(registry, dry_run=dry_run) as token:
            if evidence is None:
                adapter_id = registry.adapter_id(role, name)
                change = registry.force(role, adapter_id, reason=reason, actor=user(), token=token)
            else:
                adapter_id = registry.adapter(role, name).id
                change = registry.promote(
                    role,
                    adapter_id,
                    evidence=_replayed(registry, evidence),
                    actor=user(),
                    token=token,
                    reason=reason,
                )
        _tell(change, registry, dry_run=dry_run, as_json=json)


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
    with opened(config, workspace) as (registry, roles, *_):
        was_or_is(role, roles, registry)
        with token_of(registry, dry_run=dry_run) as token:
            change = registry.rollback(role, actor=user(), token=token, reason=reason)
        _tell(change, registry, dry_run=dry_run, as_json=json)


def clean(
    keep: Annotated[
        int, typer.Option(min=0, max=1000, help="How many of those that rollbacks lead to stay in each role.")
    ] = 3,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Remove the files of adapters that nothing needs, and what roll-outs saw that ended a month ago and more.

    Who serves, challenges or was registered last in a role stays, and what these were trained from. Rows stay: the
    history tells what was removed, and registering the same again brings it back.

    Example: studium adapters clean --keep 1 --dry-run
    """
    with opened(config, workspace) as (registry, _, _, store):
        with token_of(registry, dry_run=dry_run) as token:
            going = registry.clean(keep, actor=user(), token=token)
        before = time.time() - SEEN_DAYS * 86_400
        exposures = store.rollouts.forget(before, dry_run=dry_run)
    if json:
        adapters = [
            {"id": one.id, "role": one.role, "name": one.name, "size_bytes": size} for one, size in going
        ]
        write_json({"removed": adapters, "exposures": exposures, "dry_run": dry_run})
        return
    for one, size in going:
        write(f"{one.role}/{one.name} ({one.id[:12]}): {size:,} bytes\n")
    does = "would be removed" if dry_run else "removed"
    total = sum(size for _, size in going)
    note(
        f"{does}: the files of {len(going)} adapters, {total:,} bytes, and {exposures} exposures of roll-outs"
    )


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
