"""From a recipe of given rows to a run: model and learner put together, the adapter kept beside the checkpoint."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from studium.train.carry_out import carry_out
from studium.train.course import Checkpoint, drive
from studium.train.data import rows_of
from studium.train.export import write_adapter
from studium.train.learner import Learner
from studium.train.models import load, serves_as_gguf
from studium.train.rl.running import validation_problems
from studium.train.row_stage import Loss, RowStage, Share, encoded_rows
from studium.train.rows import Row
from studium.train.run_folder import RunFolder
from studium.train.trl_bridge import GivenRecipe, OldRows
from studium.train.unsloth_bridge import begin, load_fast

ADAPTER, ADAPTER_GGUF = "adapter", "adapter.gguf"


class Outset:
    """What a stage of given rows begins with. Loads the model. `told` is the recipe to be kept, if not `options`."""

    def __init__(self, options: GivenRecipe, steps: int, told: GivenRecipe | None = None) -> None:
        self.options = options
        self.told = told or options
        self.steps = steps
        begin(options)
        fast = options.compute.unsloth
        self.loaded = load_fast(options) if fast else load(options.model, four_bit=options.lora.four_bit)
        self.learner = Learner(self.loaded, options.optimiser, options.lora, steps=steps, seed=options.seed)
        self.validation = validation_problems(options.validation, options)
        kept = rows_of([one for one in options.validation.data if one.file])
        self._kept = encoded_rows(self.loaded.tokenizer, kept, options.max_tokens)

    @property
    def held_out_loss(self) -> Callable[[], float] | None:
        """What measures the rows of files in `validation.data`; None where there are none."""
        if not self._kept:
            return None
        rows = OldRows(self.learner, self.options)
        return lambda: rows.mean(self._kept)


def carry_out_given(
    name: str,
    outset: Outset,
    loss: Loss[Any],
    fresh: Sequence[Any],
    share: Share,
    rows: Sequence[Row],
    old_rows: Sequence[Row],
    folder: RunFolder,
    say: Callable[[str], None],
) -> Checkpoint:
    """Drive a stage of this loss to its end and keep what came of it; blocks. `rows` are what `fresh` was made of."""
    options = outset.options
    stage = RowStage(
        options,
        outset.learner,
        loss,
        fresh,
        encoded_rows(outset.loaded.tokenizer, old_rows, options.max_tokens),
        share,
        steps=outset.steps,
        validation=outset.validation,
        thinks=options.thinks,
        held_out_loss=outset.held_out_loss,
    )
    return carry_out(
        name,
        outset.told,
        folder,
        [*rows, *old_rows],
        steps=outset.steps,
        learner=outset.learner,
        drive=lambda course: drive(stage, course, options),
        say=say,
        finish=lambda: _keep_adapter(outset.learner, folder.path / ADAPTER),
    )


def _keep_adapter(learner: Learner, folder: Path) -> None:
    """Save a low-rank adapter as it is, before it is merged, and as GGUF where its base can be served so."""
    if not hasattr(learner.model, "peft_config"):
        return
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    learner.model.save_pretrained(part)
    if serves_as_gguf(learner.loaded):
        base: Any = learner.loaded.model
        write_adapter(part, base, part / ADAPTER_GGUF, name=learner.loaded.name)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
