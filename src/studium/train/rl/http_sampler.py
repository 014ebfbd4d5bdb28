"""A sampler on any OpenAI-shaped `/v1/completions` (vLLM, llama-server): ids in, ids and log-probabilities out.

The server's weights are somebody else's affair, unless `adapter` names a low-rank adapter under which vLLM is to load
the policy's (`/v1/load_lora_adapter`; it must run with VLLM_ALLOW_RUNTIME_LORA_UPDATING and see the same folder). How
far the two have drifted apart is measured and limited by the engine. Ids are read from vLLM's `token_ids` or, as
llama.cpp tells them, from the entries of `logprobs.content`.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studium.errors import BadReply, ConfigurationError, StudiumError
from studium.train.rl.asking import Asker
from studium.train.rl.options import Server
from studium.train.rl.samplers import Draw, cut

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST_FAILURE_CHARS = 300


class HttpSampler:
    """Draws from the server at `url`; `folder` is where an adapter is written for it to load."""

    def __init__(
        self,
        model: Any,
        tokenizer: "PreTrainedTokenizerBase",
        url: str,
        server: Server,
        folder: Path,
        *,
        renew_every: int = 1,
    ) -> None:
        self._model, self._tokenizer, self._folder = model, tokenizer, folder
        assert isinstance(tokenizer.eos_token_id, int)
        self._end_token = tokenizer.eos_token_id
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._adapter, self._renew_every = server.adapter, renew_every
        if self._adapter and not hasattr(model, "peft_config"):
            raise ConfigurationError(
                f"draws.server.adapter is {self._adapter!r}, but no adapter is trained",
                expected="lora.rank above 0",
                try_next="set lora.rank, or leave draws.server.adapter out",
            )
        key = os.environ.get(server.api_key_env, "") if server.api_key_env else ""
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._asker = Asker(server.at_once, server.timeout_s)
        self._name = server.model
        self._loaded_as = ""
        self._renewed_at: int | None = None
        self._step = 0

    def follow(self, step: int) -> None:
        self._step = step
        due = self._renewed_at is None or step - self._renewed_at >= self._renew_every
        if self._adapter and due:
            self._renew()

    def distrust(self) -> bool:
        fresh = self._renewed_at == self._step
        self._renewed_at = None
        return bool(self._adapter) and not fresh

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        most_tokens: int,
        each: int = 1,
        temperature: float = 1.0,
        stops: frozenset[int] = frozenset(),
        seed: int = 0,
    ) -> list[list[Draw]]:
        if temperature not in (0.0, 1.0):
            raise ConfigurationError(
                f"draws.temperature is {temperature:g} with the sampler http",
                expected="1: servers tell log-probabilities before the temperature",
                try_next="draws.temperature: 1, or another sampler",
            )
        shared = {
            "model": self._loaded_as or self._model_name(),
            "max_tokens": most_tokens,
            "temperature": temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "logprobs": 1,
            # vLLM's word; another server goes on, and what follows is cut off here.
            "stop_token_ids": sorted(stops),
            "return_token_ids": True,
        }
        # One reply a request: llama-server gives no more at a time than it has slots, and both keep the prompt.
        bodies = [
            {**shared, "prompt": list(prompt), "seed": (seed * 1_000_003 + at * each + number) % 2**31}
            for at, prompt in enumerate(prompts)
            for number in range(each)
        ]
        answers = self._asker.ask(f"{self._url}/completions", bodies, name=self._name, headers=self._headers)
        draws = [_draw(answer, stops | {self._end_token}) for answer in answers]
        return [draws[at * each : (at + 1) * each] for at in range(len(prompts))]

    def close(self) -> None:
        self._asker.close()

    def _model_name(self) -> str:
        """Return the model to ask for: as told, or the first the server has."""
        if not self._name:
            (answer,) = self._asker.ask(
                f"{self._url}/models", [None], name="the sampler's server", headers=self._headers
            )
            try:
                self._name = str(answer["data"][0]["id"])
            except (KeyError, IndexError, TypeError) as cause:
                raise _bad(answer, "a list of models") from cause
        return self._name

    def _renew(self) -> None:
        name = f"{self._adapter}-{self._step}"
        path = self._folder / name
        self._model.save_pretrained(path)
        body = {"lora_name": name, "lora_path": str(path.resolve())}
        self._said("load_lora_adapter", body)
        if self._loaded_as and self._loaded_as != name:
            self._said("unload_lora_adapter", {"lora_name": self._loaded_as})
            shutil.rmtree(self._folder / self._loaded_as, ignore_errors=True)
        self._loaded_as, self._renewed_at = name, self._step

    def _said(self, what: str, body: Mapping[str, Any]) -> None:
        self._asker.say(f"{self._url}/{what}", body, name=str(body["lora_name"]), headers=self._headers)


def _draw(answer: Any, ends: frozenset[int]) -> Draw:
    try:
        choice = answer["choices"][0]
        told = choice["logprobs"]
        if (ids := choice.get("token_ids")) is not None:
            tokens, logprobs = [int(one) for one in ids], [float(one) for one in told["token_logprobs"]]
        else:
            tokens = [int(one["id"]) for one in told["content"]]
            logprobs = [float(one["logprob"]) for one in told["content"]]
            if answer["usage"]["completion_tokens"] != len(tokens):
                # llama-server does not tell the beginning of a character: what it drew cannot be known.
                raise ValueError("tokens are missing")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as cause:
        raise _bad(answer, "a choice with token ids and log-probabilities") from cause
    return cut(tokens, logprobs, ends)


def _bad(answer: Any, expected: str) -> StudiumError:
    return BadReply(
        f"the sampler's server answered something else: {str(answer)[:_MOST_FAILURE_CHARS]}",
        expected=f"{expected}, as vLLM and llama-server give them",
        try_next="a newer server (vLLM 0.10.2 or later returns token ids), or draws.sampler: own",
    )
