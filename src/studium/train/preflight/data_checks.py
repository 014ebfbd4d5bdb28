"""Checks of the recipe and of where rows come from: nothing given is unused, nothing measured on is trained on."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from studium.domains.catalogue import domain
from studium.domains.protocol import ThinksAloud
from studium.domains.wording import tidy
from studium.train.config import Recipe, Source
from studium.train.preflight.findings import DRAWING, Finding, Inputs, bad, good
from studium.train.rows import Row

_WORDS = re.compile(r"\w+|[^\w\s]")
GRAM = 8
# Tulu 3 (arXiv 2411.15124, section 3.2): an item is met again where more than half its words are in shared 8-grams.
_COVERED = 0.5
# 8-grams of so many items of the evaluation are its wording, not its content.
_WORDING = 0.1


class Unused(NamedTuple):
    """A key that was given and changes nothing, and why."""

    key: str
    why: str
    try_next: str = ""


def keys_used(inputs: Inputs) -> Finding:
    """Every key that was given is used by the stage (3.6); unknown keys are refused when the recipe is read."""
    for one in _unused(inputs.told.stage, inputs.told.recipe, frozenset(inputs.told.keys)):
        origin = inputs.told.keys.get(one.key, "")
        says = f"{origin}{': ' if origin else ''}{one.key} changes nothing: {one.why}"
        return bad("keys", says, try_next=one.try_next or f"remove {one.key}, or give what it needs")
    return good("keys", f"all {len(inputs.told.keys)} given are used")


def _unused(stage: str, recipe: Recipe, given: frozenset[str]) -> Iterator[Unused]:
    chosen: Any = recipe
    draws: Any = getattr(recipe, "draws", None)

    def under(section: str) -> list[str]:
        return sorted(key for key in given if key.startswith(f"{section}."))

    if not recipe.replay.data and "replay.share" in given and recipe.replay.share:
        yield Unused("replay.share", "there is no replay.data")
    if recipe.replay.data and not recipe.replay.share:
        yield Unused("replay.data", "replay.share is 0")
    if not recipe.lora.rank:
        yield from (Unused(key, "lora.rank is 0") for key in under("lora") if key != "lora.rank")
    if recipe.steps and "epochs" in given:
        yield Unused("epochs", "steps says how many there are")
    if recipe.steps and recipe.optimiser.warmup_steps >= recipe.steps and "optimiser.warmup_steps" in given:
        yield Unused(
            "optimiser.schedule",
            f"all {recipe.steps} steps are warm-up (optimiser.warmup_steps)",
            "more steps, or a lower optimiser.warmup_steps",
        )
    if (not recipe.validation.problems or not recipe.validation.every_steps) and recipe.validation.patience:
        yield Unused("validation.patience", "nothing is validated")
    if getattr(recipe, "second_verifier", "") and not (
        recipe.validation.problems and recipe.validation.every_steps
    ):
        yield Unused("second_verifier", "nothing is validated")
    if draws is not None and recipe.accumulate != 1:
        yield Unused("accumulate", f"{stage} takes its whole batch at once")
    if "watch.max_kl" in given and not _has_kl(stage, chosen):
        yield Unused("watch.max_kl", "no KL is computed: objective.kl is 0")
    if "watch.min_entropy" in given and stage not in DRAWING:
        yield Unused("watch.min_entropy", f"{stage} draws no replies")
    if stage == "rlvr" and chosen.algorithm != "ppo":
        yield from (Unused(key, "algorithm is grpo") for key in under("ppo"))
    if stage == "weighted_sft" or (stage == "rlvr" and chosen.algorithm == "ppo"):
        within = given & {"draws.least_spread", "draws.most_rounds"}
        yield from (Unused(key, "replies are not compared within a group") for key in sorted(within))
    if stage == "weighted_sft" and chosen.weigh == "data":
        yield from (Unused(key, "weigh is data: nothing is drawn") for key in under("draws"))
    for section, sources in (
        ("data", recipe.data),
        ("replay.data", recipe.replay.data),
        ("validation.data", recipe.validation.data),
    ):
        for number, source in enumerate(sources, start=1):
            yield from _unused_of(f"{section}.{number}", source, given)


def _has_kl(stage: str, recipe: Any) -> bool:
    objective = getattr(recipe, "objective", None)
    return objective is not None and objective.kl > 0


def _unused_of(place: str, source: Source, given: frozenset[str]) -> Iterator[Unused]:
    if source.file:
        for key in ("levels", "teach", "thoughts", "seed", "beside"):
            if f"{place}.{key}" in given:
                yield Unused(f"{place}.{key}", "rows of a file are as they are")
        return
    if f"{place}.licence" in given:
        yield Unused(f"{place}.licence", "a domain's problems are generated")
    if source.thoughts and not isinstance(domain(source.domain), ThinksAloud):
        yield Unused(f"{place}.thoughts", f"{source.domain} has no thoughts")
    if source.thoughts and source.teach in ("prompts", "step-prompts"):
        yield Unused(f"{place}.thoughts", f"'teach: {source.teach}' has no completions")


def licences(inputs: Inputs) -> Finding:
    """Every row has a licence that the recipe allows, and so has the model where it tells (3.10)."""
    name = "licence"
    allowed = {one.casefold() for one in inputs.told.recipe.allowed_licences}
    found: Counter[str] = Counter()
    for row in inputs.every:
        if not row.licence:
            return bad(name, "a row has no licence", row, try_next="'licence:' in its line, or in the source")
        if row.licence.casefold() not in allowed:
            says = f"the licence {row.licence!r} of a row is not allowed"
            return bad(name, says, row, try_next="leave it out, or add it to allowed_licences")
        found[row.licence] += 1
    if inputs.model_licence and inputs.model_licence.casefold() not in allowed:
        says = f"the model's licence is {inputs.model_licence!r}, which is not allowed"
        return bad(name, says, try_next="take another model, or add it to allowed_licences")
    told = ", ".join(f"{count} {one}" for one, count in found.items())
    return good(name, f"{told}; model: {inputs.model_licence or 'not told'}")


def overlap(inputs: Inputs) -> Finding:
    """No problem that is measured on is trained on: not the same, not half of it in shared 8-grams (3.9)."""
    name = "overlap"
    keys = {(one.domain, one.key) for one in inputs.evaluation}
    asked = [
        *(one.prompt for one in inputs.evaluation),
        *(one.messages[-1].content for one in inputs.held_out),
    ]
    texts = {_normal(one) for one in asked}
    for row in inputs.every:
        met = row.problem is not None and (row.problem.domain, row.problem.key) in keys
        if met or _normal(row.messages[-1].content) in texts:
            return bad(
                name, "a problem that is measured on is trained on", row, try_next="take it out of the data"
            )
    written = [row for row in inputs.every if row.problem is None]
    if (found := _shared(written, asked)) is not None:
        says = f"more than half of a problem that is measured on stands in a row: {found.item[:80]!r}"
        return bad(name, says, found.row, try_next="take the row out of the data")
    return good(name, f"none of {len(asked)} problems kept for measuring is in the data")


class Shared(NamedTuple):
    row: Row
    item: str


def _shared(rows: Sequence[Row], items: Sequence[str]) -> Shared | None:
    """Return the first row that covers an item by shared 8-grams; those that many items have are not counted."""
    grams = {item: _grams(_words(item)) for item in items}
    common = Counter(gram for found in grams.values() for gram in set(found))
    most = max(1, int(_WORDING * len(items)))
    wanted = {gram for gram, count in common.items() if count <= most}
    met: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        for gram in set(_grams(_words(*_texts(row)))) & wanted:
            met.setdefault(gram, []).append(row)
    for item, found in grams.items():
        covered: dict[str, set[int]] = {}
        named: dict[str, Row] = {}
        for at, gram in enumerate(found):
            for row in met.get(gram, ()):
                named[row.id] = row
                covered.setdefault(row.id, set()).update(range(at, at + GRAM))
        size = len(found) + GRAM - 1
        for row_id, places in covered.items():
            if len(places) > _COVERED * size:
                return Shared(named[row_id], item)
    return None


def _grams(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + GRAM]) for at in range(len(words) - GRAM + 1)]


def _words(*texts: str) -> list[str]:
    """Return words and signs without greetings: of a short question these are half, and no content."""
    return [word for text in texts for word in _WORDS.findall(tidy(text))]


def _texts(row: Row) -> list[str]:
    return [*(one.content for one in row.messages), row.prefix + row.completion]


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())
