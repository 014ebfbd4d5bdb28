"""How much memory and time a run will take, told before it starts; nothing is loaded and no heavy library imported.

Memory is counted: weights, gradients, optimiser state, activations, logits, key-value cache. Activations follow
Korthikanti et al. (arXiv 2205.05198, section 4.1) term by term for a Llama block with fused attention: what each
operation keeps for the way back. Time is known only from kept runs of the same model and stage on this machine.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from studium.errors import ConfigurationError
from studium.hardware import read_gpus, read_memory
from studium.train.config import Optimiser, Recipe
from studium.train.row_stage import share_within
from studium.train.row_stage import steps_of as steps_for
from studium.train.run_folder import TRAINED_AT, RunFolder
from studium.train.stages.catalogue import ON_PROCESSOR
from studium.train.unsloth_bridge import wanted

if TYPE_CHECKING:
    from studium.train.recipe_file import Told

EMBEDDED = Path(__file__).resolve().parents[1] / "embedded"
# An interpreter with PyTorch, transformers, peft and trl: 410 to 610 MiB measured with a tiny model and its batch.
PROCESS_BYTES = 520 * 2**20
# What allocators hold beyond what is counted.
SLACK = 1.1
# Double-quantised NF4 (QLoRA, arXiv 2305.14314, section 3): 4 bits and 0.127 bits of constants per weight.
FOUR_BIT_BYTES = (4 + 0.127) / 8
_STATE_BYTES = {"adamw": 8.0, "muon": 4.5, "paged_adamw_8bit": 2.0}


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama-like model: counts, and whether input and output embeddings are one."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    head_width: int
    tied: bool = False

    @property
    def block(self) -> int:
        """Weights of one layer's matrices."""
        attention = self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads)
        return attention + 3 * self.width * self.inner

    @property
    def embeddings(self) -> int:
        return self.vocabulary * self.width * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        return self.block * self.layers + self.embeddings + self.width * (2 * self.layers + 1)

    def adapter(self, rank: int, targets: Sequence[str]) -> int:
        """Weights of a low-rank adapter on the named layers of every block."""
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        sizes = {
            "q_proj": self.width + queries,
            "k_proj": self.width + keys,
            "v_proj": self.width + keys,
            "o_proj": queries + self.width,
            "gate_proj": self.width + self.inner,
            "up_proj": self.width + self.inner,
            "down_proj": self.inner + self.width,
        }
        return rank * self.layers * sum(sizes.get(one, 0) for one in targets)


class Load(NamedTuple):
    """What a step holds at once: `rows` of `length` tokens forward and back; `drawn` rows while replies are drawn."""

    rows: int
    length: int
    drawn: int = 0
    reference: bool = False


class Precision(NamedTuple):
    """Bytes of a weight and of an activation; with `checkpointing` blocks are computed twice rather than kept.

    `fused_loss`: logits are made and used in pieces (TRL's head), never whole.
    """

    weight_bytes: int = 4
    activation_bytes: int = 4
    checkpointing: bool = False
    fused_loss: bool = False


