"""Models and students as the configuration declares them, and what an engine knows about a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from studium.records.messages import Sampling


class Tier(StrEnum):
    """Where a model stands between fast and good (requirement ENS-2; gold is the fast one)."""

    FAST = "fast"
    BALANCED = "balanced"
    QUALITY = "quality"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One loadable model: which engine runs it, from what, and in what shape.

    `name` is unique in a roster and is what residency counts as one tenant of memory.
    `source` is the engine's word for it: a GGUF path, an Ollama tag, a model id of an API, a
    script. `adapters` are LoRA files (GGUF for llama.cpp) applied at scale 1. `gpu` is the one GPU its
    layers go to, by NVML's number; None leaves that to the engine. `family` names the base it was made from, where that
    was said: models of one family share mistakes.
    """

    name: str
    engine: str
    source: str
    context_tokens: int = 1024
    slots: int = 1
    adapters: tuple[str, ...] = ()
    embeddings: bool = False
    threads: int = 1
    gpu_layers: int = 0
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    gpu: int | None = None
    family: str = ""


@dataclass(frozen=True, slots=True)
class Student:
    """A model specialised by a system prompt and sampling (requirement SES-1).

    Several students may share one model: they then share its place in memory.
    `speciality` is for people; `priority` is higher for those to be asked first. `skills` maps a
    domain's name to the share of fresh problems it was measured to get right, 0 to 1. `topics` maps a topic's name
    to the share of its proposals there that were useful: such a student works in sessions and answers no questions.
    `adapter` is ROLE/NAME of the adapter through which it speaks, "" for the model as the roster has it;
    `former_skills` are those of the model before it, which it may have kept.
    """

    name: str
    model: ModelSpec
    system_prompt: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    speciality: str = ""
    tier: Tier = Tier.FAST
    priority: int = 0
    skills: Mapping[str, float] = field(default_factory=dict[str, float])
    topics: Mapping[str, float] = field(default_factory=dict[str, float])
    adapter: str = ""
    former_skills: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do. `manages_memory` says whether its models occupy our budget.

    `places_models`: it starts a model where it is told to, on one GPU or on the processor.
    """

    manages_memory: bool
    places_models: bool = False
    logprobs: bool = False
    json_schema: bool = False
    grammar: bool = False
    embeddings: bool = False
    adapters: bool = False


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes a model will occupy before it was ever measured, from its file's metadata.

    `total_bytes` is a cautious upper estimate: weights + KV cache + compute buffers + process.
    `quantisation` is how the weights are stored (F16, Q4_K_M), empty where the file does not say.
    """

    weights_bytes: int
    kv_cache_bytes: int
    overhead_bytes: int
    quantisation: str = ""

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.overhead_bytes


@dataclass(frozen=True, slots=True)
class Residence:
    """A model in memory as its engine reports it now.

    `resident_bytes` is what it holds at this moment, `peak_bytes` the most since it was loaded;
    `vram_bytes` the part on a GPU. None where the engine cannot tell.
    """

    model: str
    resident_bytes: int | None
    peak_bytes: int | None
    vram_bytes: int | None = None
    load_seconds: float | None = None
    pid: int | None = None
