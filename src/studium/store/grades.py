"""Grades as facts, and their fold into counts that forget.

A grade is added and never changed; `fold` brings the counts up to the newest grade in one transaction, from wherever
they were: any process may do it at any time, a killed one leaves nothing half done. A count fades by 1 - 1/WINDOW
with each grade of the same student, kind and model, so that about the last WINDOW count and an improved student is
noticed. Of grades with one key the newest counts: the former one is taken back as faded as it is by then.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, delete, func, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from studium.records.grades import Counts, Feedback, Grade
from studium.store import schema
from studium.store.durable import durably
from studium.store.writer import BatchWriter, Row

WINDOW = 200.0
"""Grades that count, about: a student that went from half right to nine in ten is held for eight in ten 280 grades
later, while the noise of a share stays below 3 points."""

MOST_GRADES_KEPT = 200_000
"""Facts beyond this, the oldest, are removed once they are folded in."""

_FADE = 1.0 - 1.0 / WINDOW
_AT_ONCE = 5_000


class _Pair(NamedTuple):
    student: str
    kind: str
    model: str


class GradeLog:
    """The grades of one workspace. `add` never waits; the other calls block for the disk."""

    def __init__(self, database: Engine, writer: BatchWriter) -> None:
        self._database = database
        self._writer = writer

    def add(self, grades: Iterable[Grade]) -> None:
        """Queue grades."""
        for grade in grades:
            self._writer.add(Row(schema.grades, _row(grade)))

    def add_new(self, grades: Sequence[Grade]) -> int:
        """Write those grades whose key is not there yet, and return how many: what is done again changes nothing."""
        with self._writing() as connection:
            there = _there(connection, [grade.key for grade in grades])
            new = [grade for grade in grades if grade.key not in there]
            if new:
                connection.execute(insert(schema.grades), [_row(grade) for grade in new])
        return len(new)

    def scores(self, prefix: str) -> dict[str, float]:
        """Return the newest score of each key that begins so."""
        rows = schema.grades
        query = select(rows.c.key, rows.c.score).where(rows.c.key.startswith(prefix, autoescape=True))
        with self._database.connect() as connection:
            return {row.key: row.score for row in connection.execute(query.order_by(rows.c.id))}

    def add_feedback(self, feedback: Feedback, grades: Sequence[Grade]) -> int:
        """Write feedback with what follows from it; return its number. On disk when this returns.

        Grades that the same keys had from earlier feedback on this answer are taken back. Raises StoreUnavailable.
        """
        self._writer.flush()
        with self._writing() as connection:
            values = {name: getattr(feedback, name) for name in feedback.__slots__}
            number = connection.execute(insert(schema.feedback).values(values)).inserted_primary_key
            withdrawn = _withdrawn(connection, feedback, {grade.key for grade in grades})
            if rows := [_row(grade) for grade in grades] + withdrawn:
                connection.execute(insert(schema.grades), rows)
        return number[0] if number else 0

    def fold(self) -> int:
        """Bring the counts up to date; return the number of the newest grade in them. Raises StoreUnavailable."""
        while self._behind():
            with self._writing() as connection:
                _fold(connection)
        with self._database.connect() as connection:
            return connection.scalar(select(func.max(schema.reliability.c.last_id))) or 0

    def counts(self) -> list[Counts]:
        """Return the counts as they were folded last."""
        table = schema.reliability
        with self._database.connect() as connection:
            rows = connection.execute(
                select(table.c.student, table.c.kind, table.c.model, table.c.right, table.c.wrong)
            )
            return [Counts(*row) for row in rows]

    def confidences(
        self, student: str, *, kinds: Collection[str] | None = None, others: bool = False, most: int = 2000
    ) -> list[tuple[float, float]]:
        """Return (stated confidence, score) of the newest graded answers of a student, in the order they were given.

        Only of these `kinds`, or with `others` of all but these. Several grades of one answer count each; feedback
        that was taken back does not.
        """
        rows = schema.grades
        newest = select(func.max(rows.c.id)).where(rows.c.key != "").group_by(rows.c.key)
        query = select(rows.c.confidence, rows.c.score).where(
            rows.c.student == student,
            rows.c.confidence.is_not(None),
            rows.c.weight > 0,
            (rows.c.key == "") | rows.c.id.in_(newest),
        )
        if kinds is not None:
            query = query.where(rows.c.kind.not_in(kinds) if others else rows.c.kind.in_(kinds))
        with self._database.connect() as connection:
            found = connection.execute(query.order_by(rows.c.id.desc()).limit(most))
            return [(confidence, score) for confidence, score in found][::-1]

    def tidy(self, most: int = MOST_GRADES_KEPT) -> int:
        """Remove the oldest facts beyond `most`, folded in as they are; return how many."""
        rows, folded = schema.grades, schema.reliability.c.last_id
        with self._writing() as connection:
            newest = connection.scalar(select(func.max(rows.c.id))) or 0
            last = min(newest - most, connection.scalar(select(func.max(folded))) or 0)
            return connection.execute(delete(rows).where(rows.c.id <= last)).rowcount

    def _behind(self) -> bool:
        with self._database.connect() as connection:
            newest = connection.scalar(select(func.max(schema.grades.c.id))) or 0
            return newest > (connection.scalar(select(func.max(schema.reliability.c.last_id))) or 0)

    def _writing(self) -> AbstractContextManager[Connection]:
        return durably(self._database, "grades", power_cut=False)


def _fold(connection: Connection) -> None:
    """Fold the next grades into the counts of their students."""
    rows, table = schema.grades, schema.reliability
    last = connection.scalar(select(func.max(table.c.last_id))) or 0
    query = select(rows).where(rows.c.id > last).order_by(rows.c.id).limit(_AT_ONCE)
    counts: dict[_Pair, list[float]] = {}
    fresh = [{**row} for row in connection.execute(query).mappings()]
    for grade in fresh:
        pair = _Pair(grade["student"], grade["kind"], grade["model"])
        if pair not in counts:
            counts[pair] = _counts_of(connection, pair)
        right, wrong, _ = counts[pair]
        lost_right, lost_wrong = _taken_back(connection, grade)
        fade, weight, score = _FADE ** grade["weight"], grade["weight"], grade["score"]
        counts[pair] = [
            max(0.0, right - lost_right) * fade + weight * score,
            max(0.0, wrong - lost_wrong) * fade + weight * (1 - score),
            grade["id"],
        ]
    statement = upsert(table)
    changes = {name: statement.excluded[name] for name in ("right", "wrong", "last_id")}
    statement = statement.on_conflict_do_update(["student", "kind", "model"], set_=changes)
    values = [
        {**pair._asdict(), "right": right, "wrong": wrong, "last_id": int(number)}
        for pair, (right, wrong, number) in counts.items()
    ]
    if values:
        connection.execute(statement, values)


def _counts_of(connection: Connection, pair: _Pair) -> list[float]:
    table = schema.reliability
    row = connection.execute(
        select(table.c.right, table.c.wrong, table.c.last_id).where(
            table.c.student == pair.student, table.c.kind == pair.kind, table.c.model == pair.model
        )
    ).first()
    return [*row] if row else [0.0, 0.0, 0.0]


def _taken_back(connection: Connection, grade: Mapping[str, Any]) -> tuple[float, float]:
    """Return what is left by now of the grade whose place this one takes."""
    rows = schema.grades
    if not grade["key"]:
        return 0.0, 0.0
    same = (
        rows.c.student == grade["student"],
        rows.c.kind == grade["kind"],
        rows.c.model == grade["model"],
        rows.c.id < grade["id"],
    )
    former = connection.execute(
        select(rows.c.id, rows.c.score, rows.c.weight)
        .where(rows.c.key == grade["key"], *same)
        .order_by(rows.c.id.desc())
        .limit(1)
    ).first()
    if former is None:
        return 0.0, 0.0
    since = connection.scalar(select(func.sum(rows.c.weight)).where(rows.c.id > former.id, *same)) or 0.0
    left = former.weight * _FADE**since
    return left * former.score, left * (1 - former.score)


def _withdrawn(connection: Connection, feedback: Feedback, new_keys: set[str]) -> list[dict[str, Any]]:
    """Return rows of weight 0 for what this caller's earlier feedback on this answer said and the new one does not."""
    rows = schema.grades
    prefix = feedback_key(feedback.request_id, feedback.api_key_name, "")
    query = select(rows).where(rows.c.key.startswith(prefix, autoescape=True)).order_by(rows.c.id)
    newest = {row["key"]: dict(row) for row in connection.execute(query).mappings()}
    return [
        {name: value for name, value in row.items() if name != "id"} | {"weight": 0.0, "at": feedback.at}
        for key, row in newest.items()
        if key not in new_keys and row["weight"] > 0
    ]


def feedback_key(request_id: str, api_key_name: str, student: str) -> str:
    """Return the key of what one caller says of one student's part in one answer."""
    return f"feedback\n{api_key_name}\n{request_id}\n{student}"


def _there(connection: Connection, keys: Sequence[str]) -> set[str]:
    key = schema.grades.c.key
    return set(connection.scalars(select(key).where(key.in_(keys))))


def _row(grade: Grade) -> dict[str, Any]:
    return {name: getattr(grade, name) for name in grade.__slots__}