_PLAIN = Precision()


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by what they are for."""

    weights: float
    gradients: float
    optimiser: float
    activations: float
    logits: float
    cache: float
    process: float = PROCESS_BYTES

    @property
    def total_bytes(self) -> int:
        """All of it; activations and the cache of drawing are not held at the same time."""
        held = self.weights + self.gradients + self.optimiser
        return round((held + max(self.activations + self.logits, self.cache)) * SLACK + self.process)


def memory(shape: Shape, recipe: Recipe, load: Load, precision: Precision = _PLAIN) -> Memory:
    """Return what a run holds at its most."""
    lora = recipe.lora
    adapter = shape.adapter(lora.rank, lora.targets)
    trained = adapter if lora.rank else shape.parameters
    if lora.four_bit:
        matrices = shape.block * shape.layers
        weights = matrices * FOUR_BIT_BYTES + (shape.parameters - matrices) * float(precision.weight_bytes)
    else:
        weights = float(shape.parameters * precision.weight_bytes)
    # Adapters are kept, and move, in 32 bits.
    bytes_each = 4 if lora.rank else precision.weight_bytes
    copies = 2 if load.reference else 1
    return Memory(
        weights=weights * copies + adapter * 4.0,
        gradients=trained * float(bytes_each),
        optimiser=trained * _STATE_BYTES[_known(recipe.optimiser)],
        activations=_activations(shape, load, precision),
        logits=_logits(shape, load, precision),
        cache=float(
            load.drawn
            * load.length
            * shape.layers
            * 2
            * shape.kv_heads
            * shape.head_width
            * precision.activation_bytes
        ),
    )


def _known(optimiser: Optimiser) -> str:
    return optimiser.name if optimiser.name in _STATE_BYTES else "adamw"


def _activations(shape: Shape, load: Load, precision: Precision) -> float:
    tokens = load.rows * load.length
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    # Kept per token of a block: two norms' inputs and outputs, q, k, v, what attention gave, its projection, and the
    # gate, its activation, up and their product.
    block = 5 * shape.width + 2 * queries + 2 * keys + 4 * shape.inner
    kept = block * shape.layers
    if precision.checkpointing:
        kept = shape.width * shape.layers + block
    return float(tokens * kept * precision.activation_bytes)


def _logits(shape: Shape, load: Load, precision: Precision) -> float:
    """Logits, their log-probabilities and the gradient, in 32 bits; in pieces of 1,024 tokens where fused."""
    tokens = load.rows * load.length
    if precision.fused_loss:
        tokens = min(tokens, 1024)
    return 3.0 * tokens * shape.vocabulary * 4


def load_of(recipe: Recipe, longest: int | None = None) -> Load:
    """Return what a step of a recipe holds; `longest` is the longest row's tokens, where it is known.

    Stages that draw replies learn from at most 64 rows and draw at most 256 at once (`rl.engine`, `rl.samplers`).
    """
    length = min(recipe.max_tokens, longest or recipe.max_tokens)
    draws: Any = getattr(recipe, "draws", None)
    objective: Any = getattr(recipe, "objective", None)
    if draws is None:
        stage = type(recipe).__module__.rpartition(".")[2]
        # A pair is two rows; KTO keeps a reference model (DPO its log-probabilities), but for an adapter.
        rows = recipe.batch * (2 if stage in ("dpo", "kto") else 1)
        return Load(rows, length, reference=stage == "kto" and not recipe.lora.rank)
    rows = recipe.batch * draws.each
    return Load(min(64, rows), length, min(256, rows), objective is not None and objective.kl > 0)


def precision_of(recipe: Recipe) -> Precision:
    """Return what a recipe says of precision; 32 bits, and activations kept, where it says nothing."""
    compute: Any = getattr(recipe, "compute", None)
    if compute is None:
        return Precision()
    # Weights stay in 32 bits: `bf16` computes in 16. Unsloth holds them in 16 then.
    return Precision(
        weight_bytes=2 if compute.unsloth and compute.bf16 else 4,
        activation_bytes=2 if compute.bf16 else 4,
        checkpointing=compute.gradient_checkpointing,
        fused_loss=getattr(recipe, "learn", "text") == "text",
    )


def memory_of(shape: Shape, recipe: Recipe, longest: int | None = None) -> Memory:
    """Return what a run of the recipe holds; `longest` is its longest row's tokens. A teacher is held in full."""
    held = memory(shape, recipe, load_of(recipe, longest), precision_of(recipe))
    teacher = shape_of(str(getattr(recipe, "teacher", ""))) if getattr(recipe, "teacher", "") else None
    return replace(held, weights=held.weights + 4.0 * teacher.parameters) if teacher else held


