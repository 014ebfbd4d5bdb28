"""Writes what was trained as GGUF, the file llama.cpp runs: a Llama model, or a PEFT LoRA adapter.

llama.cpp rotates neighbouring pairs where transformers rotates halves, so the rows of the query and
key projections are re-ordered head by head. Tokenizer, end token and chat template travel inside
the file. tests/reference/test_export_parity.py shows that the file answers as the model does.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from studium.errors import ConfigurationError
from studium.train.tokenizer import CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS, token_id

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

Precision = Literal["F32", "F16"]

_LAYER_TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TOP_TENSORS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


class _Tensor(NamedTuple):
    name: str
    values: "np.ndarray"


def write_model(
    model: "LlamaForCausalLM",
    tokenizer: "Tokenizer",
    path: Path,
    *,
    name: str,
    precision: Precision = "F16",
    chat_template: str = CHAT_TEMPLATE,
) -> None:
    """Write a Llama model with its tokenizer and chat template to `path`, all or nothing."""
    import gguf

    writer = gguf.GGUFWriter(_part(path), "llama")
    writer.add_name(name)
    writer.add_license("Apache-2.0")
    _add_shape(writer, model.config)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if precision == "F16" else gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(writer, tokenizer)
    writer.add_chat_template(chat_template)
    for tensor in _model_tensors(model):
        # llama.cpp keeps norms in full precision whatever the file's.
        half = precision == "F16" and tensor.values.ndim > 1
        writer.add_tensor(tensor.name, tensor.values.astype("float16" if half else "float32"))
    _finish(writer, path)


def write_adapter(adapter_folder: Path, base: "LlamaForCausalLM", path: Path, *, name: str) -> None:
    """Write a PEFT LoRA adapter saved in `adapter_folder` to `path`, in full precision.

    `base` is the model it was trained on. Raises ConfigurationError where the adapter is no LoRA, or
    changes a part that GGUF adapters cannot change.
    """
    import gguf
    from safetensors.torch import load_file

    settings = json.loads((adapter_folder / "adapter_config.json").read_text())
    if settings.get("peft_type") != "LORA" or settings.get("use_dora") or settings.get("rank_pattern"):
        raise ConfigurationError(
            f"the adapter in {adapter_folder.name} is {settings.get('peft_type')} with options GGUF cannot hold",
            expected="a plain LoRA of one rank",
            try_next="train with LoraConfig(r=..., lora_alpha=..., target_modules=[...])",
        )
    writer = gguf.GGUFWriter(_part(path), "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_name(name)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(settings["lora_alpha"]))
    weights = load_file(adapter_folder / "adapter_model.safetensors")
    for key, values in weights.items():
        # An adapter of a base in 4 bits is in bfloat16, which NumPy does not know.
        tensor = _adapter_tensor(key, values.float().numpy(), base.config)
        writer.add_tensor(tensor.name, tensor.values)
    _finish(writer, path)


def _add_shape(writer: "GGUFWriter", config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: "GGUFWriter", tokenizer: "Tokenizer") -> None:
    import gguf

    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in SPECIAL_TOKENS else normal for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    # Without a begin token of its own llama.cpp would assume id 11; it is never added to a prompt.
    writer.add_bos_token_id(token_id(tokenizer, END))
    writer.add_eos_token_id(token_id(tokenizer, END))
    writer.add_eot_token_id(token_id(tokenizer, END))
    writer.add_pad_token_id(token_id(tokenizer, PAD))
    writer.add_add_bos_token(False)


def _model_tensors(model: "LlamaForCausalLM") -> Iterator[_Tensor]:
    for key, weight in model.state_dict().items():
        if key == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        module = key.removesuffix(".weight")
        values = weight.detach().float().cpu().numpy()
        yield _Tensor(f"{_tensor_name(module)}.weight", _pairwise(module, values, model.config))


def _adapter_tensor(key: str, values: "np.ndarray", config: Any) -> _Tensor:
    module, _, half = key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
    if half not in ("lora_A", "lora_B"):
        raise ConfigurationError(
            f"the adapter holds {key}, which is no LoRA weight",
            expected="lora_A and lora_B only",
            try_next="train without modules_to_save and without trained embeddings",
        )
    if half == "lora_B":
        values = _pairwise(module, values, config)
    return _Tensor(f"{_tensor_name(module)}.weight.{half.lower()}", values)


def _tensor_name(module: str) -> str:
    if module in _TOP_TENSORS:
        return _TOP_TENSORS[module]
    _, _, layer, part = module.split(".", 3)
    return f"blk.{layer}.{_LAYER_TENSORS[part]}"


def module_of(tensor: str) -> str:
    """Return the module of a tensor's name without ".weight": the inverse of how tensors are named here."""
    for module, name in _TOP_TENSORS.items():
        if name == tensor:
            return module
    _, layer, part = tensor.split(".", 2)
    module = next(module for module, name in _LAYER_TENSORS.items() if name == part)
    return f"model.layers.{layer}.{module}"


def _pairwise(module: str, values: "np.ndarray", config: Any) -> "np.ndarray":
    """Return the output rows of a query or key projection in llama.cpp's order; others unchanged."""
    if module.endswith("q_proj"):
        heads = config.num_attention_heads
    elif module.endswith("k_proj"):
        heads = config.num_key_value_heads
    else:
        return values
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _part(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_suffix(".part")


def _finish(writer: "GGUFWriter", path: Path) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _part(path).replace(path)
