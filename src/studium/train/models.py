"""Models to train, and how they are kept: an embedded student by name, a GGUF file, a folder, or a hub's name.

An embedded student is read back from the GGUF file that serves, so that what is trained is what serves. A checkpoint is
a Hugging Face folder (safetensors, tokenizer with its chat template), beside it `model.gguf` where it is a Llama with
Studium's tokenizer: any engine can serve it, and `studium eval run --model` takes it as it is.
"""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from studium.errors import ConfigurationError
from studium.train.tokenizer import CHAT_TEMPLATE, END, PAD, student_tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

    from studium.train.unsloth_bridge import Fast

EMBEDDED = Path(__file__).resolve().parents[1] / "embedded"
GGUF_NAME = "model.gguf"


class Loaded(NamedTuple):
    """A model in memory with its tokenizer; `licence` as declared by its card, "" where nobody declared one.

    `reference` is what it was loaded by, where it has to be loaded again; `unsloth` is there where Unsloth loaded it.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    name: str
    licence: str = ""
    reference: str = ""
    unsloth: "Fast | None" = None


def load(reference: str, *, four_bit: bool = False) -> Loaded:
    """Load a model by name, path or hub name, in fp32, or its matrices in 4 bits to train an adapter on.

    Raises ConfigurationError where there is none, or where it cannot be had in 4 bits.
    """
    if four_bit:
        return _in_four_bits(reference)
    embedded = EMBEDDED / f"{reference}.gguf"
    if reference.isidentifier() and embedded.exists():
        return Loaded(read_gguf(embedded), wrapped(student_tokenizer()), reference, "Apache-2.0")
    path = Path(reference).expanduser()
    if path.suffix == ".gguf" and path.exists():
        return Loaded(read_gguf(path), wrapped(student_tokenizer()), path.stem)
    if (path / "config.json").exists() or (not path.exists() and reference.count("/") == 1):
        return pretrained(reference if not path.exists() else str(path))
    students = sorted(one.stem for one in EMBEDDED.glob("*.gguf"))
    raise ConfigurationError(
        f"there is no model {reference!r} to train",
        expected=f"an embedded student ({', '.join(students)}), a GGUF file, or a folder with config.json",
        try_next="check the path, or see: studium students list",
    )


def save(loaded: Loaded, folder: Path) -> None:
    """Write a model into `folder`, all or nothing, as a Hugging Face folder and as GGUF where that is possible."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    loaded.model.save_pretrained(part)
    loaded.tokenizer.save_pretrained(part)
    if serves_as_gguf(loaded) and not hasattr(loaded.model, "peft_config"):
        from studium.train.export import write_model

        write_model(
            _llama(loaded.model),
            backend(loaded.tokenizer),
            part / GGUF_NAME,
            name=loaded.name,
            precision="F32",
        )
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def wrapped(tokenizer: "Tokenizer") -> "PreTrainedTokenizerBase":
    """Return a student's tokenizer as transformers knows them, with the chat template that GGUF files carry."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )


def backend(tokenizer: "PreTrainedTokenizerBase") -> "Tokenizer":
    """Return the tokenizers library's object inside."""
    found: Any = getattr(tokenizer, "backend_tokenizer", None)
    return found


def read_gguf(path: Path) -> "LlamaForCausalLM":
    """Read back a Llama that `export.write_model` wrote: the inverse of the export, in fp32."""
    import gguf
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from studium.train.export import module_of

    reader = gguf.GGUFReader(path)

    def value(key: str) -> Any:
        field = reader.get_field(f"llama.{key}")
        if field is None:
            raise ConfigurationError(
                f"{path.name} is no Llama: it has no llama.{key}",
                expected="a GGUF file with Llama architecture, such as the embedded students'",
                try_next="train from the model's Hugging Face folder instead",
            )
        return field.contents()

    tensors = {one.name: one for one in reader.tensors}
    heads = int(value("attention.head_count"))
    config = LlamaConfig(
        vocab_size=int(value("vocab_size")),
        hidden_size=int(value("embedding_length")),
        num_hidden_layers=int(value("block_count")),
        num_attention_heads=heads,
        num_key_value_heads=int(value("attention.head_count_kv")),
        intermediate_size=int(value("feed_forward_length")),
        max_position_embeddings=int(value("context_length")),
        rms_norm_eps=float(value("attention.layer_norm_rms_epsilon")),
        tie_word_embeddings="output.weight" not in tensors,
        rope_parameters={"rope_type": "default", "rope_theta": float(value("rope.freq_base"))},
    )
    model = LlamaForCausalLM(config)
    state: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        module = module_of(name.removesuffix(".weight"))
        values = _halves(module, tensor.data.astype("float32"), config)
        state[f"{module}.weight"] = torch.from_numpy(values.copy())
    model.load_state_dict(state, strict=not config.tie_word_embeddings)
    model.generation_config.eos_token_id = model.config.eos_token_id = student_tokenizer().token_to_id(END)
    model.generation_config.pad_token_id = model.config.pad_token_id = student_tokenizer().token_to_id(PAD)
    return model.eval()


