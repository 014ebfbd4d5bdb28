"""Graded replies, several to a question, and how often two of them were right or mistaken together.

Pairs are counted by the database, each once: when the later of its two replies is read for the first time.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Engine, and_, case, delete, func, or_, select
from sqlalchemy.dialects.sqlite import insert

from studium.records.grades import GradedReply, PairCounts
from studium.store import schema
from studium.store.durable import durably

MOST_REPLIES_KEPT = 10_000
"""Some hundred questions of every kind to every student of a roster, asked twice; counted in some 50 ms."""


class Asked(NamedTuple):
    """What names a graded reply."""

    question: str
    student: str
    model: str
    sample: int


class ReplyLog:
    """The graded replies of one workspace. All calls block for the disk."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def add(self, replies: Sequence[GradedReply]) -> None:
        """Write replies; those that are there already stay as they are. Raises StoreUnavailable."""
        if not replies:
            return
        rows = [{name: getattr(one, name) for name in one.__slots__} for one in replies]
        with durably(self._database, "graded replies", power_cut=False) as connection:
            connection.execute(insert(schema.graded_replies).on_conflict_do_nothing(), rows)

    def answered(self, prefix: str) -> dict[Asked, bool]:
        """Return which replies there are to questions that begin so, and whether each gave an answer."""
        rows = schema.graded_replies.c
        query = select(rows.question, rows.student, rows.model, rows.sample, rows.answer)
        with self._database.connect() as connection:
            found = connection.execute(query.where(rows.question.startswith(prefix, autoescape=True)))
            return {Asked(*row[:4]): bool(row.answer) for row in found}

    def newest(self) -> int:
        """Return the number of the newest reply, 0 where there is none."""
        with self._database.connect() as connection:
            return connection.scalar(select(func.max(schema.graded_replies.c.id))) or 0

    def pairs(self, after: int, until: int) -> list[PairCounts]:
        """Count the pairs whose later reply has a number above `after`, up to `until`.

        Of two students both must have given an answer, at their first try; of two tries of one, the first: who
        declines then did not say the same again.
        """
        earlier, later = schema.graded_replies.alias("earlier"), schema.graded_replies.alias("later")
        first, second = earlier.c, later.c
        right, again = first.right, second.right
        mistaken = (1 - right) * (1 - again)
        same = case((and_(first.answer == second.answer, first.answer != ""), 1), else_=0)
        tries = and_(first.student == second.student, first.model == second.model)
        both = and_(first.student != second.student, second.answer != "", first.sample + second.sample == 0)
        whose = (first.kind, first.student, second.student, first.model, second.model)
        query = (
            select(
                *whose,
                func.sum(right * again),
                func.sum(right * (1 - again)),
                func.sum((1 - right) * again),
                func.sum(mistaken * same),
                func.sum(mistaken * (1 - same)),
            )
            .join(later, and_(first.question == second.question, first.id < second.id))
            .where(second.id > after, second.id <= until, first.answer != "", or_(tries, both))
            .group_by(*whose)
        )
        with self._database.connect() as connection:
            return [PairCounts(*row) for row in connection.execute(query)]

    def tidy(self, most: int = MOST_REPLIES_KEPT) -> int:
        """Remove the oldest replies beyond `most`; return how many."""
        rows = schema.graded_replies
        with self._database.begin() as connection:
            newest = connection.scalar(select(func.max(rows.c.id))) or 0
            return connection.execute(delete(rows).where(rows.c.id <= newest - most)).rowcount
