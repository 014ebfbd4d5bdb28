"""What every command on adapters begins with: the workspace's registry, its roles, and who is at work."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from studium.cli.options import settings

if TYPE_CHECKING:
    from studium.config import Config
    from studium.registry import Registry
    from studium.store import Store

RoleOption = Annotated[str | None, typer.Option("--role", metavar="ROLE", help="Only this role.")]


class Open(NamedTuple):
    """A workspace's registry and store, and the roles of its roster: who holds each."""

    registry: "Registry"
    roles: Mapping[str, str]
    config: "Config"
    store: "Store"


@contextmanager
def opened(config: str | None, workspace: str | None) -> Iterator[Open]:
    """Open a workspace's registry until the block ends."""
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
        yield Open(Registry(store, given.workspace, roster.models), roles, given, store)
    finally:
        store.close()


@contextmanager
def token_of(registry: "Registry", *, dry_run: bool) -> Iterator[int | None]:
    """Hold the lease and yield its token; None where nothing is to be changed."""
    if dry_run:
        yield None
        return
    with registry.lease(user()) as token:
        yield token


def was_or_is(role: str | None, roles: Mapping[str, str], registry: "Registry") -> None:
    """Raise BadRequest for a role that neither the roster nor the history has."""
    from studium.registry import known_role

    if role is not None:
        known_role(role, {*roles, *registry.routes()})


def user() -> str:
    """Return who is at work here, for the history."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local"
