"""A task for Inspect (inspect_ai): sums as people ask them, graded by the number on the last "Answer:" line.

The data lies in the folder beside this one, so nothing is fetched. See README.md for the command.
"""

from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import match
from inspect_ai.solver import generate

DATA = Path(__file__).resolve().parents[1] / "lm_eval" / "sums.jsonl"


@task
def studium_sums() -> Task:
    """Return sums, asked as they stand and scored by the number at the end of the reply."""
    return Task(
        dataset=json_dataset(str(DATA), FieldSpec(input="question", target="answer")),
        solver=generate(temperature=0.0, max_tokens=200),
        scorer=match(location="end", numeric=True),
    )
