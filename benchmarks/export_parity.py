"""Does what is exported answer as what was trained? Greedy tokens and log-probabilities, form by form.

A short LoRA and a full fine-tune of the student sprout are trained here, by `studium train`'s own process, and written
in every form by the code behind `studium adapters export`. The trained model in memory, in full precision, is the
reference; its peers are transformers on what was exported, and llama.cpp (the embedded worker, as it serves). The base
without the adapter is asked as well: what a file that forgot its adapter would look like.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.report import Aim, Report, run, say
from studium.errors import ModelBroken
from studium.records.adapters import AdapterKind
from studium.train.surroundings import quiet

RECIPES = {
    "LoRA": "lora: {rank: 16, alpha: 32}\noptimiser: {rate: 0.003, warmup_steps: 5}",
    "full": "optimiser: {rate: 0.001, warmup_steps: 5}",
}
RECIPE = """
model: sprout
data: [{{domain: arithmetic, levels: [1, 2], rows: 512}}]
replay: {{share: 0.3, data: [{{domain: sorting, levels: [1, 2], rows: 128}}]}}
steps: {steps}
batch: 16
max_tokens: 160
validation: {{every_steps: 0}}
{how}
"""
DOMAINS = ("arithmetic", "sorting", "sentiment")


def measure(quick: bool) -> Report:
    problems, steps = (12, 12) if quick else (51, 80)
    rows: list[Mapping[str, Any]] = []
    with TemporaryDirectory() as folder:
        for how in RECIPES:
            say(f"training: {how}, {steps} steps")
            rows += _rows(how, _trained(Path(folder), how, steps), problems, Path(folder))
    return Report(
        rows, _aims(rows), [f"{problems} frozen problems of {', '.join(DOMAINS)}, never trained on"]
    )


def _trained(folder: Path, how: str, steps: int) -> Path:
    """Train in a process of its own and return the run's folder."""
    place = folder / how.lower()
    place.mkdir()
    (place / "recipe.yaml").write_text(RECIPE.format(steps=steps, how=RECIPES[how]))
    command = [sys.executable, "-m", "studium.train", "sft", str(place)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return place


def _rows(how: str, folder: Path, problems: int, elsewhere: Path) -> list[Mapping[str, Any]]:
    from studium.train.exporting.parity import BOUND_HALF, Reference, frozen_prompts, replies_of
    from studium.train.exporting.trained import trained_in, trained_model
    from studium.train.models import load

    trained = trained_in(folder)
    reference = Reference(trained_model(trained), frozen_prompts(DOMAINS, problems))
    rows: list[Mapping[str, Any]] = []
    for form in _forms(trained.kind):
        say(f"{how}: {form.target}, {'merged' if form.merged else 'adapter alone'} {form.precision}")
        name = f"{how}-{form.target}-{form.merged}-{form.precision}"
        rows += _exported(how, trained, form, reference, elsewhere / name)
    without = reference.compare(
        "the base, untrained", replies_of(load(trained.base), reference.ids), BOUND_HALF
    )
    return [*rows, _row(how, "none", without)]


def _forms(kind: AdapterKind) -> "Sequence[Any]":
    from studium.train.exporting.writing import Form, Target

    whole = [Form(Target.HF, True), Form(Target.GGUF, True, "F32"), Form(Target.GGUF, True, "F16")]
    alone = [Form(Target.HF, False), Form(Target.GGUF, False), Form(Target.OLLAMA, False)]
    return [*whole, *(alone if kind is AdapterKind.ADAPTER else ())]


def _exported(how: str, trained: Any, form: Any, reference: Any, place: Path) -> list[Mapping[str, Any]]:
    """Write one form, then ask it all the problems; the few that exporting asks by itself come first."""
    from studium.train.exporting.carry_out import compared, export

    form_name = f"{form.target}, {'merged' if form.merged else 'adapter alone'}" + (
        f", {form.precision}" if form.target == "gguf" and form.merged else ""
    )
    try:
        done = export(trained, form, place)
    except ModelBroken as error:
        return [{"trained": how, "form": form_name, "read by": "refused", "note": str(error)[:120]}]
    return [_row(how, form_name, one) for one in compared(trained, done.written, place, reference)]


def _row(how: str, form: str, found: Any) -> Mapping[str, Any]:
    return {
        "trained": how,
        "form": form,
        "read by": found.by,
        "replies equal": f"{found.problems - found.ties - found.different} of {found.problems}",
        "after a tie": found.ties,
        "different": found.different,
        "tokens": found.tokens,
        "largest difference (nats)": found.apart,
        "mean difference (nats)": found.mean,
    }


def _aims(rows: Sequence[Mapping[str, Any]]) -> list[Aim]:
    exports = [row for row in rows if row["form"] != "none"]
    refused = sum("note" in row for row in exports)
    asked = [row for row in exports if "note" not in row]
    different = sum(row["different"] + row["after a tie"] for row in asked) + refused
    exact = [row for row in asked if row["read by"] == "transformers"]
    served = [row for row in asked if row["read by"] != "transformers"]
    half = max(row["largest difference (nats)"] for row in served)
    full = max(row["largest difference (nats)"] for row in exact)
    return [
        Aim("replies of any export that differ", float(different), None, None, "0", different == 0),
        Aim("largest difference, transformers", full, None, None, "<= 0.001", full <= 0.001),
        Aim("largest difference, llama.cpp as it serves", half, None, None, "<= 0.05", half <= 0.05),
    ]


def main() -> None:
    quiet()
    run("export_parity", __doc__ or "", measure)


if __name__ == "__main__":
    main()