def _halves(module: str, values: "np.ndarray", config: Any) -> "np.ndarray":
    """Undo the export's order of query and key rows (neighbouring pairs) for transformers, which rotates halves."""
    if not module.endswith(("q_proj", "k_proj")):
        return values
    heads = config.num_attention_heads if module.endswith("q_proj") else config.num_key_value_heads
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def serves_as_gguf(loaded: Loaded) -> bool:
    """Say whether `export` can write the model, or an adapter of it: a Llama with the students' tokenizer."""
    tokenizer: Any = backend(loaded.tokenizer)
    if loaded.model.config.model_type != "llama" or tokenizer is None:
        return False
    return tokenizer.token_to_id(END) is not None and "Digits" in json.dumps(
        json.loads(tokenizer.to_str())["pre_tokenizer"]
    )


def outline(reference: str) -> Loaded:
    """Return a Hugging Face model with all but its weights, which take no memory: it cannot be asked anything."""
    return pretrained(reference, _without_weights)


def _without_weights(reference: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(reference))
    with suppress(OSError):
        model.generation_config = GenerationConfig.from_pretrained(reference)
    return model


def in_full(reference: str, *, dtype: "torch.dtype") -> Any:
    """Return the weights that QLoRA trained on, out of their 4 bits again, on the processor. Raises as `load` does."""
    return _quantised(reference, dtype=dtype, device_map={"": "cpu"}).model.dequantize(dtype=dtype)


def _in_four_bits(reference: str) -> Loaded:
    from peft import prepare_model_for_kbit_training

    loaded = _quantised(reference)
    module: Any
    for module in loaded.model.modules():
        # Else bitsandbytes 0.50 repacks weights when a reply is drawn on a processor: gradients are wrong from then on.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return loaded._replace(
        model=prepare_model_for_kbit_training(loaded.model, use_gradient_checkpointing=False)
    )


def _quantised(reference: str, **where: Any) -> Loaded:
    """Load a Hugging Face model as QLoRA trains on it: nf4, twice quantised (arXiv 2305.14314, section 3)."""
    try:
        import bitsandbytes  # pyright: ignore[reportMissingImports]  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "lora.four_bit needs bitsandbytes, which is not installed",
            expected="bitsandbytes 0.50 or newer",
            try_next="pip install bitsandbytes, or leave lora.four_bit out",
        ) from error
    hub_or_folder(reference, "in 4 bits", "leave lora.four_bit out")
    import torch
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
    )
    return pretrained(reference, quantization_config=settings, **where)


def hub_or_folder(reference: str, how: str, try_next: str) -> None:
    """Raise ConfigurationError for what only Studium can load: a GGUF file, an embedded student."""
    if not (Path(reference).expanduser() / "config.json").exists() and reference.count("/") != 1:
        raise ConfigurationError(
            f"{reference!r} cannot be loaded {how}",
            expected="a Hugging Face folder, or a name on a hub; embedded students are small enough as they are",
            try_next=try_next,
        )


def pretrained(reference: str, make: Callable[[str], Any] | None = None, **settings: Any) -> Loaded:
    """Load a Hugging Face folder or a hub's name, its model in 32 bits or by `make`.

    Raises ConfigurationError where it cannot be loaded, or has no chat template or end token.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make = make or partial(AutoModelForCausalLM.from_pretrained, **({"dtype": "float32"} | settings))
    try:
        tokenizer = AutoTokenizer.from_pretrained(reference)
        model = make(reference)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the model {reference!r} cannot be loaded: {str(error).splitlines()[0]}",
            expected="a folder with config.json, weights and a tokenizer, or a name on a hub that can be reached",
            try_next="check the path and the network",
        ) from error
    if tokenizer.chat_template is None or tokenizer.eos_token_id is None:
        raise ConfigurationError(
            f"the tokenizer of {reference!r} has no {'end token' if tokenizer.chat_template else 'chat template'}",
            expected="a model with a chat template and an end token, as it will be served",
            try_next="add chat_template.jinja, or start from the instruct version",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = next(iter(tokenizer.special_tokens_map.values()))
    return Loaded(model.eval(), tokenizer, Path(reference).name, _licence(Path(reference)), reference)


def _licence(folder: Path) -> str:
    card = folder / "README.md"
    if not card.exists():
        return ""
    lines = card.read_text(errors="replace").split("---")[1:2]
    found = [
        line.split(":", 1)[1].strip()
        for text in lines
        for line in text.splitlines()
        if line.startswith("license:")
    ]
    return found[0] if found else ""


def _llama(model: Any) -> "LlamaForCausalLM":
    return model
