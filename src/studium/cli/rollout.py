"""`studium rollout`: a challenger meets traffic, is compared with the champion, and goes on by what it earns."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.errors import BadRequest

if TYPE_CHECKING:
    from studium.config import Config
    from studium.registry import Registry
    from studium.store import Store

Json = dict[str, Any]
RoleName = Annotated[
    str, typer.Argument(metavar="ROLE", help="A student's name, or one of `roles` in studium.yaml.")
]

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="A challenger meets traffic: unseen first (shadow), then answering a share of conversations.\n\n"
    "Each comparison counts as evidence that may be looked at any time: who is worse is withdrawn by itself, who is "
    "better meets more traffic. Promoting is left to people unless rollout.autopromote says otherwise.\n\n"
    "Example: studium rollout start sprout tuned-1",
)


class Open(NamedTuple):
    """A workspace's store and registry."""

    store: "Store"
    registry: "Registry"
    config: "Config"


@app.command("status")
def status(
    every: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show who challenges, how it fares and what would be done next; and how the models of a running Studium are.

    Example: studium rollout status
    """
    from studium.cli.running import get, running_server
    from studium.manage.rolling import report

    with _opened(config, workspace) as (store, registry, given):
        found = [
            report(store, registry, one, autopromote=given.rollout.autopromote)
            for one in store.rollouts.rollouts(only_going=not every)
        ]
        url = running_server(given.workspace)
    told: Json = get(url, "/api/rollouts") if url else {}
    if json:
        write_json(
            {
                "rollouts": found,
                "running": url,
                **{key: told.get(key) for key in ("exposures", "health", "faults")},
            }
        )
        return
    if found:
        _table(found)
    else:
        note("no roll-out goes on; studium rollout start ROLE ADAPTER begins one")
    if not url:
        note("no Studium runs here, so nothing meets traffic: studium up")
        return
    _health(told)


@app.command("start")
def start(
    role: RoleName,
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="Its name or id in that role.")],
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Stay in the shadow: nobody is given its answers.")
    ] = False,
    share: Annotated[
        float | None,
        typer.Option(
            "--share", metavar="PERCENT", min=0.1, max=100.0, help="Answer that share, and stay there."
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="STREAMS", help="What tells who is better: verifier,judge,feedback."),
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Let an adapter meet traffic: from the shadow through the shares in rollout.steps, as it earns them.

    Example: studium rollout start sprout tuned-1
    """
    from studium.manage import rolling

    if shadow and share is not None:
        raise BadRequest("--shadow and --share were both given", expected="one of them, or neither")
    with _opened(config, workspace) as (store, registry, given):
        rollout = rolling.begin(
            store,
            registry,
            role,
            adapter,
            share=(share or 0.0) / 100,
            steps=() if shadow or share is not None else given.rollout.steps,
            quality=_streams(by) or rolling.default_quality(given),
            actor=_user(),
            at=time.time(),
        )
        body = rolling.report(store, registry, rollout, autopromote=given.rollout.autopromote)
    if json:
        write_json(body)
        return
    where = "in the shadow" if body["phase"] == "shadow" else f"with {body['share']:.0%} of conversations"
    write(f"{role}: {body['challenger']} challenges {body['champion']}, {where}\n")
    note("what counts is what a running `studium up` is asked over HTTP")
    note(f"how it fares: studium rollout status; what would be done: studium rollout preview {role}")


@app.command("preview")
def preview(
    role: RoleName, config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """Say what autopromotion would do now in a role, and why. Changes nothing.

    Example: studium rollout preview sprout
    """
    from studium.manage import rolling

    with _opened(config, workspace) as (store, registry, given):
        rollout = rolling.going(store, role)
        step = rolling.step_of(store, registry, rollout, autopromote=True)
        on = given.rollout.autopromote
    if json:
        write_json(
            {"role": role, "act": step.act.value, "share": step.share, "why": step.why, "autopromote": on}
        )
        return
    to = f" to {step.share:.0%}" if step.share else ""
    write(f"{step.act.value}{to}: {step.why}\n")
    note("rollout.autopromote is on" if on else "rollout.autopromote is off: only a person promotes")


@app.command("promote")
def promote(
    role: RoleName, config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """Make the challenger the champion, where its traffic has earned that.

    Example: studium rollout promote sprout
    """
    from studium.manage import rolling

    with _opened(config, workspace) as (store, registry, given):
        number = rolling.promote(store, registry, role, actor=_user(), at=time.time()).number
        found = next(one for one in store.rollouts.rollouts(role=role) if one.number == number)
        body = rolling.report(store, registry, found, autopromote=given.rollout.autopromote)
    if json:
        write_json(body)
        return
    write(f"{role}: {body['challenger']} serves, {body['champion']} served before\n")
    note(f"evidence {body['evidence'][:12]}; the way back: studium adapters rollback {role}")


@app.command("abort")
def abort(
    role: RoleName,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")
    ] = "aborted",
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """End a roll-out: the champion answers everybody again.

    Example: studium rollout abort sprout --reason "answers are too long"
    """
    from studium.manage import rolling

    with _opened(config, workspace) as (store, registry, _):
        rolling.abort(store, registry, role, actor=_user(), reason=reason, at=time.time())
    write(f"{role}: nobody challenges any more\n")


def _table(found: list[Json]) -> None:
    write_table(
        ("role", "champion", "challenger", "traffic", "compared (won, lost)", "word", "next"),
        [
            (
                one["role"],
                one["champion"],
                one["challenger"],
                _traffic(one),
                ", ".join(
                    f"{stream} {seen['pairs']} ({seen['won']}, {seen['lost']})"
                    for stream, seen in one["seen"].items()
                    if seen["pairs"]
                )
                or "nothing yet",
                one["verdict"],
                one["outcome"] or one["next"]["act"],
            )
            for one in found
        ],
    )
    for one in found:
        note(f"{one['role']}: {'; '.join(one['reasons'])}")


def _health(told: Json) -> None:
    health: Json = told["health"]
    if health:
        write_table(
            ("model", "breaker", "errors", "known problems right", "note"),
            [
                (
                    name,
                    one["state"],
                    str(one["errors"]),
                    f"{one['problems_right']} of {one['problems_asked']}"
                    if one["problems_asked"]
                    else "not asked",
                    one["degraded"] or one["last_error"] or "",
                )
                for name, one in health.items()
            ],
        )
    for role, why in told["faults"].items():
        note(f"the route of {role} is not served: {why}")


def _traffic(one: Json) -> str:
    if one["ended_at"] is not None:
        return "over"
    return f"{one['share']:.0%}" if one["phase"] == "shift" else one["phase"]


def _streams(by: str | None) -> tuple[str, ...]:
    from studium.evals.gate.live import QUALITY

    names = tuple(part.strip() for part in (by or "").split(",") if part.strip())
    for name in names:
        if name not in QUALITY:
            raise BadRequest(
                f"{name[:40]!r} tells nothing about replies",
                expected=f"some of {', '.join(QUALITY)}",
                try_next="--by verifier",
            )
    return names


@contextmanager
def _opened(config: str | None, workspace: str | None) -> Iterator[Open]:
    from studium.app import STORE_FILE
    from studium.registry import Registry, build_roster
    from studium.store import open_store

    given = settings(config, workspace)
    store = open_store(given.workspace / STORE_FILE)
    try:
        yield Open(store, Registry(store, given.workspace, build_roster(given).models), given)
    finally:
        store.close()


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local"
