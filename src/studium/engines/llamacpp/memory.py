"""What a model of llama.cpp will occupy, from its file's header, and what a worker does occupy."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from studium.engines.gguf_metadata import GgufHeader, LeftOut
from studium.errors import ModelBroken
from studium.records.models import MemoryEstimate, ModelSpec, Residence

_KV_CELL_BYTES = 2  # llama.cpp keeps keys and values as F16 unless told otherwise
_CONTEXT_STEP = 256  # and rounds the context of a slot up to this
_FLOAT_BYTES = 4
# The process without its model. Measured with xllamacpp 2026.10 on x86-64 Linux, models of 1 and 5 million
# parameters, 1 to 8 slots, 150 mixed asks: 40 to 45 MiB at the peak, compute buffers included.
PROCESS_BYTES = 48 * 1024 * 1024
# What CUDA's libraries and context add outside the GPU; not measured here, hence generous.
GPU_PROCESS_BYTES = 512 * 1024 * 1024


def batch_tokens(model: ModelSpec) -> int:
    """Return how many prompt tokens are computed at once.

    Embeddings need a whole text in one batch. On a CPU a batch of 128 is as fast as the default of 2048
    for small models and takes 3 MB less (measured, 1 M parameters); a GPU wants more at a time.
    """
    if model.embeddings:
        return model.context_tokens
    return 512 if model.gpu_layers else 128


def estimate(header: GgufHeader, model: ModelSpec, more_bytes: int = 0) -> MemoryEstimate:
    """Return a cautious upper estimate of a worker's peak memory.

    `more_bytes` are further files it maps: adapters, other parts of a split model. Raises ModelBroken
    where the header does not describe a model.
    """
    sizes = _Sizes(header, model.name)
    slot_tokens = -(-model.context_tokens // _CONTEXT_STEP) * _CONTEXT_STEP
    context_tokens = slot_tokens * model.slots
    kv_cache_bytes = sizes.kv_values_per_token * context_tokens * _KV_CELL_BYTES
    batch = batch_tokens(model)
    # One layer's intermediate results, the logits, and the attention scores and mask of the architectures
    # for which llama.cpp has no flash attention.
    compute_values = batch * (sizes.vocabulary + 4 * sizes.width + 3 * sizes.feed_forward)
    compute_values += batch * context_tokens * (sizes.heads + 1)
    process_bytes = PROCESS_BYTES + (GPU_PROCESS_BYTES if model.gpu_layers else 0)
    return MemoryEstimate(
        weights_bytes=header.file_bytes + more_bytes,
        kv_cache_bytes=kv_cache_bytes,
        overhead_bytes=process_bytes + compute_values * _FLOAT_BYTES,
        quantisation=header.quantisation,
    )


class _OverLayers(NamedTuple):
    """A number every layer has: all of them together, and the largest."""

    total: int
    most: int


class _Sizes:
    """The sizes a header gives; what an architecture does not name is taken at its largest."""

    def __init__(self, header: GgufHeader, name: str) -> None:
        self._metadata = header.metadata
        self._name = name
        self._architecture = header.metadata.get("general.architecture")
        kind = header.metadata.get("general.type", "model")
        if not isinstance(self._architecture, str) or kind != "model":
            raise ModelBroken(f"{name}: the file holds no model but {kind}", expected="a GGUF model")
        layers, self.width = self._whole("block_count"), self._whole("embedding_length")
        self.heads = self._over_layers("attention.head_count", layers, 1).most
        self.feed_forward = self._over_layers("feed_forward_length", layers, self.width).most
        kv_heads = self._over_layers("attention.head_count_kv", layers, self.heads).total
        head_width = self.width // max(self.heads, 1)
        key_width = self._whole("attention.key_length", head_width)
        value_width = self._whole("attention.value_length", head_width)
        self.kv_values_per_token = kv_heads * (key_width + value_width)
        tokens = header.metadata.get("tokenizer.ggml.tokens")
        self.vocabulary = tokens.length if isinstance(tokens, LeftOut) else self._whole("vocab_size", 0)

    def _whole(self, key: str, otherwise: int | None = None) -> int:
        value = self._metadata.get(f"{self._architecture}.{key}", otherwise)
        if not isinstance(value, int) or not 0 <= value < 2**32:
            raise ModelBroken(
                f"{self._name}: its header says {self._architecture}.{key} = {value!r}",
                expected="a whole number",
                try_next="export the file again",
            )
        return value

    def _over_layers(self, key: str, layers: int, otherwise: int) -> _OverLayers:
        """Read a number that is given once for all layers, or for each."""
        value = self._metadata.get(f"{self._architecture}.{key}")
        if isinstance(value, tuple):
            return _OverLayers(total=int(sum(value)), most=int(max(value, default=0)))
        each = self._whole(key, otherwise)
        return _OverLayers(total=each * layers, most=each)


def measure(model: str, pid: int, load_seconds: float | None, *, on_gpu: bool) -> Residence | None:
    """Return what a process occupies now and at its most, or None when it has ended. Blocks briefly."""
    try:
        fields = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
    except OSError:
        resident_bytes, peak_bytes = _measure_elsewhere(pid), None
    else:
        resident_bytes, peak_bytes = _kib(fields.get("VmRSS")), _kib(fields.get("VmHWM"))
    if resident_bytes is None:
        return None
    return Residence(
        model=model,
        resident_bytes=resident_bytes,
        peak_bytes=peak_bytes,
        vram_bytes=_vram_bytes(pid) if on_gpu else None,
        load_seconds=load_seconds,
        pid=pid,
    )


def _kib(field: str | None) -> int | None:
    """Read "1234 kB"; a process that ended but is not reaped yet has no such line."""
    return None if field is None else int(field.split()[0]) * 1024


def _measure_elsewhere(pid: int) -> int | None:
    """Ask psutil, on systems without /proc; there the peak is not known."""
    import psutil

    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return None


def _vram_bytes(pid: int) -> int | None:
    """Ask NVML what the process holds on all GPUs; None where there is no NVML or it does not tell."""
    import pynvml

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        devices = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        running = [
            entry for device in devices for entry in pynvml.nvmlDeviceGetComputeRunningProcesses(device)
        ]
        held = [entry.usedGpuMemory for entry in running if entry.pid == pid]
        return None if None in held else sum(held)
    return None
