"""Checks that compute: packed is unpacked, eight rows are eight times one, stopped and resumed is not stopped.

The last two run the stage itself for a few steps in a folder that is thrown away, on copies of the recipe with eight
rows; only for models so small that this takes seconds.

Axes: B rows, T tokens.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from studium.errors import ConfigurationError, StudiumError
from studium.train.config import Recipe
from studium.train.forecast import memory_of
from studium.train.preflight.findings import DRAWING, Finding, Inputs, bad, good, not_tried
from studium.train.preflight.gold import gold_of
from studium.train.rows import Encoded, completion_ids, encode, prompt_ids
from studium.train.run_folder import RunFolder, State
from studium.train.unsloth_bridge import wanted

if TYPE_CHECKING:
    import torch

MOST_DRILLED_PARAMETERS = 3_000_000
_DRILL_ROWS, _DRILL_STEPS = 8, 4
LINTED = (
    "identical",
    "empty",
    "both-ways",
    "wrong-way",
    "prompt-leak",
    "length-bias",
    "near-identical",
    "near-duplicates",
    "no-margin",
    "one-kind",
    "uneven",
)
"""Every kind of fault in `preferences.lint`: the first eight rows have some that the whole data have not."""
_ROUNDING = 2e-3
# What 16 or 4 bits may change in a loss: a wrong mask or position changes more.
_SIXTEEN_BITS = 2e-2


def packed(inputs: Inputs) -> Finding:
    """Rows laid end to end have the loss they have apart, where the recipe packs (3.4)."""
    name = "packing"
    if not getattr(getattr(inputs.told.recipe, "compute", None), "packing", False):
        return good(name, "rows are not packed")
    if inputs.model is None:
        return not_tried(name, "the model is too large to be loaded for a check")
    rows = [encode(inputs.tokenizer, row) for row in list(inputs.learned)[:4]]
    apart, together = losses_apart_and_packed(inputs.model, rows)
    if abs(apart - together) > _ROUNDING * max(abs(apart), 1e-3):
        says = f"four rows packed have a loss of {together:.5g}, apart {apart:.5g}: they see one another"
        return bad(name, says, try_next="compute.packing: no")
    return good(name, f"loss {apart:.5g} apart, {together:.5g} packed")


def same_by_unsloth(inputs: Inputs) -> Finding:
    """The model that Unsloth loads has the loss of the one transformers loads, on one padded batch, if it is used."""
    name, recipe = "unsloth", inputs.told.recipe
    if not wanted(recipe):
        return good(name, "the model is loaded by transformers")
    rows = [encode(inputs.tokenizer, row) for row in list(inputs.learned)[:4]]
    if not rows:
        return not_tried(name, "no row has a reply yet")
    try:
        plain, fast = losses_plain_and_fast(inputs, rows)
    except StudiumError as error:
        return bad(name, error.happened, try_next=error.try_next)
    except Exception as error:  # whatever its kernels raise: nothing is trained then
        return bad(name, f"Unsloth failed: {type(error).__name__}: {error}", try_next="compute.unsloth: no")
    compute: Any = getattr(recipe, "compute", None)
    rounding = _SIXTEEN_BITS if compute.bf16 or recipe.lora.four_bit else _ROUNDING
    if not abs(plain - fast) <= rounding * max(abs(plain), 1e-3):
        says = f"four rows have a loss of {fast:.5g} by Unsloth, {plain:.5g} by transformers"
        return bad(name, says, try_next="compute.unsloth: no, or other versions of both")
    return good(name, f"loss {plain:.5g} by transformers, {fast:.5g} by Unsloth")


def losses_plain_and_fast(inputs: Inputs, rows: Sequence[Encoded]) -> tuple[float, float]:
    """Return the summed loss of rows by transformers' model, one by one, and by Unsloth's, as it will be trained.

    The plain one goes first: Unsloth changes transformers' classes as it loads. Loads both, one after the other.
    """
    from studium.train.learner import Learner
    from studium.train.models import load
    from studium.train.trl_bridge import GivenRecipe, TokenCosts, prepare
    from studium.train.unsloth_bridge import load_fast

    recipe = inputs.told.recipe
    assert isinstance(recipe, GivenRecipe)
    plain = load(recipe.model, four_bit=True).model if recipe.lora.four_bit else inputs.model
    apart, _ = losses_apart_and_packed(plain, rows)
    del plain
    # The untrained adapter changes nothing.
    learner = Learner(load_fast(recipe), recipe.optimiser, recipe.lora, steps=1, seed=recipe.seed)
    prepare(learner.model, recipe.compute)
    return apart, -float(TokenCosts(learner, recipe.compute).logprobs_BT(rows).detach().sum())


def losses_apart_and_packed(model: Any, rows: Sequence[Encoded]) -> tuple[float, float]:
    """Return the summed loss of rows given one by one, and of the same rows end to end in one line."""
    import torch

    training = model.training
    model.eval()
    with torch.no_grad():
        apart = sum(_loss(model, [row]) for row in rows)
        together = _loss(model, rows)
    model.train(training)
    return float(apart), float(together)


def _loss(model: Any, rows: Sequence[Encoded]) -> "torch.Tensor":
    import torch

    ids_BT = torch.tensor([[one for row in rows for one in row.ids]], device=model.device)
    labels_BT = torch.tensor([[one for row in rows for one in row.labels]], device=model.device)
    places_BT = torch.tensor([[at for row in rows for at in range(len(row.ids))]], device=model.device)
    logits_BTV = model(input_ids=ids_BT, position_ids=places_BT, use_cache=False).logits
    # A row's first token is nobody's target: all of the prompt is masked.
    return torch.nn.functional.cross_entropy(logits_BTV[0, :-1].float(), labels_BT[0, 1:], reduction="sum")


def accumulated(inputs: Inputs) -> Finding:
    """A step over eight rows at once is a step over eight times one, to rounding (3.5)."""
    name = "accumulation"
    if inputs.told.stage in (*DRAWING, "weighted_sft"):
        return good(name, "the stage takes its whole batch at once")
    if inputs.told.stage == "kto":
        return not_tried(name, "KTO estimates its KL term within a batch: another batch is another loss")
    if why := _too_costly(inputs):
        return not_tried(name, why)
    try:
        once = _first_step(inputs, batch=_DRILL_ROWS, accumulate=1)
        many = _first_step(inputs, batch=1, accumulate=_DRILL_ROWS)
    except StudiumError as error:
        return bad(name, f"the drill failed: {error.happened}", try_next=error.try_next or error.expected)
    for metric in ("loss", "gradient_norm"):
        if abs(once[metric] - many[metric]) > _ROUNDING * max(abs(once[metric]), 1e-6):
            says = f"{metric} is {once[metric]:.5g} over 8 rows at once, {many[metric]:.5g} over 8 times one"
            return bad(name, says, try_next="accumulate: 1")
    return good(name, f"loss {once['loss']:.5g}, gradient {once['gradient_norm']:.5g} both ways")


def resumed(inputs: Inputs) -> Finding:
    """Two steps, a stop and two more leave the weights that four steps leave, bit for bit (3.11)."""
    name = "resume"
    if why := _too_costly(inputs):
        return not_tried(name, why)
    recipe = _drill(inputs.told.recipe, steps=_DRILL_STEPS)
    try:
        with TemporaryDirectory(prefix="studium-preflight-") as folder:
            whole = _weights(inputs, recipe, RunFolder(Path(folder) / "whole"))
            parts = Path(folder) / "parts"
            inputs.train(recipe, Stopping(parts, _DRILL_STEPS // 2))
            halves = _weights(inputs, recipe, RunFolder(parts))
    except StudiumError as error:
        return bad(name, f"the drill failed: {error.happened}", try_next=error.try_next or error.expected)
    if whole != halves:
        return bad(
            name, "2 + 2 steps leave other weights than 4", try_next="report it: it should never happen"
        )
    return good(name, f"2 + 2 steps leave the weights of 4 (sha256 {whole[:12]})")


def fits(inputs: Inputs) -> Finding:
    """The longest batch fits into the memory there is (3.12)."""
    name = "memory"
    if inputs.shape is None:
        return not_tried(name, "the model's shape is not known")
    recipe = inputs.told.recipe
    sizes = [
        len(encode(inputs.tokenizer, row).ids)
        if row.completion
        else len(prompt_ids(inputs.tokenizer, row)) + _reply_tokens(inputs, gold_of(row, recipe) or "")
        for row in inputs.every
    ]
    longest = max(sizes, default=recipe.max_tokens)
    needed = memory_of(inputs.shape, recipe, longest).total_bytes
    free, on_gpu = inputs.free
    where = "" if on_gpu else " of main memory"
    told = f"about {needed / 2**20:,.0f} MiB for rows of {longest} tokens, {free / 2**20:,.0f} MiB{where} is free"
    if needed > free:
        return bad(
            name, told, try_next="lower batch, raise accumulate, or set compute.gradient_checkpointing: yes"
        )
    return good(name, told)


def _reply_tokens(inputs: Inputs, gold: str) -> int:
    draws: Any = getattr(inputs.told.recipe, "draws", None)
    return draws.most_tokens if draws is not None else len(completion_ids(inputs.tokenizer, gold))


class Stopping(RunFolder):
    """A run's folder that asks for a stop after so many steps."""

    def __init__(self, path: Path, after: int) -> None:
        super().__init__(path)
        self._after = after

    @property
    def asked_to_stop(self) -> bool:
        return sum(1 for _ in self.lines("metrics.jsonl")) >= self._after


