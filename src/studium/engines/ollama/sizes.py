"""What an Ollama model will occupy, from what Ollama says about its file.

Ollama's own prediction is the file plus the KV cache of 16-bit floats plus a surcharge for the batch; ours is the
same with a fixed surcharge, kept until the model was measured.
"""

from collections.abc import Mapping
from typing import Any

from studium.engines.gguf_metadata import quantisation_name
from studium.errors import ModelBroken
from studium.records.models import MemoryEstimate

OVERHEAD_BYTES = 512 << 20
"""The runner and its compute buffers: a guess above what a 7 B model at batch 512 needs."""
_CACHE_BYTES_PER_VALUE = 2


def estimate_bytes(
    model: str, file_bytes: int, info: Mapping[str, Any], *, context_tokens: int, slots: int
) -> MemoryEstimate:
    """Return the estimate of a model of `file_bytes` whose /api/show gave `info` as model_info.

    KV cache = layers x KV heads x (key + value length) x context x slots x 2 bytes. Raises ModelBroken where
    the metadata lacks a number.
    """
    architecture = info.get("general.architecture")
    try:
        layers = int(info[f"{architecture}.block_count"])
        heads = int(_first(info[f"{architecture}.attention.head_count"]))
        kv_heads = info.get(f"{architecture}.attention.head_count_kv") or heads
        width = int(info[f"{architecture}.embedding_length"]) // heads
        key_length = int(info.get(f"{architecture}.attention.key_length") or width)
        value_length = int(info.get(f"{architecture}.attention.value_length") or width)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as cause:
        raise ModelBroken(
            f"{model}: Ollama's metadata lacks {cause}",
            expected="the sizes of layers and heads in model_info",
            try_next=f"see `ollama show {model}`, and pull the model again",
        ) from cause
    # Hybrid models give one number of heads per layer.
    layer_heads = sum(kv_heads) if isinstance(kv_heads, list) else layers * int(kv_heads)
    values = layer_heads * (key_length + value_length) * context_tokens * slots
    return MemoryEstimate(
        weights_bytes=file_bytes,
        kv_cache_bytes=values * _CACHE_BYTES_PER_VALUE,
        overhead_bytes=OVERHEAD_BYTES,
        quantisation=quantisation_name(info.get("general.file_type")),
    )


def _first(value: Any) -> Any:
    return max(value) if isinstance(value, list) else value
