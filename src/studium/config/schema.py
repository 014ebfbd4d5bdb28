"""Every option there is, with its default, as frozen dataclasses. Defaults suit a laptop without a GPU.

The records are plain: `registry` turns models and students into `ModelSpec` and `Student`, engines and the
server read their own section. How a value is read from YAML is said by its annotation (see `reading`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from studium.config.kinds import Choice, Duration, Name, Number, Size, Text, Whole, YesNo
from studium.config.units import GIB, MIB

AUTO = "auto"
COMPLEXITIES = ("simple", "medium", "complex", "expert")
TIERS = ("fast", "balanced", "quality")
TRAINING_USES = ("allowed", "forbidden")
REFINE_WHEN = ("doubt", "always", "asked", "never")
DEVICE_KINDS = ("cpu", "gpu")
LOG_LEVELS = ("debug", "info", "warning", "error")

Seconds = Annotated[float, Duration()]
Bytes = Annotated[int, Size()]
BodyBytes = Annotated[int, Size(least=1024)]
Plain = Annotated[str, Text()]
Prompt = Annotated[str, Text("text of at most 100,000 characters")]
Count = Annotated[int, Whole(1)]
StudentName = Annotated[str | None, Text("the name of a student")]
Money = Annotated[float | None, Number(0, 1e9)]
GpuSeconds = Annotated[float | None, Number(0, 1e9)]
Environment = Annotated[
    str | None,
    Text(
        "the NAME of an environment variable, such as MY_API_KEY",
        re.compile(r"[A-Z_][A-Z0-9_]{0,99}"),
        secret=True,
    ),
]
Url = Annotated[
    str | None,
    Text(
        "an http:// or https:// address without user, password or '?'",
        re.compile(r"https?://[^\s/@?#]+(/[^\s@?#]*)?"),
        secret=True,
    ),
]


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The HTTP endpoint. Keys of callers are comma-separated in the variable `api_keys_env` names.

    `max_dataset_bytes` is the largest file of rows that is taken for training.
    """

    host: Annotated[str, Text("a host name or address", re.compile(r"[A-Za-z0-9.:_-]{1,253}"))] = "127.0.0.1"
    port: Annotated[int, Whole(0, 65535)] = 8377
    api_keys_env: Environment = None
    max_body_bytes: BodyBytes = 8 * MIB
    max_dataset_bytes: BodyBytes = GIB
    header_timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 30.0
    request_timeout_s: Seconds = 300.0
    concurrent_requests_per_key: Count = 32
    max_connections: Count = 1024
    heartbeat_s: Seconds = 10.0


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """Memory that models share, the devices preferred first. The first of kind gpu is GPU 0, and so on.

    `slowdown` is how many times as long an ask takes there as where its model was measured.
    """

    name: Name
    memory_bytes: Annotated[int, Size(least=MIB)]
    kind: Annotated[str, Choice(DEVICE_KINDS)] = "cpu"
    slowdown: Annotated[float, Number(1, 1000)] = 1.0


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """Who may be in memory. `memory_budget_bytes` None: detected, less `safety_margin_bytes`.

    `devices` are declared instead of one budget, where models have several places to live. `lease_leave_s`
    is how long a training run may take to give its memory back before it is reported, `lease_quiet_s` how long
    nobody more urgent may have asked for anything before it gets it again.
    """

    memory_budget_bytes: Annotated[int | None, Size(automatic="auto", least=MIB)] = None
    safety_margin_bytes: Bytes = GIB
    max_models_at_once: Count = 6
    load_timeout_s: Seconds = 60.0
    patience_s: Seconds = 10.0
    devices: tuple[DeviceConfig, ...] = ()
    lease_leave_s: Seconds = 30.0
    lease_quiet_s: Seconds = 5.0


@dataclass(frozen=True, slots=True)
class ComplexityLimits:
    """Bounds for one complexity (requirement ENS-1): how many models, how long in all and for each.

    Asking stops once the answer is right with this `confidence`, 0 to 1, or can no longer change.
    """

    min_models: Count
    max_models: Count
    question_timeout_s: Seconds
    model_timeout_s: Seconds
    confidence: Annotated[float, Number(0, 1)] = 1.0


