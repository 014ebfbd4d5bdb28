"""One model on one set of problems says the same, and so scores the same, wherever it is asked.

Elsewhere one adapter scored .94 in one command and .40 in another, for a template that differed.
"""

from pathlib import Path

import pytest

from studium.app import open_studium
from studium.cli.eval_asking import Choice, asking
from studium.config import load_config
from studium.evals import runner
from studium.evals.items import Item, fresh_items
from studium.registry import EMBEDDED

torch = pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")
pytest.importorskip("xllamacpp")

STUDENT, PROBLEMS = "tinker", 16


def config(folder: Path):
    return load_config(None, environment={}, overrides={"workspace": str(folder)})


async def evaluated(folder: Path, model: str, items: list[Item]) -> list[str]:
    async with asking(config(folder), Choice(model, 60.0)) as asked:
        return [one.graded.reply async for one in runner.run(runner.tries(items, 1, 0.0), asked.way)]


async def served(folder: Path, items: list[Item]) -> list[str]:
    async with open_studium(config(folder)) as studium:
        answers = [
            await studium.ask(item.question, model=STUDENT, cache=False, refine=False) for item in items
        ]
    return [answer.text for answer in answers]


def in_training(items: list[Item]) -> list[str]:
    from studium.train.models import load
    from studium.train.rl.samplers import ModelSampler
    from studium.train.solving import Solver

    torch.set_num_threads(1)
    loaded = load(STUDENT)
    solver = Solver(ModelSampler(loaded.model, loaded.tokenizer), loaded.tokenizer, 300)
    return [solved[0].reply for solved in solver.solve([item.problem for item in items if item.problem])]


@pytest.mark.slow
async def test_a_student_says_the_same_in_evaluation_in_serving_as_a_file_and_in_training(tmp_path: Path):
    items = fresh_items(["programs"], PROBLEMS, 11, levels=(2, 3))
    replies = await evaluated(tmp_path / "eval", STUDENT, items)
    assert await served(tmp_path / "serve", items) == replies
    assert await evaluated(tmp_path / "file", str(EMBEDDED / f"{STUDENT}.gguf"), items) == replies
    scores = [item.grade(reply) for item, reply in zip(items, replies, strict=True)]
    trained = [item.grade(reply) for item, reply in zip(items, in_training(items), strict=True)]
    assert trained == scores
    assert 0.0 < sum(score or 0.0 for score in scores) < PROBLEMS  # else equal scores would say little
