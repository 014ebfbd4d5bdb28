"""What a student's latest grades and runs say beside those before: counts only, nobody's words."""

from typing import NamedTuple

from sqlalchemy import Engine, func, select

from studium.store import schema


class Window(NamedTuple):
    """So many looked at, and what share of them counted: right answers, or failures."""

    number: int
    share: float


class Standing(NamedTuple):
    """A student's newest window and the one before it; `graded_since` counts grades after a moment."""

    lately: Window
    before: Window
    failed_lately: Window
    failed_before: Window
    graded_since: int


def standing(database: Engine, student: str, *, window: int, since: float) -> Standing:
    """Return how a student stands. Grades that were taken back do not count. Blocks for the disk."""
    grades, runs = schema.grades, schema.student_runs
    newest = select(func.max(grades.c.id)).where(grades.c.key != "").group_by(grades.c.key)
    counted = (
        (grades.c.student == student)
        & (grades.c.weight > 0)
        & ((grades.c.key == "") | grades.c.id.in_(newest))
    )
    scores = select(grades.c.score).where(counted).order_by(grades.c.id.desc()).limit(2 * window)
    fates = (
        select(1 - runs.c.success)
        .where(runs.c.student == student)
        .order_by(runs.c.id.desc())
        .limit(2 * window)
    )
    with database.connect() as connection:
        right = [float(one) for one in connection.scalars(scores)]
        failed = [float(one) for one in connection.scalars(fates)]
        graded = connection.scalar(
            select(func.count()).select_from(grades).where(counted, grades.c.at > since)
        )
    return Standing(
        _window(right[:window]),
        _window(right[window:]),
        _window(failed[:window]),
        _window(failed[window:]),
        graded or 0,
    )


def _window(values: list[float]) -> Window:
    return Window(len(values), sum(values) / len(values) if values else 0.0)
