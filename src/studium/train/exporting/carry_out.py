"""An export from beginning to end: written beside its place, checked by loading it, then moved there; or nothing.

What an export says of itself is in its `export.json`: base, precision, the hash of every file, and how it was checked.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from studium.errors import BadRequest, EngineFailure, ModelBroken
from studium.records.adapters import AdapterKind
from studium.train.bases import sha256_of
from studium.train.exporting.card import card
from studium.train.exporting.modelfile import Manner
from studium.train.exporting.parity import (
    BOUND_FULL,
    BOUND_HALF,
    Parity,
    Reference,
    frozen_prompts,
    replies_of,
    served_replies,
)
from studium.train.exporting.trained import Trained, check_base, trained_model
from studium.train.exporting.vllm_check import PROGRAM, vllm_replies
from studium.train.exporting.writing import Form, Target, Written, base_gguf, check_form, write_form
from studium.train.models import Loaded, load

MANIFEST = "export.json"
PROBLEMS = 8


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export. `checked` are lines for people, those of what could not be checked among them."""

    folder: Path
    files: Sequence[str]
    parities: Sequence[Parity]
    checked: Sequence[str]
    written: Written


def export(
    trained: Trained, form: Form, folder: Path, *, manner: Manner | None = None, force: bool = False
) -> Exported:
    """Write `trained` in a form to `folder`, checked. Blocks; loads the model, and starts llama.cpp.

    `manner` None: greedy. Raises BadRequest where the folder is taken, ConfigurationError for a base that is missing
    or changed, ModelBroken where the export answers differently; then nothing is left.
    """
    check_place(folder, force=force)
    loaded = trained_model(trained)
    check_form(trained, form, loaded)
    manner = manner or Manner()
    manner = replace(manner, context_tokens=manner.context_tokens or _context(loaded))
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        written = write_form(trained, form, loaded, manner, part)
        domains = [str(one.get("domain", "")) for one in trained.lineage.get("recipe", {}).get("data", ())]
        reference = Reference(loaded, frozen_prompts(list(dict.fromkeys(domains)), PROBLEMS))
        parities = compared(trained, written, part, reference)
        in_vllm, why_not = _in_vllm(trained, written, part, reference)
        parities = [*parities, *in_vllm]
        checked = [*(one.line() for one in parities), *why_not, *_unchecked(form)]
        _refuse(parities)
        (part / "README.md").write_text(
            card(trained, loaded.licence, merged=form.merged, checked=checked, use=written.use),
            encoding="utf-8",
        )
        files = sorted(str(one.relative_to(part)) for one in part.rglob("*") if one.is_file())
        _write_manifest(part, trained, form, files, checked, written.use)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Exported(folder, [*files, MANIFEST], parities, checked, written)


def check_place(folder: Path, *, force: bool) -> None:
    """Raise BadRequest where a folder is taken; with `force` only where it holds anything but an export."""
    if not folder.exists():
        return
    ours = folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir()))
    if force and ours:
        return
    raise BadRequest(
        f"{folder} exists" + ("" if ours else " and holds no export of ours"),
        expected="a folder that does not exist yet",
        try_next="--force writes it again" if ours else "--out another folder; this one is never overwritten",
    )


def compared(trained: Trained, written: Written, part: Path, reference: Reference) -> list[Parity]:
    """Load what was written, in every program there is here, and hold its replies against the trained model's."""
    context = _context(reference.loaded)
    if not (written.gguf or written.gguf_adapter):
        again = _pretrained(trained, written, part)
        return [reference.compare("transformers", replies_of(again, reference.ids), BOUND_FULL)]
    adapts = trained.kind is AdapterKind.ADAPTER
    bound = reference.bound_half(load(trained.base_reference)) if adapts else BOUND_HALF
    with TemporaryDirectory() as elsewhere:
        gguf = part / written.gguf
        if not written.gguf:
            gguf = Path(elsewhere) / "base.gguf"
            base_gguf(trained, gguf)
        adapters = [part / written.gguf_adapter] if written.gguf_adapter else []
        programs = [False, *([True] if shutil.which("llama-server") else [])]
        return [
            reference.compare(
                "llama-server" if program else "llama.cpp, embedded",
                served_replies(gguf, adapters, reference.texts(), context_tokens=context, program=program),
                bound,
            )
            for program in programs
        ]


def _pretrained(trained: Trained, written: Written, part: Path) -> Loaded:
    """Load an export as transformers would: from its own files alone, but for a base that is not among them."""
    if not written.adapter:
        return load(str(part / written.model))
    from peft import PeftModel

    if not written.model:
        check_base(trained)
    base = load(str(part / written.model) if written.model else trained.base_reference)
    model: Any = PeftModel.from_pretrained(base.model, str(part / written.adapter))
    return base._replace(model=model.eval())


def _in_vllm(
    trained: Trained, written: Written, part: Path, reference: Reference
) -> tuple[Sequence[Parity], Sequence[str]]:
    """Have vLLM answer, where the export is for it and its program is on the PATH; or say why it did not.

    That it cannot run here says nothing against the files: on a processor it has no attention for small heads.
    """
    if not written.vllm:
        return (), ()
    if not shutil.which(PROGRAM):
        return (), [f"not checked: vLLM itself, as {PROGRAM} is not on the PATH"]
    try:
        replies = vllm_replies(written.vllm, part, trained.name, reference)
    except EngineFailure as error:
        return (), [f"not checked: {error.happened}"]
    return [reference.compare("vLLM", replies, BOUND_FULL)], ()


def _unchecked(form: Form) -> list[str]:
    """Name what nobody has loaded."""
    missing: list[str] = []
    if form.target is Target.OLLAMA:
        missing.append(f"not checked: the Modelfile itself, because {_absent('ollama', 'Ollama')}")
    if form.target in (Target.GGUF, Target.OLLAMA) and not shutil.which("llama-server"):
        missing.append("not checked: llama-server is not on the PATH")
    return missing


def _absent(program: str, name: str) -> str:
    there = shutil.which(program) is not None
    return f"it would add a model to your {name}" if there else f"{name} is not installed"


def _refuse(parities: Sequence[Parity]) -> None:
    for one in parities:
        if not one.equal:
            raise ModelBroken(
                f"what was written answers differently. {one.line()}; {one.different} replies parted without a tie",
                expected=f"the trained model's greedy replies, log-probabilities within {one.bound:g}",
                try_next="nothing was kept; report it with the run's recipe.json",
            )


def _write_manifest(
    part: Path, trained: Trained, form: Form, files: Sequence[str], checked: Sequence[str], use: Sequence[str]
) -> None:
    told = {
        "name": trained.name,
        "kind": trained.kind,
        "to": form.target,
        "merged": form.merged,
        "precision": form.precision if form.target in (Target.GGUF, Target.OLLAMA) and form.merged else "F32",
        "base": trained.base,
        "base_sha256": trained.base_sha256,
        "files": {one: sha256_of(part / one) for one in files},
        "checked": list(checked),
        "use": list(use),
        "at": time.time(),
        "lineage": dict(trained.lineage),
    }
    (part / MANIFEST).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _context(loaded: Loaded) -> int:
    return int(getattr(loaded.model.config, "max_position_embeddings", 1024))