@dataclass(frozen=True, slots=True)
class EnsembleConfig:
    """How many models a question is worth. `complexity` is used where the caller names none.

    `auto` begins as for a simple question and goes on, up to what the question looks like, while it is not settled.
    The others are names of students that play a part: `courier` answers first where that may do, `master` where small
    ones differ, `judge` ranks answers in free words, `oracle` and then `arbiter` refine.
    """

    complexity: Annotated[str, Choice((AUTO, *COMPLEXITIES))] = AUTO
    simple: ComplexityLimits = ComplexityLimits(2, 3, 30.0, 30.0, 0.9)
    medium: ComplexityLimits = ComplexityLimits(4, 6, 45.0, 45.0, 0.95)
    complex: ComplexityLimits = ComplexityLimits(8, 8, 90.0, 90.0, 0.97)
    expert: ComplexityLimits = ComplexityLimits(10, 12, 120.0, 120.0, 0.98)
    courier: StudentName = None
    master: StudentName = None
    judge: StudentName = None
    oracle: StudentName = None
    arbiter: StudentName = None

    def limits(self, complexity: str) -> ComplexityLimits:
        """Return the bounds of one of COMPLEXITIES."""
        return {"simple": self.simple, "medium": self.medium, "complex": self.complex, "expert": self.expert}[
            complexity
        ]


