"""What the expert says to a row, as the stage's own rewards and renderings want it."""

import re
from typing import Any

from studium.domains.catalogue import domain
from studium.domains.protocol import ThinksAloud
from studium.train.config import Recipe
from studium.train.data import THINK, THOUGHT_END, expert_steps
from studium.train.rows import Row

_THOUGHT = re.compile(f"{re.escape(THINK)}.*?{re.escape(THOUGHT_END)}", re.DOTALL)


def gold_of(row: Row, recipe: Recipe) -> str | None:
    """Return the expert's reply to a row: the next step, or all that follows; None where there is no expert."""
    if row.problem is None:
        return None
    found = domain(row.problem.domain)
    if row.step is None:
        return found.solution(row.problem).removeprefix(row.prefix)
    thought = ""
    if getattr(recipe, "thinks", False):
        said: Any = found.thoughts(row.problem)[row.step] if isinstance(found, ThinksAloud) else ""
        thought = f"{THINK}{said}{THOUGHT_END}"
    return thought + expert_steps(found, row.problem)[row.step] + ("" if row.ends else "\n")


def without_thoughts(text: str) -> str:
    return _THOUGHT.sub("", text)
