"""From a recipe of the engine to a run: model, rows, sampler and stage put together."""

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from studium.domains.protocol import Problem, Split
from studium.errors import ConfigurationError
from studium.train.carry_out import carry_out
from studium.train.config import Recipe, Validation
from studium.train.course import Checkpoint, drive
from studium.train.data import problems_of, rows_of
from studium.train.learner import Learner
from studium.train.models import load
from studium.train.rl.choosing import sampler_of
from studium.train.rl.engine import PolicyStage
from studium.train.rl.imitation import ImitationStage
from studium.train.rl.options import RlRecipe
from studium.train.rl.ppo import HEAD, Ppo, PpoStage, add_head, drop_head
from studium.train.rl.rewards import Reward
from studium.train.rl.rollouts import Group, Roller
from studium.train.rl.signs import second_verifier
from studium.train.rows import Row
from studium.train.run_folder import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Mend = Callable[[Group, "PreTrainedTokenizerBase"], "Group | None"]


def policy_run(
    name: str,
    options: RlRecipe,
    folder: RunFolder,
    say: Callable[[str], None],
    *,
    reward: Reward,
    at_line: bool,
    choose: Callable[[Sequence[Row]], Sequence[Row]] = lambda rows: rows,
    repair: Mend | None = None,
    ppo: Ppo | None = None,
    second: str = "",
) -> Checkpoint:
    """Run a stage of the engine that learns from its own replies; blocks."""
    rows = choose(rows_of(options.data))
    wrong = next((row for row in rows if row.problem is None or (row.step is None) == at_line), None)
    if wrong is not None or not rows:
        raise ConfigurationError(
            f"{name} cannot use the row {wrong.id!r}" if wrong else f"{name} has no prompts",
            expected=f"a domain's problems with 'teach: {'step-prompts' if at_line else 'prompts'}'",
            try_next="correct 'data' in the recipe",
        )
    validation = validation_problems(options.validation, options)
    graded = second_verifier(second, validation)
    loaded = load(options.model)
    if ppo:
        add_head(loaded.model)
    steps = steps_of(options, len(rows))
    beside = (HEAD,) if ppo else ()
    learner = Learner(loaded, options.optimiser, options.lora, steps=steps, seed=options.seed, beside=beside)
    drawing = options.draws.drawing(at_line=at_line)
    if ppo:
        # Without groups to compare within, every reply that can be graded teaches.
        drawing = replace(drawing, least_spread=-1.0, most_rounds=1)
    sampler, elsewhere = sampler_of(options, learner, folder.path)
    roller = Roller(sampler, loaded.tokenizer, reward, drawing)
    stage_of: Callable[..., PolicyStage] = (lambda *a, **k: PpoStage(ppo, *a, **k)) if ppo else PolicyStage
    stage = stage_of(
        options,
        learner,
        roller,
        rows,
        steps=steps,
        validation=validation,
        given=rows_of(options.replay.data),
        share=options.replay.share,
        elsewhere=elsewhere,
        second=graded,
        repair=(lambda group: repair(group, loaded.tokenizer)) if repair else (lambda group: None),
    )
    drop = (lambda: drop_head(loaded.model)) if ppo else (lambda: None)
    with closing(elsewhere) if elsewhere else nullcontext():
        return _carried(name, options, folder, rows, stage, say, finish=drop)


def imitation_run(
    name: str,
    options: RlRecipe,
    folder: RunFolder,
    say: Callable[[str], None],
    *,
    reward: Reward,
    by_data: bool,
) -> Checkpoint:
    """Run weighted imitation of expert steps; blocks."""
    rows = rows_of(options.data)
    if not rows or any(not row.completion for row in rows):
        raise ConfigurationError(
            f"{name} has {'a row without a completion' if rows else 'no rows'}",
            expected="a domain's problems with 'teach: steps', or a file with completions",
            try_next="correct 'data' in the recipe",
        )
    loaded = load(options.model)
    steps = steps_of(options, len(rows))
    learner = Learner(loaded, options.optimiser, options.lora, steps=steps, seed=options.seed)
    drawing = replace(options.draws.drawing(at_line=True), least_spread=-1.0)
    sampler, elsewhere = sampler_of(options, learner, folder.path)
    roller = Roller(sampler, loaded.tokenizer, reward, drawing)
    stage = ImitationStage(
        options,
        learner,
        roller,
        rows,
        steps=steps,
        validation=validation_problems(options.validation, options),
        given=rows_of(options.replay.data),
        share=options.replay.share,
        elsewhere=elsewhere,
    )
    stage.by_data = by_data
    with closing(elsewhere) if elsewhere else nullcontext():
        return _carried(name, options, folder, rows, stage, say)


def _carried(
    name: str,
    options: RlRecipe,
    folder: RunFolder,
    rows: Sequence[Row],
    stage: PolicyStage,
    say: Callable[[str], None],
    finish: Callable[[], None] = lambda: None,
) -> Checkpoint:
    return carry_out(
        name,
        options,
        folder,
        rows,
        steps=stage.steps,
        learner=stage.learner,
        drive=lambda course: drive(stage, course, options),
        say=say,
        finish=finish,
    )


def steps_of(options: Recipe, rows: int) -> int:
    """Return how many steps a recipe takes over so many rows."""
    return options.steps or max(1, ceil(options.epochs * rows / (options.batch * options.accumulate)))


def validation_problems(validation: Validation, recipe: Recipe) -> Sequence[Problem]:
    """Return problems kept from training: of `validation.data`, else of the domains that are trained on."""
    sources = tuple(one for one in validation.data or recipe.data if one.domain)
    if not sources or not validation.problems:
        return ()
    each = ceil(validation.problems / len(sources))
    return [one for source in sources for one in problems_of(replace(source, rows=each), side=Split.SCORING)]
