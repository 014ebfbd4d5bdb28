"""A model that learns: weights (all, or a low-rank adapter's), optimiser, schedule, random states; saved and restored.

It takes gradients of whatever loss it is given and changes weights only if it may. What it saves decides every step to
come, so that a run taken up again is the same run, bit for bit on a processor.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import cos, pi
from typing import TYPE_CHECKING, Any

from studium.errors import ConfigurationError, DoesNotFit
from studium.hardware import read_memory
from studium.train.config import Lora, Optimiser
from studium.train.models import Loaded, in_full, load

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from studium.train.unsloth_bridge import Fast

_FLOOR = 0.1
# Beside the weights: what is read of a file, a layer in both forms, the adapter.
_MERGING_ROOM = 1.2


class Learner:
    """A model under training. `model` is what losses are computed with: the adapter's view of it, with one.

    `beside` names modules that are trained whole where an adapter is trained, and that are no part of it.
    """

    def __init__(
        self,
        loaded: Loaded,
        optimiser: Optimiser,
        lora: Lora,
        *,
        steps: int,
        seed: int,
        beside: Sequence[str] = (),
    ) -> None:
        import torch

        torch.manual_seed(seed)
        self.loaded = loaded
        self.model: Any = with_lora(loaded.model, lora, loaded.unsloth) if lora.rank else loaded.model
        for name in beside:
            # The adapter's view froze it. PEFT's modules_to_save would write it into the adapter, which serves.
            loaded.model.get_submodule(name).requires_grad_(True)
        self.model.train()
        self._settings = optimiser
        self._steps = steps
        self._factor = 1.0
        self.trained = [one for one in self.model.parameters() if one.requires_grad]
        self.optimisers = optimisers_of(self.model, optimiser)

    def update(
        self,
        number: int,
        losses: "Iterable[torch.Tensor]",
        allow: Callable[[Mapping[str, float]], bool],
    ) -> dict[str, float]:
        """Take one step along the sum of the losses' gradients (one backward pass each), if it may.

        Returns loss, gradient norm before clipping and rate.
        """
        import torch

        self.model.zero_grad(set_to_none=True)
        total = 0.0
        for loss in losses:
            loss.backward()
            total += float(loss.detach())
        bound = self._settings.clip_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained, bound))
        rate = self._factor * fraction_of_peak(self._settings, number, self._steps)
        told = {"loss": total, "gradient_norm": norm, "rate": rate * self._settings.rate}
        if allow(told):
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = group["initial_lr"] * rate
                optimiser.step()
        return told

    def lower_rate(self, factor: float) -> None:
        self._factor *= factor

    def state(self) -> dict[str, Any]:
        import torch

        return {
            "weights": self.keep(),
            "optimisers": [one.state_dict() for one in self.optimisers],
            "factor": self._factor,
            "random": torch.get_rng_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        import torch

        self.use(state["weights"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self._factor = state["factor"]
        torch.set_rng_state(state["random"])

    def keep(self) -> "dict[str, torch.Tensor]":
        """Return a copy of the trained weights."""
        named = self.model.named_parameters()
        return {name: one.detach().clone() for name, one in named if one.requires_grad}

    def use(self, kept: "Mapping[str, torch.Tensor]") -> None:
        """Put kept weights in place."""
        import torch

        with torch.no_grad():
            for name, one in self.model.named_parameters():
                if one.requires_grad:
                    one.copy_(kept[name])

    def merged(self) -> Loaded:
        """Return the model as it serves: an adapter merged into its base, for good."""
        if self.loaded.unsloth or getattr(self.model, "is_loaded_in_4bit", False):
            return self.loaded._replace(model=_merged_in_full(self.model, self.loaded.reference).eval())
        model = self.model.merge_and_unload() if hasattr(self.model, "merge_and_unload") else self.model
        return self.loaded._replace(model=model.eval())


def with_lora(model: "PreTrainedModel", lora: Lora, unsloth: "Fast | None" = None) -> Any:
    """Return the model with an untrained low-rank adapter, whose weights alone are trained."""
    from peft import LoraConfig, get_peft_model

    known = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if missing := [one for one in lora.targets if one not in known]:
        raise ConfigurationError(
            f"the model has no layers called {', '.join(missing)}",
            expected=f"names of its linear layers, such as {', '.join(sorted(k for k in known if '_proj' in k))}",
            try_next="correct lora.targets",
        )
    if unsloth:
        return unsloth.adapted(model, lora)
    settings = LoraConfig(
        r=lora.rank, lora_alpha=int(lora.alpha), lora_dropout=lora.dropout, target_modules=list(lora.targets)
    )
    return get_peft_model(model, settings)


def _merged_in_full(model: Any, reference: str) -> Any:
    """Return an adapter merged into its base, loaded anew in full precision: 4 bits would round it away (peft#2105).

    On the processor, as a card that trains in 4 bits has no room for it; in 32 bits, or 16 where memory asks for it.
    Raises DoesNotFit.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    settings, adapter = model.peft_config["default"], get_peft_model_state_dict(model)
    four_bit = getattr(model, "is_loaded_in_4bit", False)
    base: Any = in_full(reference, dtype=_merging_dtype(model)) if four_bit else load(reference).model
    whole: Any = get_peft_model(base, settings)
    set_peft_model_state_dict(whole, adapter)
    return whole.merge_and_unload()


def _merging_dtype(model: Any) -> "torch.dtype":
    """Return the precision in which all of a model's weights fit into main memory. Raises DoesNotFit."""
    import torch

    weights = model.num_parameters()  # which counts what 4-bit weights stand for
    free_bytes = read_memory().available
    for dtype in (torch.float32, torch.bfloat16):
        if weights * dtype.itemsize * _MERGING_ROOM <= free_bytes:
            return dtype
    raise DoesNotFit(
        f"merging the adapter takes {weights * 2 * _MERGING_ROOM / 2**30:.0f} GiB of main memory, "
        f"{free_bytes / 2**30:.0f} GiB is free",
        expected="room for the whole model in 16 bits",
        try_next="the adapter is kept: serve it beside its base, or free memory and: studium train resume NAME",
    )


def fraction_of_peak(settings: Optimiser, step: int, steps: int) -> float:
    """Return the fraction of the peak rate for a step, from 0: a linear warm-up, then the schedule down to a tenth."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    progress = min(1.0, (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps))
    match settings.schedule:
        case "cosine":
            return _FLOOR + (1 - _FLOOR) * (1 + cos(pi * progress)) / 2
        case "linear":
            return 1 - (1 - _FLOOR) * progress
        case _:
            return 1.0


def optimisers_of(model: Any, settings: Optimiser) -> "list[torch.optim.Optimizer]":
    """Return the optimisers of a model's trained weights: AdamW, or Muon for matrices and AdamW for the rest."""
    import torch

    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    matrices = [one for name, one in named if one.ndim == 2 and "embed" not in name and "_head" not in name]
    decay, rate = settings.weight_decay, settings.rate
    if settings.name == "paged_adamw_8bit":
        return _marked([_eight_bit(model, settings)])
    if settings.name == "adamw" or not matrices:
        return _marked(
            [torch.optim.AdamW([one for _, one in named], rate, betas=(0.9, 0.95), weight_decay=decay)]
        )
    ids = {id(one) for one in matrices}
    others = [one for _, one in named if id(one) not in ids]
    return _marked(
        [
            torch.optim.Muon(matrices, rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, 0.4 * rate, betas=(0.9, 0.98), weight_decay=decay),
        ]
    )


def _eight_bit(model: Any, settings: Optimiser) -> "torch.optim.Optimizer":
    try:
        from bitsandbytes.optim import PagedAdamW8bit  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigurationError(
            "the optimiser paged_adamw_8bit needs bitsandbytes, which is not installed",
            expected="bitsandbytes 0.50 or newer",
            try_next="pip install bitsandbytes, or set optimiser.name: adamw",
        ) from error
    trained = [one for one in model.parameters() if one.requires_grad]
    return PagedAdamW8bit(trained, lr=settings.rate, weight_decay=settings.weight_decay)


def _marked(optimisers: "list[torch.optim.Optimizer]") -> "list[torch.optim.Optimizer]":
    """Remember each group's peak rate where `update` looks for it."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
    return optimisers