def _too_costly(inputs: Inputs) -> str:
    if inputs.teacher:
        return "the teacher would have to be asked"
    if inputs.shape is None or inputs.shape.parameters > MOST_DRILLED_PARAMETERS:
        return f"only for models under {MOST_DRILLED_PARAMETERS:,} weights"
    return ""


def _drill(recipe: Recipe, *, steps: int, batch: int = 4, accumulate: int = 1) -> Recipe:
    """Return the recipe with eight rows a source, a few steps, and nothing validated; it draws its replies itself.

    A sampler elsewhere repeats itself only up to rounding, which bits cannot be compared by. Preferences are not
    judged by eight of them: the run itself judges all.
    """
    small = tuple(replace(one, rows=min(one.rows, _DRILL_ROWS) or _DRILL_ROWS) for one in recipe.data)
    old = tuple(replace(one, rows=min(one.rows, _DRILL_ROWS) or _DRILL_ROWS) for one in recipe.replay.data)
    draws: Any = getattr(recipe, "draws", None)
    drawn = {"draws": replace(draws, sampler="own", url="")} if draws is not None else {}
    allowed = {"allow": LINTED} if hasattr(recipe, "allow") else {}
    return replace(
        recipe,
        **drawn,
        **allowed,
        name="drill",
        data=small,
        replay=replace(recipe.replay, data=old),
        validation=replace(recipe.validation, every_steps=0, problems=0),
        steps=steps,
        batch=min(batch, recipe.batch) if accumulate == 1 and steps > 1 else batch,
        accumulate=accumulate,
        save_every_s=0.0,
    )


def _first_step(inputs: Inputs, *, batch: int, accumulate: int) -> dict[str, float]:
    recipe = _drill(inputs.told.recipe, steps=1, batch=batch, accumulate=accumulate)
    with TemporaryDirectory(prefix="studium-preflight-") as folder:
        run = RunFolder(Path(folder) / "drill")
        _train_to_the_end(inputs, recipe, run)
        return dict(next(run.lines("metrics.jsonl")))


def _train_to_the_end(inputs: Inputs, recipe: Recipe, folder: RunFolder) -> None:
    """Run the stage. Raises ConfigurationError where it ends before its last step, as a watcher may have it."""
    inputs.train(recipe, folder)
    status = folder.status()
    if status.state is not State.DONE:
        raise ConfigurationError(
            f"{status.state} after {status.step} of {recipe.steps} steps: {status.message}",
            expected="a recipe whose first steps its own watchers let pass",
        )


def _weights(inputs: Inputs, recipe: Recipe, folder: RunFolder) -> str:
    _train_to_the_end(inputs, recipe, folder)
    return hashlib.sha256((folder.checkpoint / "model.safetensors").read_bytes()).hexdigest()
