"""Random-weight Llama GGUF files of any size, made on the spot: models whose loading costs something.

They say nothing sensible and never end by themselves. Every byte is a token, so a prompt has as many
tokens as bytes. Weights are F16, written tensor by tensor from one block of random numbers, so a file of
many gigabytes needs little memory and no more time than the disk takes. Needs numpy and gguf only.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np

HEAD_WIDTH = 64
CONTEXT_TOKENS = 4096
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY_TOKENS = 256 + len(_SPECIALS)
_BLOCK_VALUES = 1 << 22
_SCALE = 0.02
# Width by the size it is good for: about 8 to 32 layers in each range.
_WIDTHS = ((10, 256), (150, 512), (1_000, 1024), (4_000, 2048))
_WIDEST = 4096


class Shape(NamedTuple):
    """Sizes of a Llama with four query heads to one key-value head."""

    width: int
    layers: int

    @property
    def heads(self) -> int:
        return self.width // HEAD_WIDTH

    @property
    def kv_width(self) -> int:
        return self.width // 4

    @property
    def feed_forward(self) -> int:
        return 3 * self.width


def shape_for(megabytes: float) -> Shape:
    """Return a shape whose F16 weights take about `megabytes` (10^6 bytes)."""
    width = next((width for most, width in _WIDTHS if megabytes < most), _WIDEST)
    layer_bytes = 2 * sum(rows * columns for _, rows, columns in _matrices(Shape(width, 1)))
    return Shape(width, max(1, round(megabytes * 1e6 / layer_bytes)))


def write_random_gguf(path: Path, megabytes: float, seed: int = 0) -> Path:
    """Write a model of about `megabytes` (10^6 bytes) to `path`; equal seeds give equal files."""
    shape = shape_for(megabytes)
    rng = np.random.default_rng(seed)
    block = (rng.standard_normal(_BLOCK_VALUES, np.float32) * _SCALE).astype(np.float16)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    _add_sizes(writer, shape, path.stem)
    add_byte_tokenizer(writer)
    for name, size in _sizes(shape):
        kind = np.float16 if len(size) > 1 else np.float32
        writer.add_tensor_info(name, size, np.dtype(kind), int(np.prod(size)) * np.dtype(kind).itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, size in _sizes(shape):
        writer.write_tensor_data(_values(name, size, block, int(rng.integers(_BLOCK_VALUES))))
    writer.close()
    return path


def _values(name: str, size: tuple[int, ...], block: np.ndarray, start: int) -> np.ndarray:
    if len(size) == 1:
        return np.ones(size, np.float32)
    values = np.resize(np.roll(block, start), size)
    if name == "token_embd.weight":
        # The output is tied to it: a mark of zeros is never the likeliest, so the model never ends by itself.
        values[256:] = 0
    return values


def _matrices(shape: Shape) -> Iterator[tuple[str, int, int]]:
    """Yield name, rows and columns of every matrix of one layer."""
    width, kv_width, feed_forward = shape.width, shape.kv_width, shape.feed_forward
    yield from (("attn_q", width, width), ("attn_k", kv_width, width), ("attn_v", kv_width, width))
    yield from (("attn_output", width, width), ("ffn_gate", feed_forward, width))
    yield from (("ffn_up", feed_forward, width), ("ffn_down", width, feed_forward))


def _sizes(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (VOCABULARY_TOKENS, shape.width)
    for layer in range(shape.layers):
        for norm in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{norm}.weight", (shape.width,)
        for name, rows, columns in _matrices(shape):
            yield f"blk.{layer}.{name}.weight", (rows, columns)
    yield "output_norm.weight", (shape.width,)


def _add_sizes(writer: gguf.GGUFWriter, shape: Shape, name: str) -> None:
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_width // HEAD_WIDTH)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(VOCABULARY_TOKENS)


def add_byte_tokenizer(writer: gguf.GGUFWriter) -> None:
    """Add a tokenizer for which every byte is a token and ChatML's marks are special."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*byte_tokens(), *_SPECIALS])
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * len(_SPECIALS))
    # One merge that never applies: llama.cpp refuses a byte-level vocabulary without any.
    writer.add_token_merges(["\u0100 \u0100"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(258)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def byte_tokens() -> list[str]:
    """Return the printable stand-in of every byte, as GPT-2's byte-level tokenizer writes them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    stand_in = {byte: chr(byte) for byte in printable}
    stand_in |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [stand_in[byte] for byte in range(256)]
