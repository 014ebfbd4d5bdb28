"""Carries a stage out from recipe to checkpoint: takes up the run's folder, drives it, saves what came of it.

A stage that TRL drives hands in its own `drive`. Whatever ends a run is in its status: done, stopped, or failed with
the reason.
"""

from collections.abc import Callable, Sequence

from studium.train.config import Recipe
from studium.train.course import Checkpoint, Course, Ended
from studium.train.learner import Learner
from studium.train.models import save
from studium.train.rows import Row
from studium.train.run_folder import RunFolder, State, hash_of
from studium.train.watchers import Watchers


def carry_out(
    name: str,
    recipe: Recipe,
    folder: RunFolder,
    rows: Sequence[Row],
    *,
    steps: int,
    learner: Learner,
    drive: Callable[[Course], Ended],
    say: Callable[[str], None],
    finish: Callable[[], None] = lambda: None,
) -> Checkpoint:
    """Run `drive` in the folder and save the learner's model, after `finish`; return where. Blocks.

    Raises ConfigurationError where the folder holds another run, and whatever ends the run, after noting it.
    """
    folder.begin(name, recipe, data_hash(rows))
    course = Course(folder, steps, Watchers(recipe.watch), say)
    try:
        with course.heeding_signals():
            ended = drive(course)
    except BaseException as error:
        course.status(State.FAILED, f"{type(error).__name__}: {error}")
        raise
    if ended.state is not State.DONE:
        course.status(ended.state, course.stopping)
        return Checkpoint(ended, None)
    try:
        finish()
        save(learner.merged(), folder.checkpoint)
    except BaseException as error:
        course.status(State.FAILED, f"trained to its end, not saved as a whole model: {error}")
        raise
    course.status(State.DONE)
    return Checkpoint(ended, folder.checkpoint)


def data_hash(rows: Sequence[Row]) -> str:
    """Return the content hash of what is trained on."""
    return hash_of(
        *(repr((row.id, row.messages, row.prefix, row.completion, row.weight)).encode() for row in rows)
    )
