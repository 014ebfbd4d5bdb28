"""The sampler a recipe names, made ready for the model under training."""

from pathlib import Path
from typing import NamedTuple

from studium.errors import ConfigurationError
from studium.train.learner import Learner
from studium.train.rl.options import RlRecipe
from studium.train.rl.samplers import Elsewhere, ModelSampler, Sampler


class Chosen(NamedTuple):
    """A sampler; `elsewhere` is the same one where it has weights of its own, to be closed in the end."""

    sampler: Sampler
    elsewhere: Elsewhere | None = None


def sampler_of(options: RlRecipe, learner: Learner, folder: Path) -> Chosen:
    """Return the recipe's sampler, which may write into `folder`. Raises ConfigurationError where it cannot be."""
    draws, tokenizer = options.draws, learner.loaded.tokenizer
    if bool(draws.url) != (draws.sampler == "http"):
        raise ConfigurationError(
            f"draws.sampler is {draws.sampler} and draws.url is {draws.url or 'empty'}",
            expected="a url with the sampler http, and only there",
            try_next="draws: {sampler: http, url: http://127.0.0.1:8000}",
        )
    match draws.sampler:
        case "llamacpp":
            from studium.train.rl.llamacpp_sampler import LlamaCppSampler

            found = LlamaCppSampler(
                learner.model, learner.loaded, folder, server=draws.server, renew_every=draws.renew_every
            )
            return Chosen(found, found)
        case "http":
            from studium.train.rl.http_sampler import HttpSampler

            served = HttpSampler(
                learner.model, tokenizer, draws.url, draws.server, folder, renew_every=draws.renew_every
            )
            return Chosen(served, served)
        case "transformers":
            from studium.train.rl.generating import GeneratingSampler

            return Chosen(GeneratingSampler(learner.model, tokenizer))
        case "fast":
            return Chosen(ModelSampler(learner.model, tokenizer, fast=True))
        case _:
            return Chosen(ModelSampler(learner.model, tokenizer))
