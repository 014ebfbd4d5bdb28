"""Unsloth, where it is installed: another way to load the same model, whose kernels train an adapter faster on a GPU.

It changes transformers and TRL as it is imported, so it must be imported before them: `begin` is called before a model
is loaded, and refuses where it comes too late. It needs older versions of both than ours, so it has an environment of
its own (requirements/unsloth.txt). Nothing but the model is taken from it: rows, losses and course stay as they are.
Before the first step the preflight holds its loss to that of the same model loaded by transformers.

Without a CUDA device Unsloth has nothing to add, and it is refused; `UNSLOTH_FORCE_CPU=1`, a word of Unsloth's own, has
it load the model for a processor all the same, as tests do.
"""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from studium.errors import ConfigurationError
from studium.train.config import Lora, Recipe
from studium.train.models import Loaded, hub_or_folder, pretrained
from studium.train.rl.generating import GeneratingSampler
from studium.train.rl.samplers import Draw

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from studium.train.trl_bridge import GivenRecipe

_LEAVE = "leave compute.unsloth out"


def wanted(recipe: Recipe) -> bool:
    """Say whether a recipe asks for Unsloth."""
    return bool(getattr(getattr(recipe, "compute", None), "unsloth", False))


def begin(recipe: Recipe) -> None:
    """Import Unsloth if the recipe asks for it. Raises ConfigurationError where it cannot be had or cannot do it."""
    if not wanted(recipe):
        return
    _refuse_what_it_cannot(recipe)
    if find_spec("unsloth") is None:
        raise ConfigurationError(
            "compute.unsloth needs Unsloth, which is not installed",
            expected="an environment of its own: Unsloth needs older versions of transformers and TRL",
            try_next=f"pip install . -r requirements/unsloth.txt in a new environment, or {_LEAVE}",
        )
    if "transformers" in sys.modules and "unsloth" not in sys.modules:
        raise ConfigurationError(
            "compute.unsloth comes too late: transformers is imported already",
            expected="Unsloth imported first, as in a process that only trains",
            try_next=f"studium train, or {_LEAVE}",
        )
    import torch

    if not torch.cuda.is_available() and os.environ.get("UNSLOTH_FORCE_CPU") != "1":
        raise ConfigurationError(
            "compute.unsloth needs a CUDA device, and PyTorch sees none",
            expected="an NVIDIA GPU, its driver, and a PyTorch built for it",
            try_next=f"look at nvidia-smi, or {_LEAVE}",
        )
    try:
        import unsloth  # pyright: ignore[reportMissingImports]  # noqa: F401
    except (ImportError, NotImplementedError, RuntimeError, AttributeError) as error:
        raise ConfigurationError(
            f"Unsloth cannot be imported: {type(error).__name__}: {str(error).partition(chr(10))[0]}",
            expected="the versions it asks for",
            try_next=f"a new environment from requirements/unsloth.txt, or {_LEAVE}",
        ) from error


def _refuse_what_it_cannot(recipe: Any) -> None:
    wrong = {
        "lora.rank: 0": not recipe.lora.rank,
        "compute.packing: yes": recipe.compute.packing,  # its attention does not see where a row ends
        "compute.liger: yes": recipe.compute.liger,  # both put kernels in the same places
        "learn: logprobs": getattr(recipe, "learn", "text") != "text",  # it makes no logits
    }
    if found := [name for name, is_so in wrong.items() if is_so]:
        raise ConfigurationError(
            f"compute.unsloth does not go with {', '.join(found)}",
            expected="an adapter (lora.rank above 0), trained on rows that are padded, by Unsloth's kernels alone",
            try_next=f"correct the recipe, or {_LEAVE}",
        )


def load_fast(recipe: "GivenRecipe") -> Loaded:
    """Load a recipe's model by Unsloth: in 16 bits with `compute.bf16`, in 4 with `lora.four_bit`, else in 32."""
    import torch
    from unsloth import FastLanguageModel  # pyright: ignore[reportMissingImports]

    hub_or_folder(recipe.model, "by Unsloth", _LEAVE)
    fast = Fast(recipe)

    def make(reference: str) -> Any:
        # The exact name: else another upload, already in 4 bits, is taken for well-known ones.
        return FastLanguageModel.from_pretrained(
            reference,
            max_seq_length=recipe.max_tokens,
            dtype=torch.bfloat16 if recipe.compute.bf16 else torch.float32,
            load_in_4bit=recipe.lora.four_bit,
            use_exact_model_name=True,
            use_gradient_checkpointing=fast.checkpointing,
        )[0]

    return pretrained(recipe.model, make)._replace(unsloth=fast)


class Fast:
    """What is done another way with a model that Unsloth loaded. It tells training from drawing by flags of its own."""

    def __init__(self, recipe: "GivenRecipe") -> None:
        self.checkpointing = "unsloth" if recipe.compute.gradient_checkpointing else False
        self._seed = recipe.seed

    def adapted(self, model: Any, lora: Lora) -> Any:
        from unsloth import FastLanguageModel  # pyright: ignore[reportMissingImports]

        return FastLanguageModel.get_peft_model(
            model,
            r=lora.rank,
            target_modules=list(lora.targets),
            lora_alpha=int(lora.alpha),
            lora_dropout=lora.dropout,
            bias="none",
            use_gradient_checkpointing=self.checkpointing,
            random_state=self._seed,
        )

    def train(self, model: Any) -> None:
        """Set a model to training; a trainer of TRL that Unsloth has rewritten leaves it at drawing."""
        model.for_training(use_gradient_checkpointing=self.checkpointing)

    def sampler(self, model: Any, tokenizer: "PreTrainedTokenizerBase") -> "_Sampler":
        return _Sampler(self, model, tokenizer)


class _Sampler(GeneratingSampler):
    """Draws by `generate`, which Unsloth knows: its forward takes no cache of ours."""

    def __init__(self, fast: Fast, model: Any, tokenizer: "PreTrainedTokenizerBase") -> None:
        super().__init__(model, tokenizer)
        self._fast, self._of = fast, model

    def draw(self, prompts: Sequence[Sequence[int]], **settings: Any) -> list[list[Draw]]:
        self._of.for_inference()
        try:
            return super().draw(prompts, **settings)
        finally:
            self._fast.train(self._of)
