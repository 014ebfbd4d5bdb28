"""Roll-outs and what each exposure told, as rows that are only added to, but for a roll-out's end."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Engine, delete, func, insert, select, true, update
from sqlalchemy.dialects.sqlite import insert as upsert

from studium.records.rollouts import Exposure, Rollout
from studium.store import schema
from studium.store.durable import durably

_WHAT = "the roll-outs"
_AT_ONCE = 1_000


class Said(NamedTuple):
    """Feedback on the answer of an exposure: the request, and its rating (`records.grades.Rating`)."""

    number: int
    request_id: str
    rating: str


class RolloutLog:
    """The roll-outs of one store. Every call blocks for the disk; any process. Writes raise StoreUnavailable."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def begin(self, rollout: Rollout) -> None:
        """Keep a new roll-out; the same again changes nothing."""
        row = asdict(rollout) | {name: orjson.dumps(getattr(rollout, name)).decode() for name in _LISTS}
        with durably(self._database, _WHAT) as connection:
            connection.execute(upsert(schema.rollouts).values(row).on_conflict_do_nothing())

    def end(self, number: int, *, at: float, outcome: str, evidence: str = "") -> bool:
        """Note a roll-out's end; False where somebody did before."""
        table = schema.rollouts
        going = (table.c.number == number) & table.c.ended_at.is_(None)
        with durably(self._database, _WHAT) as connection:
            values = {"ended_at": at, "outcome": outcome, "evidence": evidence}
            return connection.execute(update(table).where(going).values(values)).rowcount == 1

    def rollouts(self, *, only_going: bool = False, role: str = "") -> list[Rollout]:
        """Return roll-outs, the oldest first."""
        query = select(schema.rollouts).order_by(schema.rollouts.c.number)
        if only_going:
            query = query.where(schema.rollouts.c.ended_at.is_(None))
        if role:
            query = query.where(schema.rollouts.c.role == role)
        with self._database.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [_rollout(row) for row in rows]

    def add(self, exposures: Sequence[Exposure]) -> None:
        """Keep what exposures told, in their order."""
        rows: list[dict[str, Any]] = []
        for one in exposures:
            row = asdict(one) | {side: orjson.dumps(getattr(one, side)).decode() for side in _SIDES}
            del row["number"]
            rows.append(row)
        if rows:
            with durably(self._database, _WHAT) as connection:
                connection.execute(insert(schema.exposures), rows)

    def exposures(self, rollout: int, after: int = 0, request_id: str = "") -> Iterator[Exposure]:
        """Yield a roll-out's exposures with a number above `after`, all or a request's, as they were written."""
        table = schema.exposures
        wanted = (table.c.rollout == rollout) & (table.c.request_id == request_id if request_id else true())
        while True:
            query = select(table).where(wanted, table.c.number > after)
            with self._database.connect() as connection:
                rows = connection.execute(query.order_by(table.c.number).limit(_AT_ONCE)).mappings().all()
            for row in rows:
                yield Exposure(**dict(row) | {side: orjson.loads(row[side]) for side in _SIDES})
                after = row["number"]
            if len(rows) < _AT_ONCE:
                return

    def forget(self, before: float, *, dry_run: bool = False) -> int:
        """Remove roll-outs that ended before a time, with what they saw; return how many exposures that is.

        What became of them stays in the history of routes and in the gate's evidence.
        """
        of = schema.exposures
        over = select(schema.rollouts.c.number).where(schema.rollouts.c.ended_at < before)
        with durably(self._database, _WHAT) as connection:
            if dry_run:
                counted = select(func.count()).select_from(of).where(of.c.rollout.in_(over))
                return connection.execute(counted).scalar_one()
            number = connection.execute(delete(of).where(of.c.rollout.in_(over))).rowcount
            connection.execute(delete(schema.rollouts).where(schema.rollouts.c.ended_at < before))
            return number

    def feedback(self, rollout: int, after: int) -> list[Said]:
        """Return the feedback with a number above `after` on answers that this roll-out's shift exposed."""
        said, seen = schema.feedback, schema.exposures
        exposed = select(seen.c.request_id).where(seen.c.rollout == rollout, seen.c.phase == "shift")
        query = select(said.c.id, said.c.request_id, said.c.rating).where(
            said.c.id > after, said.c.request_id.in_(exposed)
        )
        with self._database.connect() as connection:
            return [Said(*row) for row in connection.execute(query.order_by(said.c.id))]


_LISTS = ("steps", "quality")
_SIDES = ("champion", "challenger")


def _rollout(row: Any) -> Rollout:
    lists: dict[str, Any] = {name: tuple(orjson.loads(row[name])) for name in _LISTS}
    return Rollout(**{**row, **lists})
