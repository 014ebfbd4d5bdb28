"""A sampler in a llama.cpp worker: the policy's weights as GGUF, asked with token ids over its own `/completion`.

The file is written and a new worker started whenever weights are renewed: 0.07 s for a model of 0.2 M parameters. A
low-rank adapter is merged first. Log-probabilities are those of the distribution drawn from; keys and values are kept
in 16 bits there, so they differ a little from the policy's. A worker that dies is replaced once a draw.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from studium.engines.llamacpp.process import Worker, WorkerSettings, start_worker
from studium.errors import BadReply, ConfigurationError, EngineDied, EngineTimeout
from studium.train.export import write_model
from studium.train.models import Loaded, backend, serves_as_gguf
from studium.train.rl.asking import Asker
from studium.train.rl.options import Server
from studium.train.rl.samplers import UNKNOWN, Draw, cut

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NAME = "policy"
_CONTEXT_STEP = 256
_BATCH_TOKENS = 512


class _Wanted(NamedTuple):
    """What one request asks for."""

    prompt: Sequence[int]
    number: int
    seed: int


class LlamaCppSampler:
    """Draws from a copy of `model` in a worker of its own, which lives until `close`; `at_once` replies at a time."""

    def __init__(
        self,
        model: Any,
        loaded: Loaded,
        folder: Path,
        *,
        server: Server,
        threads: int = 1,
        renew_every: int = 1,
    ) -> None:
        if not serves_as_gguf(loaded):
            raise ConfigurationError(
                f"the sampler llamacpp cannot run {loaded.name}, a {loaded.model.config.model_type}",
                expected="a Llama with the students' tokenizer, which can be written as GGUF",
                try_next="draws.sampler: own",
            )
        self._model, self._loaded = model, loaded
        assert isinstance(loaded.tokenizer.eos_token_id, int)
        self._end_token = loaded.tokenizer.eos_token_id
        self._path = folder / "policy.gguf"
        self._slots, self._threads = server.at_once, threads
        self._renew_every, self._timeout_s = renew_every, server.timeout_s
        self._asker = Asker(server.at_once + 2, server.timeout_s)
        self._worker: Worker | None = None
        self._context_tokens = 0
        self._renewed_at: int | None = None
        self._step = 0

    @property
    def worker_pid(self) -> int | None:
        """The process that draws now, if there is one."""
        return self._worker.pid if self._worker is not None else None

    def follow(self, step: int) -> None:
        self._step = step
        if self._renewed_at is None or step - self._renewed_at >= self._renew_every:
            self._end()

    def distrust(self) -> bool:
        fresh = self._renewed_at == self._step
        self._end()
        return not fresh

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
        longest = max(map(len, prompts)) + most_tokens
        if longest > self._context_tokens:
            self._end()
            self._context_tokens = -(-longest // _CONTEXT_STEP) * _CONTEXT_STEP
        wanted = [
            _Wanted(prompt, 1, (seed * 1_000_003 + at * each + number) % 2**32)
            for at, prompt in enumerate(prompts)
            for number in range(each)
        ]
        stop = _texts(self._loaded.tokenizer, stops)
        bodies = [_body(one, most_tokens, temperature, stop) for one in wanted]
        ends = stops | {self._end_token}
        answers = self._asked(bodies)
        draws = [_draw(answer, ends, temperature) for answer in answers]
        return [draws[at * each : (at + 1) * each] for at in range(len(prompts))]

    def close(self) -> None:
        self._end()
        self._asker.close()

    def _asked(self, bodies: Sequence[Mapping[str, Any]]) -> list[Any]:
        try:
            return self._post(bodies)
        except EngineDied:
            self._end()
            return self._post(bodies)

    def _post(self, bodies: Sequence[Mapping[str, Any]]) -> list[Any]:
        worker = self._worker or self._start()
        headers = {"Authorization": f"Bearer {worker.api_key}"}
        return self._asker.ask(f"{worker.url}/completion", bodies, name=_NAME, headers=headers)

    def _start(self) -> Worker:
        plain = _plain(self._model)
        write_model(plain, backend(self._loaded.tokenizer), self._path, name=_NAME, precision="F32")
        settings = WorkerSettings(
            name=_NAME,
            path=str(self._path),
            context_tokens=self._context_tokens,
            slots=self._slots,
            threads=self._threads,
            gpu_layers=0,
            batch_tokens=_BATCH_TOKENS,
            embeddings=False,
            pooling_mean=False,
            adapters=(),
        )
        try:
            self._worker = self._asker.wait(start_worker(settings))
        except TimeoutError as late:
            raise EngineTimeout(
                f"the worker that draws replies was not ready within {self._timeout_s:g} s",
                try_next="raise draws.server.timeout_s, or use draws.sampler: own",
            ) from late
        self._renewed_at = self._step
        return self._worker

    def _end(self) -> None:
        if self._worker is not None:
            self._asker.wait(self._worker.end())
            self._worker = None


def _texts(tokenizer: "PreTrainedTokenizerBase", stops: frozenset[int]) -> list[str]:
    """Return what ends a reply as texts: those of the tokens that contain no shorter one."""
    texts = sorted({str(tokenizer.decode([one])) for one in stops}, key=len)
    return [one for at, one in enumerate(texts) if not any(short in one for short in texts[:at])]


def _plain(model: Any) -> Any:
    """Return a model as it would serve: an adapter merged, a value head left out; the model itself stays as it is."""
    if not hasattr(model, "merge_and_unload") and not hasattr(model, "value_head"):
        return model
    copy = deepcopy(model)
    copy = copy.merge_and_unload() if hasattr(copy, "merge_and_unload") else copy
    if hasattr(copy, "value_head"):
        del copy.value_head
    return copy


def _body(wanted: _Wanted, most_tokens: int, temperature: float, stop: Sequence[str]) -> dict[str, Any]:
    return {
        "prompt": list(wanted.prompt),
        "n_predict": most_tokens,
        "temperature": temperature,
        "samplers": ["temperature"],
        "seed": wanted.seed,
        "stop": stop,
        "return_tokens": True,
        "n_probs": 1,
        # Before sampling they are the model's own, whatever the temperature; after it, those drawn from.
        "post_sampling_probs": temperature not in (0.0, 1.0),
        "cache_prompt": True,
        "response_fields": ["tokens", "completion_probabilities"],
    }


def _draw(answer: Any, ends: frozenset[int], temperature: float) -> Draw:
    try:
        tokens = [int(one) for one in answer["tokens"]]
        entries = [(int(one["id"]), _logprob(one)) for one in answer["completion_probabilities"]]
    except (KeyError, TypeError, ValueError) as cause:
        raise BadReply(
            f"{_NAME}: llama.cpp answered without tokens and their probabilities: {str(answer)[:300]}",
            expected="tokens and completion_probabilities",
            try_next="draws.sampler: own, or another version of llama.cpp",
        ) from cause
    return cut(tokens, aligned(tokens, entries), ends)


def aligned(tokens: Sequence[int], entries: Sequence[tuple[int, float]]) -> list[float]:
    """Return each token's log-probability from the (id, log-probability) that were told, NaN where there is none.

    llama.cpp leaves out tokens that are only the beginning of a character, and one that ends a stopping text. Which of
    several equal tokens was left out cannot be known: where reading from the left and from the right differ, neither
    is taken.
    """
    if len(tokens) == len(entries):
        return [logprob for _, logprob in entries]
    left = _matched(tokens, entries)
    right = _matched(tokens[::-1], entries[::-1])[::-1]
    return [one if one == other else UNKNOWN for one, other in zip(left, right, strict=True)]


def _matched(tokens: Sequence[int], entries: Sequence[tuple[int, float]]) -> list[float]:
    found, at = [], 0
    for token in tokens:
        there = at < len(entries) and entries[at][0] == token
        found.append(entries[at][1] if there else UNKNOWN)
        at += there
    return found


def _logprob(told: Mapping[str, Any]) -> float:
    if "logprob" in told:
        return float(told["logprob"])
    return log(probability) if (probability := float(told["prob"])) > 0 else UNKNOWN
