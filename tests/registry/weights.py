"""Small sound files of weights, written by hand: what a trained adapter of the embedded student sprout looks like."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

from studium.engines.gguf_metadata import read_gguf
from studium.registry import EMBEDDED

BASE = "sprout"
RANK = 2
CHANGED = "blk.0.attn_q.weight"
SETTINGS = {
    "peft_type": "LORA",
    "r": RANK,
    "lora_alpha": 4,
    "target_modules": ["q_proj"],
    "auto_mapping": {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers.models.llama"},
}

Shape = tuple[int, ...]
Value = str | float | int


def base_file() -> Path:
    return EMBEDDED / f"{BASE}.gguf"


def changed_shape() -> Shape:
    return next(one.shape for one in read_gguf(base_file()).listed if one.name == CHANGED)


def gguf(metadata: Mapping[str, Value], tensors: Mapping[str, Shape]) -> bytes:
    """Return a GGUF file of zeros in full precision."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_text(name) + _value(value) for name, value in metadata.items())
    offset = 0
    for name, shape in tensors.items():
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        offset += -(-_weights(shape) * 4 // 32) * 32
    return head + bytes(-len(head) % 32) + bytes(offset)


def safetensors(tensors: Mapping[str, Shape]) -> bytes:
    """Return a safetensors file of zeros in full precision."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors.items():
        end = offset + _weights(shape) * 4
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


def adapter_files(name: str = "tiny") -> dict[str, bytes]:
    """Return the files of an adapter as PEFT and the export leave them."""
    columns, rows = changed_shape()
    halves = {f"{CHANGED}.lora_a": (columns, RANK), f"{CHANGED}.lora_b": (RANK, rows)}
    told: dict[str, Value] = {
        "general.architecture": "llama",
        "general.type": "adapter",
        "general.name": name,
        "adapter.type": "lora",
        "adapter.lora.alpha": 4.0,
    }
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    peft = {f"{module}.lora_A.weight": (RANK, columns), f"{module}.lora_B.weight": (rows, RANK)}
    return {
        "adapter.gguf": gguf(told, halves),
        "adapter_model.safetensors": safetensors(peft),
        "adapter_config.json": json.dumps(SETTINGS).encode(),
        "README.md": f"# {name}\n".encode(),
    }


def adapter_folder(folder: Path, name: str = "tiny") -> Path:
    folder.mkdir(parents=True)
    for file, content in adapter_files(name).items():
        (folder / file).write_bytes(content)
    return folder


def model_folder(folder: Path) -> Path:
    """Return a folder with a whole model: the embedded student's own file."""
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(base_file().read_bytes())
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def _weights(shape: Shape) -> int:
    size = 1
    for one in shape:
        size *= one
    return size


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    return struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)
