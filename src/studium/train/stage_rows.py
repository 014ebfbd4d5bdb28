"""Which rows a stage learns from, for those that look at rows whatever the stage: preflight, and `train why`."""

from dataclasses import replace
from typing import Any

from studium.train.config import Recipe, Source
from studium.train.data import rows_of
from studium.train.rows import Row


def stage_rows(stage: str, recipe: Recipe) -> list[Row]:
    """Return the rows of a recipe's data as its stage reads them."""
    if stage == "dpo":
        from studium.train.preferences.pairs import read_pairs

        return [row for pair in read_pairs(recipe.data) for row in pair.rows]
    if stage == "kto":
        from studium.train.preferences.pairs import read_thumbs

        return [replace(thumb.row, rejected=not thumb.good) for thumb in read_thumbs(recipe.data)]
    if stage == "distil" and getattr(recipe, "teacher", ""):
        return [_as_if_taught(row) for row in rows_of([_solved(one) for one in recipe.data])]
    if stage == "distil" and not getattr(recipe, "teacher", ""):
        from studium.train.teaching import read_traces

        return [trace.row for trace in read_traces(recipe.data)]
    return rows_of(recipe.data)


def _solved(source: Source) -> Source:
    return replace(source, teach="solutions") if source.domain else source


def _as_if_taught(row: Row) -> Row:
    """Return a prompt with a reply that stands in for the teacher's, which is not drawn yet: else its own length."""
    return row if row.completion else replace(row, completion=row.messages[-1].content)


def reward_of(stage: str, recipe: Recipe) -> Any:
    """Return the reward a stage learns from, None where it has none."""
    if stage == "rlvr":
        from studium.train.stages import rlvr

        assert isinstance(recipe, rlvr.Options)
        return rlvr.reward_of(recipe)
    if stage == "srl":
        from studium.train.stages import srl

        assert isinstance(recipe, srl.Options)
        return srl.reward_of(recipe)
    return None