def shape_of(reference: str) -> Shape | None:
    """Return the shape of a model by name, GGUF file, folder or config.json; None where it is not on this machine."""
    path = Path(reference).expanduser()
    embedded = EMBEDDED / f"{reference}.gguf"
    if reference.isidentifier() and embedded.exists():
        return _of_gguf(embedded)
    if path.suffix == ".gguf" and path.exists():
        return _of_gguf(path)
    for file in (path, path / "config.json"):
        if file.is_file():
            return _of_config(file)
    return None


def _of_config(path: Path) -> Shape:
    try:
        told = json.loads(path.read_text())
        heads = int(told["num_attention_heads"])
        return Shape(
            width=int(told["hidden_size"]),
            layers=int(told["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(told.get("num_key_value_heads") or heads),
            inner=int(told["intermediate_size"]),
            vocabulary=int(told["vocab_size"]),
            head_width=int(told.get("head_dim") or int(told["hidden_size"]) // heads),
            tied=bool(told.get("tie_word_embeddings", False)),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} does not tell a model's shape: {type(error).__name__}: {error}",
            expected="a config.json with hidden_size, num_hidden_layers, num_attention_heads and so on",
        ) from error


def _of_gguf(path: Path) -> Shape:
    import gguf

    reader = gguf.GGUFReader(path)

    def value(key: str) -> int:
        field = reader.get_field(f"llama.{key}")
        if field is None:
            raise ConfigurationError(f"{path.name} has no llama.{key}", expected="a GGUF file of a Llama")
        return int(field.contents())

    heads, width = value("attention.head_count"), value("embedding_length")
    return Shape(
        width=width,
        layers=value("block_count"),
        heads=heads,
        kv_heads=value("attention.head_count_kv"),
        inner=value("feed_forward_length"),
        vocabulary=value("vocab_size"),
        head_width=width // heads,
        tied=all(one.name != "output.weight" for one in reader.tensors),
    )


class Pace(NamedTuple):
    """What kept runs took for a step of a row, in seconds, and how many runs tell so."""

    seconds_per_row: float
    runs: int


def rows_per_step(recipe: Recipe) -> int:
    draws: Any = getattr(recipe, "draws", None)
    return recipe.batch * recipe.accumulate * (draws.each if draws is not None else 1)


def pace(runs: Iterable[RunFolder], stage: str, recipe: Recipe) -> Pace | None:
    """Return how fast kept runs of this stage, model, adapter and length were; None where there are none."""
    found: list[tuple[float, int]] = []
    for run in runs:
        told = run.told()
        kept = told.get("recipe", {})
        is_ours = told.get("stage") == stage and TRAINED_AT not in told
        alike = is_ours and all(kept.get(key) == getattr(recipe, key) for key in ("model", "max_tokens"))
        status = run.status()
        if alike and kept["lora"]["rank"] == recipe.lora.rank and status.step >= 3:
            rows = kept["batch"] * kept["accumulate"] * kept.get("draws", {}).get("each", 1)
            found.append((status.seconds / status.step / rows, status.step))
    return Pace(_median_by_steps(found), len(found)) if found else None


def _median_by_steps(paces: list[tuple[float, int]]) -> float:
    """Return the pace at which half of all steps were done: short runs, which are mostly their beginning, tell less."""
    half, seen = sum(steps for _, steps in paces) / 2, 0
    for found, steps in sorted(paces):
        seen += steps
        if seen >= half:
            return found
    raise AssertionError


def seconds_for(pace_known: Pace, recipe: Recipe, steps: int) -> float:
    return pace_known.seconds_per_row * rows_per_step(recipe) * steps


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known before a run: `memory` None where the model's shape is not, `seconds` None before measured runs."""

    stage: str
    model: str
    shape: Shape | None
    memory: Memory | None
    memory_bytes: int
    steps: int | None
    seconds: float | None
    available_bytes: int
    on_gpu: bool = False
    runs: int = 0
    not_counted: str = ""
    step_seconds: float | None = None

    def data(self) -> dict[str, Any]:
        """Return it for programs."""
        parts = None if self.memory is None else {k: round(v) for k, v in asdict(self.memory).items()}
        return {
            "stage": self.stage,
            "model": self.model,
            "parameters": self.shape.parameters if self.shape else None,
            "memory_bytes": self.memory_bytes if self.memory else None,
            "parts_bytes": parts,
            "available_bytes": self.available_bytes,
            "on_gpu": self.on_gpu,
            "steps": self.steps,
            "seconds": self.seconds,
            "measured_runs": self.runs,
            "not_counted": self.not_counted,
        }

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        if self.shape is None or self.memory is None:
            yield f"{self.stage} of {self.model}: memory unknown, its config.json is not here (--shape FILE)"
        else:
            yield f"{self.stage} of {self.model}: {self.shape.parameters:,} weights"
            parts = ((name, value) for name, value in asdict(self.memory).items() if value)
            told = ", ".join(f"{name} {_size(value)}" for name, value in parts)
            free = f"{_size(self.available_bytes)} is free{' on the GPU' if self.on_gpu else ''}"
            yield f"memory: about {_size(self.memory_bytes)} ({told}); {free}"
            if self.not_counted:
                yield f"memory: not counted: {self.not_counted}"
        steps = "steps unknown" if self.steps is None else f"{self.steps:,} steps"
        if self.steps is None and self.step_seconds is not None:
            yield f"time: unknown, as is the number of steps; one took {self.step_seconds:.2g} s in kept runs"
        elif self.seconds is None:
            yield f"time: unknown before the first measured run of this model and stage; {steps}"
        else:
            yield f"time: about {_time(self.seconds)}, from {self.runs} kept runs; {steps}"


def foresee(told: "Told", runs: Sequence[RunFolder], shape_from: str) -> Forecast:
    """Return the forecast of a recipe. Reads the model's header, kept runs and what memory is free."""
    recipe = told.recipe
    shape = shape_of(shape_from)
    held = memory_of(shape, recipe) if shape else None
    steps = steps_of(told.stage, recipe)
    known = pace(runs, told.stage, recipe)
    free = free_memory(told.stage)
    return Forecast(
        stage=told.stage,
        model=recipe.model,
        shape=shape,
        memory=held,
        memory_bytes=held.total_bytes if held else PROCESS_BYTES,
        steps=steps,
        seconds=seconds_for(known, recipe, steps) if known and steps is not None else None,
        available_bytes=free.num_bytes,
        on_gpu=free.on_gpu,
        runs=known.runs if known else 0,
        step_seconds=seconds_for(known, recipe, 1) if known else None,
        not_counted="what Unsloth's kernels save; it should take less" if wanted(recipe) else "",
    )


class Free(NamedTuple):
    """Memory that is free where a stage trains."""

    num_bytes: int
    on_gpu: bool


def free_memory(stage: str) -> Free:
    """Return what is free where a stage trains: on the GPU, if there is one and the stage's batches are made there."""
    gpus = () if stage in ON_PROCESSOR else read_gpus()
    if gpus:
        return Free(max(gpu.vram_free_bytes for gpu in gpus), on_gpu=True)
    return Free(read_memory().available, on_gpu=False)


def steps_of(stage: str, recipe: Recipe) -> int | None:
    """Return how many steps a stage takes; None where its files would have to be read to tell, or its teacher asked.

    Raises ConfigurationError where old rows leave no room for new ones, as the stage does.
    """
    if recipe.steps:
        return recipe.steps
    if stage == "distil":
        return None
    if not recipe.data or any(
        source.file or source.teach not in ("solutions", "prompts") for source in recipe.data
    ):
        return None
    rows = sum(source.num_problems for source in recipe.data)
    # SFT alone has its old rows within the batch; elsewhere they come beside it.
    num_old = len(recipe.replay.data) if stage == "sft" else 0
    return steps_for(recipe, rows, share_within(recipe, num_old))


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f} MiB"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
