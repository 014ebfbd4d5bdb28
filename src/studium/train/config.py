"""What a training run is told, as frozen dataclasses read from a YAML recipe: an unknown key is an error.

Every stage's options extend `Recipe`, which holds what all share. Reading a recipe imports no heavy library, so
that a mistake in it is told at once. Defaults suit the embedded students on a processor.
"""

from dataclasses import dataclass, field
from typing import Annotated

from studium.config.kinds import Choice, Name, Number, Text, Whole, YesNo
from studium.config.schema import Count, Plain

Share = Annotated[float, Number(0, 1)]
Rate = Annotated[float, Number(0, 1)]
Seed = Annotated[int, Whole(0)]
Steps = Annotated[int, Whole(0)]
Model = Annotated[str, Text("a student's name, a folder, a GGUF file or a hub's name")]
Levels = tuple[Annotated[int, Whole(1)], ...]
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from: fresh problems of a `domain`, made by seed on the training side, or a `file` of JSON lines.

    `teach` says what of a problem's solution is a row: all of it, each of its steps with the steps before as the
    start of the reply, or nothing (a prompt, for stages that draw replies). `levels` empty: all. `rows`: so many
    problems of a domain, at most so many lines of a file; 0: 512 problems, every line. `thoughts`: whether a step's
    thought is taught before it, where the domain has thoughts. `beside` names another domain that is measured on:
    problems that it could have asked too are left out.
    """

    domain: Plain = ""
    file: Plain = ""
    levels: Levels = ()
    rows: Annotated[int, Whole(0)] = 0
    seed: Seed = 1
    teach: Annotated[str, Choice(("solutions", "steps", "prompts", "step-prompts"))] = "solutions"
    thoughts: Annotated[bool, YesNo()] = False
    beside: Plain = ""
    licence: Plain = ""

    @property
    def num_problems(self) -> int:
        """How many problems of a domain there are to be."""
        return self.rows or 512


@dataclass(frozen=True, slots=True)
class Replay:
    """Old skills mixed in against forgetting: `share` of every batch is drawn from `data`."""

    share: Share = 0.3
    data: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Lora:
    """A low-rank adapter (Hu et al. 2021) instead of all weights; rank 0 trains all weights."""

    rank: Annotated[int, Whole(0, 1024)] = 0
    alpha: Annotated[float, Number(0, 4096)] = 16.0
    dropout: Share = 0.0
    targets: tuple[Plain, ...] = LAYERS
    four_bit: Annotated[bool, YesNo()] = False


@dataclass(frozen=True, slots=True)
class Optimiser:
    """How weights move. `rate` is the peak, reached after `warmup_steps`; `clip_norm` bounds the gradient's norm."""

    name: Annotated[str, Choice(("adamw", "muon", "paged_adamw_8bit"))] = "adamw"
    rate: Rate = 1e-3
    schedule: Annotated[str, Choice(("cosine", "linear", "constant"))] = "cosine"
    warmup_steps: Steps = 10
    weight_decay: Share = 0.0
    clip_norm: Annotated[float, Number(0, 1e6)] = 1.0


@dataclass(frozen=True, slots=True)
class Validation:
    """Problems kept from training that are answered every so many steps (0: never), greedily; the best is kept.

    Files among `data` hold rows kept from training, whose loss is measured where rows are given (SFT, DPO, KTO,
    distillation); without problems the lowest loss is best. A run ends early after `patience` validations without a
    better one, or at a score of `enough` (0: neither).
    """

    every_steps: Steps = 50
    problems: Annotated[int, Whole(0, 100_000)] = 100
    patience: Annotated[int, Whole(0)] = 0
    enough: Share = 0.0
    data: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Watch:
    """Limits whose crossing is acted on (`watchers`): `act` says what at most, advice comes always."""

    act: Annotated[str, Choice(("advise", "skip", "lower", "stop"))] = "stop"
    loss_spike: Annotated[float, Number(1, 1e6)] = 4.0
    max_kl: Annotated[float, Number(0, 1e6)] = 0.1
    min_entropy: Annotated[float, Number(0, 100)] = 0.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What every stage is told. `steps` 0: as many as `epochs` need. A step sees `batch` x `accumulate` rows."""

    model: Model
    data: tuple[Source, ...] = ()
    name: Name = "run"
    seed: Seed = 0
    steps: Steps = 0
    epochs: Annotated[float, Number(0, 1000)] = 1.0
    batch: Count = 32
    accumulate: Count = 1
    max_tokens: Annotated[int, Whole(8, 1_000_000)] = 512
    optimiser: Optimiser = field(default_factory=Optimiser)
    lora: Lora = field(default_factory=Lora)
    replay: Replay = field(default_factory=Replay)
    validation: Validation = field(default_factory=Validation)
    watch: Watch = field(default_factory=Watch)
    save_every_s: Annotated[float, Number(0, 86_400)] = 60.0
    allowed_licences: tuple[Plain, ...] = ("Apache-2.0", "MIT", "CC0-1.0", "CC-BY-4.0", "generated", "own")
