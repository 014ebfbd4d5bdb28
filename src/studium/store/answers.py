"""Answers kept for a while, so that feedback can be given on them; and the kinds of questions there have been.

Queued behind the request's back. Old ones are removed by age, then by size, the oldest first.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Engine, delete, func, select

from studium.records.grades import WHOLE, KeptAnswer, KeptMember
from studium.store import schema
from studium.store.writer import BatchWriter, Newest, Row

_TIDY_AT_ONCE = 500


class GradedAnswer(NamedTuple):
    """What one student said to a question, and its grade, 0 to 1."""

    at: float
    student: str
    kind: str
    domain: str
    question: str
    reply: str
    score: float


class AnswerLog:
    """The kept answers of one workspace. `keep` never waits; the other calls block for the disk."""

    def __init__(self, database: Engine, writer: BatchWriter) -> None:
        self._database = database
        self._writer = writer

    def keep(self, answer: KeptAnswer) -> None:
        """Queue one answer."""
        members = orjson.dumps(answer.members).decode()
        size = len(members) + len(answer.question) + len(answer.text)
        self._writer.add(Row(schema.answers, {**answer.as_row(), "members": members, "bytes": size}))

    def find(self, request_id: str, api_key_name: str | None) -> KeptAnswer | None:
        """Return the newest answer of that id that this key (None: any) was given, one still queued included."""
        self._writer.flush()
        rows = schema.answers
        query = select(rows).where(rows.c.request_id == request_id).order_by(rows.c.id.desc()).limit(1)
        if api_key_name is not None:
            query = query.where(rows.c.api_key_name == api_key_name)
        with self._database.connect() as connection:
            found = connection.execute(query).mappings().first()
        return None if found is None else _answer({**found})

    def tidy(self, before: float, most_bytes: int) -> int:
        """Remove what is older than `before` (seconds since the epoch), then the oldest beyond `most_bytes`.

        Returns how many were removed. Works in small transactions, so that nobody waits for it.
        """
        removed = 0
        while victims := self._victims(before, most_bytes):
            with self._database.begin() as connection:
                connection.execute(delete(schema.answers).where(schema.answers.c.id.in_(victims)))
            removed += len(victims)
        return removed

    def save_kind(self, name: str, size: int, body: Mapping[str, Any]) -> None:
        """Queue a kind of question as it is now."""
        values = {"name": name, "size": size, "body": orjson.dumps(body).decode()}
        self._writer.add(Newest(schema.question_kinds, "name", name, lambda: values))

    def kinds(self) -> list[tuple[str, int, Mapping[str, Any]]]:
        """Return the kinds kept, as they were saved: name, size and body."""
        table = schema.question_kinds
        with self._database.connect() as connection:
            rows = connection.execute(select(table.c.name, table.c.size, table.c.body))
            return [(name, size, orjson.loads(body)) for name, size, body in rows]

    def graded(self, most: int = 20_000) -> list[GradedAnswer]:
        """Return what students said to questions that are still kept and what it was worth, the newest `most`.

        The ensemble's answer as a whole is not among them, nor a grade that was taken back or replaced.
        """
        self._writer.flush()
        rows, grades = schema.answers, schema.grades
        newest = select(func.max(grades.c.id)).where(grades.c.key != "").group_by(grades.c.key)
        query = (
            select(rows, grades.c.student, grades.c.score, grades.c.at.label("graded_at"))
            .join(grades, rows.c.request_id == grades.c.request_id)
            .where(grades.c.student != WHOLE, grades.c.weight > 0)
            .where((grades.c.key == "") | grades.c.id.in_(newest))
            .order_by(grades.c.id.desc())
            .limit(most)
        )
        with self._database.connect() as connection:
            found = [{**row} for row in connection.execute(query).mappings()]
        return [
            GradedAnswer(
                row["graded_at"],
                row["student"],
                row["kind"],
                row["domain"],
                row["question"],
                next((one.text for one in _answer(row).members if one.student == row["student"]), ""),
                row["score"],
            )
            for row in reversed(found)
        ]

    def _victims(self, before: float, most_bytes: int) -> list[int]:
        rows = schema.answers
        with self._database.connect() as connection:
            old = select(rows.c.id).where(rows.c.at < before).limit(_TIDY_AT_ONCE)
            if found := list(connection.scalars(old)):
                return found
            excess = (connection.scalar(select(func.sum(rows.c.bytes))) or 0) - most_bytes
            oldest = connection.execute(
                select(rows.c.id, rows.c.bytes).order_by(rows.c.id).limit(_TIDY_AT_ONCE)
            )
            for number, size in oldest if excess > 0 else ():
                if excess <= 0:
                    break
                found.append(number)
                excess -= size
        return found


def _answer(row: Mapping[str, Any]) -> KeptAnswer:
    fields = {name: row[name] for name in KeptAnswer.__slots__ if name != "members"}
    return KeptAnswer(**fields, members=tuple(KeptMember(**one) for one in orjson.loads(row["members"])))
