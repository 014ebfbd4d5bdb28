"""Leases: who may change something now, with a fencing token that every change must show.

A lease runs out when its owner stops renewing; then somebody else takes it, with a larger token. An owner that was
only asleep still believes in its own: so the token is held against the newest in the very transaction that writes
(`require`), and what is stale is refused, however late it comes. Times are seconds since boot, which nobody can set;
a lease of an earlier boot has run out, as its owner has.
Source: M. Kleppmann, How to do distributed locking, 2016 (fencing tokens).
"""

from collections.abc import Callable

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from studium.errors import LeaseLost
from studium.store.durable import durably
from studium.store.ledger_time import Reading, read_clocks
from studium.store.schema import leases

_NOBODY = ""


class Leases:
    """The leases of one store. Every call blocks for the disk; any thread, any process.

    All raise StoreUnavailable where the disk refuses.
    """

    def __init__(self, database: Engine, clocks: Callable[[], Reading] = read_clocks) -> None:
        self._database = database
        self._clocks = clocks

    def take(self, name: str, owner: str, ttl_s: float) -> int | None:
        """Take a lease that is free or has run out, for `ttl_s` seconds: its token; None where somebody holds it."""
        now = self._clocks()
        values = {"owner": owner, "boot_id": now.boot_id, "until_s": now.boot_s + ttl_s}
        statement = (
            upsert(leases)
            .values(name=name, token=1, **values)
            .on_conflict_do_update(
                ["name"], set_={**values, "token": leases.c.token + 1}, where=~_running(now)
            )
            .returning(leases.c.token)
        )
        with durably(self._database, f"the lease {name!r}") as connection:
            return connection.scalar(statement)

    def renew(self, name: str, token: int, ttl_s: float) -> bool:
        """Hold a lease for `ttl_s` seconds from now; False where it has run out or was taken."""
        now = self._clocks()
        return self._change(name, token, now, until_s=now.boot_s + ttl_s)

    def release(self, name: str, token: int) -> bool:
        """Give a lease back; False where it was no longer held."""
        return self._change(name, token, self._clocks(), owner=_NOBODY)

    def holder(self, name: str) -> str:
        """Return who holds a lease now; "" for nobody."""
        query = select(leases.c.owner).where(leases.c.name == name, _running(self._clocks()))
        with self._database.connect() as connection:
            return connection.scalar(query) or _NOBODY

    def require(self, connection: Connection, name: str, token: int) -> None:
        """Raise LeaseLost unless `token` is that of the lease as it is held now, within the transaction that writes."""
        row = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
        running = connection.scalar(
            select(leases.c.token).where(leases.c.name == name, _running(self._clocks()))
        )
        if running == token:
            return
        newest = row.token if row else 0
        raise LeaseLost(
            f"the lease {name!r} is not held with the token {token}; the newest is {newest}"
            + (f", held by {row.owner}" if row and running is not None else ""),
            expected="the token of the lease as it is held now",
            try_next="look at what the other one changed, and do it again",
        )

    def _change(self, name: str, token: int, now: Reading, **values: object) -> bool:
        held = update(leases).where(leases.c.name == name, leases.c.token == token, _running(now))
        with durably(self._database, f"the lease {name!r}") as connection:
            return connection.execute(held.values(**values)).rowcount == 1


def _running(now: Reading):
    return (leases.c.owner != _NOBODY) & (leases.c.boot_id == now.boot_id) & (leases.c.until_s > now.boot_s)
