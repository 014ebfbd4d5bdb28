"""Runs every check on what a run is about to use, and refuses the run where one fails."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from studium.errors import ConfigurationError
from studium.train.data import rows_of
from studium.train.forecast import free_memory, shape_of
from studium.train.preflight.compute_checks import accumulated, fits, packed, resumed, same_by_unsloth
from studium.train.preflight.data_checks import keys_used, licences, overlap
from studium.train.preflight.findings import Check, Finding, Inputs
from studium.train.preflight.reward_checks import gold_scores, probes, second_verifier
from studium.train.preflight.token_checks import end_tokens, length, template, trained_tokens, vocabulary
from studium.train.recipe_file import Told
from studium.train.rl.running import validation_problems
from studium.train.run_folder import RunFolder
from studium.train.stage_rows import reward_of, stage_rows
from studium.train.unsloth_bridge import begin

CHECKS: Sequence[Check] = (
    keys_used,
    licences,
    trained_tokens,
    end_tokens,
    vocabulary,
    template,
    length,
    gold_scores,
    probes,
    second_verifier,
    overlap,
    fits,
    packed,
    same_by_unsloth,
)
DRILLS: Sequence[Check] = (accumulated, resumed)
FILE_NAME = "preflight.json"


def inputs_of(told: Told) -> Inputs:
    """Gather what a run of the recipe would use. Loads the model, and reads data."""
    from studium.train.models import load, outline

    recipe = told.recipe
    begin(recipe)
    # Who trains on 4 bits may have no room for the weights in 32.
    loaded = outline(recipe.model) if recipe.lora.four_bit else load(recipe.model)
    model: Any = loaded.model
    settings = model.generation_config
    ends = settings.eos_token_id if settings is not None else None
    return Inputs(
        told=told,
        rows=stage_rows(told.stage, recipe),
        tokenizer=loaded.tokenizer,
        old=rows_of(recipe.replay.data),
        evaluation=validation_problems(recipe.validation, recipe),
        held_out=rows_of([one for one in recipe.validation.data if one.file]),
        end_ids=frozenset([ends] if isinstance(ends, int) else ends or ()),
        num_embeddings=model.get_input_embeddings().weight.shape[0],
        context=getattr(model.config, "max_position_embeddings", None),
        model_licence=loaded.licence,
        reward=reward_of(told.stage, recipe),
        model=None if recipe.lora.four_bit else model,
        shape=shape_of(recipe.model),
        free=free_memory(told.stage),
        options={"control": getattr(recipe, "control", "none")},
    )


def check(inputs: Inputs, checks: Sequence[Check] = (*CHECKS, *DRILLS)) -> Iterator[Finding]:
    """Yield each check's finding, in order; drills are left out once something is wrong, as they would fail for it."""
    wrong = False
    for one in checks:
        if wrong and one in DRILLS:
            continue
        finding = one(inputs)
        wrong = wrong or finding.ok is False
        yield finding


def refuse(findings: Sequence[Finding]) -> None:
    """Raise ConfigurationError for the first fault, with how many more there are."""
    faults = [one for one in findings if one.ok is False]
    if not faults:
        return
    first = faults[0]
    row = f", row {first.row_id}" if first.row_id else ""
    more = f" (and {len(faults) - 1} more: {', '.join(one.name for one in faults[1:])})" if faults[1:] else ""
    raise ConfigurationError(
        f"preflight, {first.name}{row}: {first.says}{more}",
        expected="every check passed before the first step",
        try_next=first.try_next or "studium train check",
    )


def preflight(told: Told, folder: RunFolder, say: Callable[[str], None]) -> None:
    """Check a run before it begins; one that passed and goes on is not checked again. Raises ConfigurationError."""
    if (folder.path / FILE_NAME).exists() and folder.state_file.exists():
        return
    findings: list[Finding] = []
    for finding in check(inputs_of(told)):
        findings.append(finding)
        if finding.ok is not True:
            row = f", row {finding.row_id}" if finding.row_id else ""
            say(
                f"preflight {'FAILED' if finding.ok is False else 'not tried'}: {finding.name}{row}: {finding.says}"
            )
    folder.keep(FILE_NAME, {"findings": [asdict(one) for one in findings]})
    refuse(findings)
    say(f"preflight: {sum(one.ok is True for one in findings)} of {len(findings)} checks passed")
