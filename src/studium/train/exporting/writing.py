"""Writes one form of what was trained into a folder: Hugging Face, GGUF, Ollama or vLLM; merged, or the adapter alone.

Each returns what was written and how it is used. Checking is `export`'s affair.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from studium.errors import BadRequest, ConfigurationError
from studium.records.adapters import AdapterKind
from studium.train.bases import base_files
from studium.train.export import Precision, write_adapter, write_model
from studium.train.exporting.modelfile import Manner, modelfile, vllm_command, vllm_words
from studium.train.exporting.trained import PEFT_SETTINGS, PEFT_WEIGHTS, Trained
from studium.train.models import Loaded, backend, load, serves_as_gguf

MODEL_GGUF, BASE_GGUF, ADAPTER_GGUF = "model.gguf", "base.gguf", "adapter.gguf"


class Target(StrEnum):
    """Which program is to read it."""

    OLLAMA = "ollama"
    GGUF = "gguf"
    VLLM = "vllm"
    HF = "hf"


@dataclass(frozen=True, slots=True)
class Form:
    """What is wanted. `merged` False: the adapter alone, beside its base where the target needs that."""

    target: Target
    merged: bool
    precision: Precision = "F16"


@dataclass(frozen=True, slots=True)
class Written:
    """What a folder holds, each "" where there is none: Hugging Face `model`, PEFT `adapter`, GGUF files; by name.

    `use` are commands, run in the folder; `vllm` is what that program is told.
    """

    use: Sequence[str]
    model: str = ""
    adapter: str = ""
    gguf: str = ""
    gguf_adapter: str = ""
    vllm: Sequence[str] = ()


def check_form(trained: Trained, form: Form, loaded: Loaded) -> None:
    """Raise where a model has no such form: BadRequest for no adapter, ConfigurationError for no GGUF."""
    if not form.merged and trained.kind is not AdapterKind.ADAPTER:
        raise BadRequest(
            f"{trained.name} is a whole model and has no adapter",
            expected="an adapter (trained with lora.rank), for --adapter-only",
            try_next="--merged",
        )
    if form.target in (Target.GGUF, Target.OLLAMA) and not serves_as_gguf(loaded):
        raise ConfigurationError(
            f"{trained.base} cannot be written as GGUF here: it is no Llama with Studium's tokenizer",
            expected="a model made from an embedded student",
            try_next="--to hf, then llama.cpp's convert_hf_to_gguf.py on that folder",
        )


def write_form(trained: Trained, form: Form, loaded: Loaded, manner: Manner, folder: Path) -> Written:
    """Write `loaded`, which is merged, or the adapter it came from, into an empty folder."""
    match form.target:
        case Target.HF:
            return _hugging_face(trained, form, loaded, folder)
        case Target.VLLM:
            return _vllm(trained, form, loaded, manner, folder)
        case Target.GGUF:
            return _gguf(trained, form, loaded, folder)
        case Target.OLLAMA:
            return _ollama(trained, form, loaded, manner, folder)


def _hugging_face(trained: Trained, form: Form, loaded: Loaded, folder: Path) -> Written:
    if not form.merged:
        _write_peft(trained, loaded, folder)
        base = "base" if _is_gguf(trained.base_reference) else trained.base_reference
        if base == "base":  # a name that means nothing elsewhere
            _write_pretrained(load(trained.base_reference), folder / base)
        use = f'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), ".")  # transformers, peft'
        return Written([use], model=base if base == "base" else "", adapter=".")
    _write_pretrained(loaded, folder)
    return Written(['AutoModelForCausalLM.from_pretrained(".")   # transformers'], model=".")


def _vllm(trained: Trained, form: Form, loaded: Loaded, manner: Manner, folder: Path) -> Written:
    context = manner.context_tokens or int(loaded.model.config.max_position_embeddings)
    if form.merged:
        _write_pretrained(loaded, folder)
        words = vllm_words(trained.name, adapter_rank=None, context_tokens=context)
        return Written([vllm_command(words)], model=".", vllm=words)
    rank = int(json.loads((trained.folder / PEFT_SETTINGS).read_text())["r"])
    words = vllm_words(trained.name, adapter_rank=rank, context_tokens=context)
    _write_pretrained(load(trained.base_reference), folder / "base")
    _write_peft(trained, loaded, folder / "adapter")
    return Written([vllm_command(words)], model="base", adapter="adapter", vllm=words)


def _gguf(trained: Trained, form: Form, loaded: Loaded, folder: Path) -> Written:
    if form.merged:
        _write_gguf(loaded, folder / MODEL_GGUF, trained.name, form.precision)
        return Written([f"llama-server --model {MODEL_GGUF} --jinja"], gguf=MODEL_GGUF)
    base: Any = loaded.model
    write_adapter(trained.folder, base, folder / ADAPTER_GGUF, name=trained.name)
    return Written(
        [f"llama-server --model BASE.gguf --lora {ADAPTER_GGUF} --jinja"], gguf_adapter=ADAPTER_GGUF
    )


def _ollama(trained: Trained, form: Form, loaded: Loaded, manner: Manner, folder: Path) -> Written:
    template = str(loaded.tokenizer.chat_template)
    written = _gguf(trained, form, loaded, folder)
    if not form.merged:
        base_gguf(trained, folder / BASE_GGUF)
    source, adapter = (MODEL_GGUF, "") if form.merged else (BASE_GGUF, ADAPTER_GGUF)
    (folder / "Modelfile").write_text(
        modelfile(source, adapter, manner, chat_template=template), encoding="utf-8"
    )
    use = [f"ollama create {trained.name} -f Modelfile", f"ollama run {trained.name}"]
    return Written(use, gguf=source, gguf_adapter=written.gguf_adapter)


def base_gguf(trained: Trained, path: Path) -> None:
    """Put an adapter's base at a path as GGUF: its own file, or written in full precision."""
    if _is_gguf(trained.base_reference):
        shutil.copyfile(base_files(trained.base_reference)[0], path)
    else:
        _write_gguf(load(trained.base_reference), path, Path(trained.base_reference).name, "F32")


def _is_gguf(reference: str) -> bool:
    return [one.suffix for one in base_files(reference)] == [".gguf"]


def _write_pretrained(loaded: Loaded, folder: Path) -> None:
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def _write_peft(trained: Trained, loaded: Loaded, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in (PEFT_WEIGHTS, PEFT_SETTINGS):
        shutil.copyfile(trained.folder / name, folder / name)
    settings = json.loads((folder / PEFT_SETTINGS).read_text())
    settings["base_model_name_or_path"] = trained.base
    (folder / PEFT_SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
    loaded.tokenizer.save_pretrained(folder)


def _write_gguf(loaded: Loaded, path: Path, name: str, precision: Precision) -> None:
    model: Any = loaded.model
    template = str(loaded.tokenizer.chat_template)
    write_model(
        model, backend(loaded.tokenizer), path, name=name, precision=precision, chat_template=template
    )
