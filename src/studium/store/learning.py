"""What a student's latest grades and runs say beside those before: counts only, nobody's words."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, Select, func, select

from studium.store import schema


class Window(NamedTuple):
    """So many looked at, and what share of them counted: right answers, or failures."""

    number: int
    share: float


class Standing(NamedTuple):
    """A student's newest window after a moment and the one before that; `graded_since` counts all grades after it."""

    lately: Window
    before: Window
    failed_lately: Window
    failed_before: Window
    graded_since: int


def standing(database: Engine, student: str, *, window: int, since: float) -> Standing:
    """Return how a student stands, lately being after `since` (Unix seconds): what was made then is to be judged by
    what it did itself. Grades that were taken back do not count. Blocks for the disk.
    """
    grades, runs = schema.grades, schema.student_runs
    newest = select(func.max(grades.c.id)).where(grades.c.key != "").group_by(grades.c.key)
    counted = (
        (grades.c.student == student)
        & (grades.c.weight > 0)
        & ((grades.c.key == "") | grades.c.id.in_(newest))
    )
    scores = select(grades.c.score).where(counted).order_by(grades.c.id.desc())
    fates = select(1 - runs.c.success).where(runs.c.student == student).order_by(runs.c.id.desc())
    # Written as text in one form and time zone, which sorts as the moments do.
    moment = datetime.fromtimestamp(since, UTC).isoformat(timespec="milliseconds")
    with database.connect() as connection:
        right = _windows(connection, scores, grades.c.at > since, window)
        failed = _windows(connection, fates, runs.c.timestamp > moment, window)
        graded = connection.scalar(
            select(func.count()).select_from(grades).where(counted, grades.c.at > since)
        )
    return Standing(*right, *failed, graded or 0)


def _windows(
    connection: Connection, values: Select[Any], lately: ColumnElement[bool], window: int
) -> tuple[Window, Window]:
    """Return the newest values that are of lately, and those before them, `window` of each at most."""
    new = list(connection.scalars(values.where(lately).limit(window)))
    both = list(connection.scalars(values.limit(len(new) + window)))
    return _window(new), _window(both[len(new) :])


def _window(values: Sequence[float]) -> Window:
    return Window(len(values), sum(map(float, values)) / len(values) if values else 0.0)