@dataclass(frozen=True, slots=True)
class PriceConfig:
    """What a paid model costs, in US dollars per million tokens."""

    prompt_usd_per_million: Annotated[float, Number(0, 1e6)]
    completion_usd_per_million: Annotated[float, Number(0, 1e6)]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One engine under a name of your choice. `prices` is keyed by the engine's model source.

    `licence` and `training_use` say on which terms its models' words may be used to train others.
    """

    kind: Name
    url: Url = None
    api_key_env: Environment = None
    prices: Mapping[str, PriceConfig] = field(default_factory=dict[str, PriceConfig])
    options: Mapping[str, Plain] = field(default_factory=dict[str, str])
    licence: Plain = ""
    training_use: Annotated[str, Choice(TRAINING_USES)] = "forbidden"


@dataclass(frozen=True, slots=True)
class RefineConfig:
    """When a draft goes to the oracle and the arbiter that `ensemble` names.

    `doubt`: an answer whose confidence is below `doubt_below`; `asked`: only where the caller wants it.
    """

    when: Annotated[str, Choice(REFINE_WHEN)] = "doubt"
    doubt_below: Annotated[float, Number(0, 1)] = 0.8
    timeout_s: Seconds = 120.0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One loadable model; the fields are those of `records.models.ModelSpec`."""

    name: Name
    engine: Name
    source: Annotated[
        str, Text("a file, tag or model id, at most 1,000 characters", re.compile(r"\S.*"), 1000)
    ]
    context_tokens: Annotated[int, Whole(16, 10_000_000)] = 1024
    slots: Annotated[int, Whole(1, 256)] = 1
    adapters: tuple[Plain, ...] = ()
    embeddings: Annotated[bool, YesNo()] = False
    threads: Annotated[int, Whole(1, 1024)] = 1
    gpu_layers: Annotated[int, Whole(0, 10_000)] = 0
    options: Mapping[str, Plain] = field(default_factory=dict[str, str])
    family: Annotated[str, Text("the base model, such as qwen3-4b")] = ""


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How a student draws tokens; None leaves a choice to the engine."""

    temperature: Annotated[float | None, Number(0, 5)] = None
    top_k: Annotated[int | None, Whole(0)] = None
    top_p: Annotated[float | None, Number(0, 1)] = None
    repeat_penalty: Annotated[float | None, Number(0, 10)] = None
    seed: Annotated[int | None, Whole(0)] = None
    max_tokens: Annotated[int | None, Whole(1)] = None
    stop: tuple[Plain, ...] = ()


@dataclass(frozen=True, slots=True)
class StudentConfig:
    """A model with a system prompt. `model` None: the model of the student's own name.

    `base` is what `studium students create` derives the model from, where the engine can (Ollama).
    """

    name: Name
    model: Annotated[str | None, Text("the name of a model in 'models'")] = None
    base: Annotated[str | None, Text("a model the engine already has, such as mistral:7b")] = None
    system_prompt: Prompt = ""
    sampling: SamplingConfig = SamplingConfig()
    speciality: Plain = ""
    tier: Annotated[str, Choice(TIERS)] = "fast"
    priority: Annotated[int, Whole(-1000, 1000)] = 0

    @property
    def model_name(self) -> str:
        return self.model or self.name


@dataclass(frozen=True, slots=True)
class GovernorConfig:
    """What may be spent: US dollars for paid models, seconds on a GPU for local ones; None: no cap.

    A `session` is a training session or what a caller calls one. `max_tokens` is how long the answer of a paid
    model may be where nobody said and a cap in dollars is set. All else can be changed while running.
    """

    usd_per_request: Money = None
    usd_per_hour: Money = None
    usd_per_day: Money = None
    usd_per_session: Money = None
    gpu_s_per_request: GpuSeconds = None
    gpu_s_per_hour: GpuSeconds = None
    gpu_s_per_day: GpuSeconds = None
    gpu_s_per_session: GpuSeconds = None
    refinement: Annotated[bool, YesNo()] = True
    force_arbiter: Annotated[bool, YesNo()] = False
    max_tokens: Count = 1024


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """What is kept of answers, so that feedback can be given on them and students learned about.

    Without `keep_questions` no question and no answer is ever written, and there is no feedback.
    """

    keep_questions: Annotated[bool, YesNo()] = True
    keep_answers_s: Seconds = 30 * 86_400.0
    max_answers_bytes: Annotated[int, Size(least=MIB)] = 256 * MIB


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """Answers kept to be given again to the same question, and, where a model gives embeddings, to one that means it.

    Kept are settled answers whose students draw no random tokens, or what a caller wants kept. `similarity` is the
    cosine, 0 to 1, from which the words of two questions are compared: see `serve.cache.same_question`.
    """

    enabled: Annotated[bool, YesNo()] = True
    expiry_s: Seconds = 3600.0
    max_size_bytes: Annotated[int, Size(least=65_536)] = 64 * MIB
    max_entries: Count = 10_000
    by_meaning: Annotated[bool, YesNo()] = True
    similarity: Annotated[float, Number(0.5, 1)] = 0.9


@dataclass(frozen=True, slots=True)
class RoleConfig:
    """A further place in the team, asked by its own name: `student` holds it until an adapter is promoted there."""

    student: Annotated[str, Text("the name of a student")]


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    """How a challenger meets traffic: the shares of conversations it goes through, 0 to 1.

    With `autopromote` it becomes champion by itself once the gate says so; else that is told, and left to people.
    """

    steps: tuple[Annotated[float, Number(0.001, 1)], ...] = (0.05, 0.2, 0.5)
    autopromote: Annotated[bool, YesNo()] = False


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """When a model is held back, and how often models in memory are looked after; `quality_s` is between two problems.

    `errors` in a row hold it back, for `try_again_s` at first.
    """

    errors: Count = 3
    try_again_s: Seconds = 10.0
    probe_s: Seconds = 5.0
    quality_s: Seconds = 300.0


@dataclass(frozen=True, slots=True)
class ImproveConfig:
    """When a running Studium trains a role's student again by itself, where `automatic` says that it may.

    It looks every `check_s`; an improvement takes `minutes` at most. `min_new` grades since the last one are enough.
    """

    automatic: Annotated[bool, YesNo()] = False
    check_s: Seconds = 3600.0
    minutes: Annotated[float, Number(0.5, 10_000)] = 10.0
    min_accuracy: Annotated[float, Number(0, 1)] = 0.8
    min_new: Count = 200


@dataclass(frozen=True, slots=True)
class NightlyDistilConfig:
    """A recipe for distillation that a running Studium carries out every night `at` a local time; "" for none.

    What it makes is registered for `role` (None: the role of the recipe's last student) and judged by the gate on so
    many `problems` of each domain; whether it serves is left to people. A relative path is from the configuration.
    """

    recipe: Plain = ""
    at: Annotated[str, Text("a time of day such as 02:30", re.compile(r"([01]\d|2[0-3]):[0-5]\d"))] = "02:30"
    role: Annotated[str | None, Text("the name of a role")] = None
    problems: Annotated[int, Whole(1, 10_000)] = 200


@dataclass(frozen=True, slots=True)
class NightlyConfig:
    """What is done every night."""

    distil: NightlyDistilConfig = NightlyDistilConfig()


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: Annotated[str, Choice(LOG_LEVELS)] = "info"


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole file. With no students the embedded ones serve; `embedded_students` keeps them beside one's own."""

    workspace: Annotated[Path, Text("a folder")]
    server: ServerConfig = ServerConfig()
    fleet: FleetConfig = FleetConfig()
    ensemble: EnsembleConfig = EnsembleConfig()
    refine: RefineConfig = RefineConfig()
    engines: Mapping[str, EngineConfig] = field(default_factory=dict[str, EngineConfig])
    models: tuple[ModelConfig, ...] = ()
    students: tuple[StudentConfig, ...] = ()
    embedded_students: Annotated[bool, YesNo()] = False
    governor: GovernorConfig = GovernorConfig()
    store: StoreConfig = StoreConfig()
    cache: CacheConfig = CacheConfig()
    roles: Mapping[str, RoleConfig] = field(default_factory=dict[str, RoleConfig])
    rollout: RolloutConfig = RolloutConfig()
    health: HealthConfig = HealthConfig()
    improve: ImproveConfig = ImproveConfig()
    nightly: NightlyConfig = NightlyConfig()
    log: LogConfig = LogConfig()
