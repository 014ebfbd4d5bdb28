"""Ollama as an engine: it loads and unloads by keep_alive, and its memory counts against our budget.

A loaded model is kept until it is told to go: `load` sends keep_alive -1, `unload` sends 0 and waits until `ps`
no longer lists it, since Ollama answers before the memory is free. The runner is reloaded when its options
change, so load and generate send the same ones.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import Any

from studium.engines.http_errors import HttpRefusal
from studium.engines.ollama import derive
from studium.engines.ollama.derive import Derivation, Outcome
from studium.engines.ollama.http import Json, OllamaHttp
from studium.engines.ollama.pull import STALL_S, Progress, pull
from studium.engines.ollama.reading import Listening
from studium.engines.ollama.sizes import estimate_bytes
from studium.errors import (
    BadReply,
    DoesNotFit,
    EngineDied,
    EngineMissing,
    EngineTimeout,
    ModelBroken,
    PromptTooLong,
    StudiumError,
    UnknownModel,
    Unsupported,
)
from studium.records.messages import Ask, Embeddings, Piece, Reply
from studium.records.models import Capabilities, MemoryEstimate, ModelSpec, Residence, Student

DEFAULT_URL = "http://127.0.0.1:11434"
_ASK_S = 10.0
_EMBED_S = 60.0
_CREATE_S = 600.0
_UNLOAD_S = 10.0
_POLL_S = 0.1
# The first version that can be told not to cut a prompt, and that gives log-probabilities.
_HONEST_VERSION = (0, 12, 11)
_TEMPLATE_TOKENS = 64
_NO_MEMORY = re.compile(
    r"requires more system memory|out of memory|unable to allocate|cudamalloc", re.IGNORECASE
)


class OllamaEngine:
    """Speaks to one Ollama server."""

    capabilities = Capabilities(manages_memory=True, logprobs=True, json_schema=True, embeddings=True)

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        name: str = "ollama",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._http = OllamaHttp(url)
        self._clock = clock
        self._sleep = sleep
        self._loaded: dict[str, tuple[ModelSpec, float]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._cuts_prompts = False

    async def estimate(self, model: ModelSpec) -> MemoryEstimate:
        tags = await self._http.get("/api/tags", model=model.name, timeout_s=_ASK_S)
        sizes = {entry["model"]: int(entry["size"]) for entry in _entries(tags)}
        shown = await self._show(model.source, model.name)
        return estimate_bytes(
            model.source,
            sizes.get(derive.tagged(model.source), 0),
            shown.get("model_info") or {},
            context_tokens=model.context_tokens,
            slots=model.slots,
        )

    async def load(self, model: ModelSpec, *, timeout_s: float) -> Residence:
        if model.adapters:
            raise Unsupported(
                f"{model.name}: Ollama takes no adapters with a request",
                try_next="make a model with ADAPTER in its Modelfile, and name it as the source",
            )
        async with self._locks.setdefault(model.name, asyncio.Lock()):
            if model.name not in self._loaded or not await self._residence(model):
                await self._load(model, timeout_s)
            return await self._residence(model) or Residence(model.name, None, None)

    async def unload(self, model: ModelSpec) -> None:
        async with self._locks.setdefault(model.name, asyncio.Lock()):
            if model.name in self._loaded:
                # Forgotten only once it is gone: what Ollama still holds stays among the residences.
                await self._unload(model)
                self._loaded.pop(model.name, None)

    async def residences(self) -> Sequence[Residence]:
        """Return the models that this engine loaded and that Ollama still holds, not those of others."""
        if not self._loaded:
            return []
        try:
            listed = await self._ps()
        except (EngineMissing, EngineDied):
            return []
        specs = [spec for spec, _ in self._loaded.values()]
        return [self._described(spec, listed[spec.source]) for spec in specs if spec.source in listed]

    async def generate(self, model: ModelSpec, ask: Ask) -> AsyncGenerator[Piece | Reply, None]:
        self._require(model)
        self._check_ask(model, ask)
        path, body = _request(model, ask)
        listening = Listening(model.name, ask, self._clock)
        try:
            lines = self._http.stream(path, body, model=model.name, timeout_s=ask.timeout_s)
            async with aclosing(lines):
                async for line in lines:
                    for part in listening.hear(line):
                        yield part
        except EngineMissing as error:
            raise EngineDied(f"{model.name}: {error.happened}", try_next=error.try_next) from error
        if not listening.done:
            raise EngineDied(
                f"{model.name}: Ollama's stream ended after {listening.heard_chars} characters without `done`",
                try_next="see Ollama's log",
            )

    async def embed(self, model: ModelSpec, texts: Sequence[str]) -> Embeddings:
        self._require(model)
        if not model.embeddings:
            raise Unsupported(
                f"{model.name} is not declared to give embeddings",
                expected="a model with `embeddings: true`",
                try_next="name such a model",
            )
        body = {
            "model": model.source,
            "input": list(texts),
            "keep_alive": -1,
            "options": _runner_options(model),
        }
        answer = await self._http.post("/api/embed", body, model=model.name, timeout_s=_EMBED_S)
        vectors = answer.get("embeddings")
        if not isinstance(vectors, list) or len(vectors) != len(texts):
            raise BadReply(f"{model.name}: Ollama gave no vector for each of {len(texts)} texts")
        return Embeddings(vectors, int(answer.get("prompt_eval_count") or 0))

    async def models(self) -> Sequence[str]:
        tags = await self._http.get("/api/tags", model="Ollama", timeout_s=_ASK_S)
        return sorted(str(entry["model"]) for entry in _entries(tags))

    async def close(self) -> None:
        for spec, _ in list(self._loaded.values()):
            with suppress(StudiumError):
                await self.unload(spec)
        self._loaded.clear()
        await self._http.close()

    def modelfile(self, student: Student, base: str) -> str:
        """Return the Modelfile of `student` on `base`."""
        return derive.modelfile(student, base)

    async def missing(self, models: Iterable[str]) -> list[str]:
        """Return those of `models` that Ollama does not have, each once. Raises EngineMissing."""
        absent: list[str] = []
        for model in dict.fromkeys(models):
            try:
                await self._show(model, model)
            except UnknownModel:
                absent.append(model)
        return absent

    async def create_student(
        self, student: Student, base: str, *, dry_run: bool = False, base_to_come: bool = False
    ) -> Derivation:
        """Make the student's model under its source as tag; do nothing where it is there already.

        Writes a model to Ollama's store, a few kilobytes beside the base. With `dry_run` only says what would
        be done, and needs no server for it, nor the base where that is `base_to_come`. Raises UnknownModel
        where the base is missing, EngineMissing, ConfigurationError.
        """
        derive.check_tag(student, base)
        tag = derive.tagged(student.model.source)
        try:
            if dry_run and base_to_come:
                outcome = Outcome.UNCHECKED if await self._has(student.model) else Outcome.CREATED
            else:
                outcome = await self._outcome(student, base)
        except EngineMissing:
            if not dry_run:
                raise
            outcome = Outcome.UNCHECKED
        if not dry_run and outcome is not Outcome.UNCHANGED:
            body = derive.create_body(student, base)
            await self._http.post("/api/create", body, model=student.name, timeout_s=_CREATE_S)
        return Derivation(tag, base, derive.modelfile(student, base), outcome)

    async def pull(self, model: str, *, stall_s: float = STALL_S) -> AsyncGenerator[Progress, None]:
        """Fetch a model from Ollama's registry; yield how far it is. Costs bandwidth and disk.

        Closing it stops the download; Ollama keeps what it has, and the next pull goes on from there. Raises
        EngineTimeout after `stall_s` without a byte or a new step, UnknownModel where the registry has no such
        model, DoesNotFit where Ollama's disk is full, EngineMissing, EngineDied, EngineRefused, BadReply.
        """
        steps = pull(self._http, model, stall_s)
        async with aclosing(steps):
            async for step in steps:
                yield step

    async def _has(self, model: ModelSpec) -> bool:
        return not await self.missing((model.source,))

    async def _outcome(self, student: Student, base: str) -> Outcome:
        try:
            base_shown = await self._show(base, student.name)
        except UnknownModel as error:
            raise UnknownModel(
                f"Ollama has no model {base!r}, the base of {student.name}",
                expected="a base that was pulled",
                try_next=f"`studium students create --pull` fetches it, and so does `ollama pull {base}`",
            ) from error
        try:
            shown = await self._show(student.model.source, student.name)
        except UnknownModel:
            return Outcome.CREATED
        return Outcome.UNCHANGED if derive.is_same(student, base, shown, base_shown) else Outcome.REPLACED

    async def _load(self, model: ModelSpec, timeout_s: float) -> None:
        started = self._clock()
        await self._note_version(model)
        body: Json = {"model": model.source, "keep_alive": -1, "options": _runner_options(model)}
        path = "/api/embed" if model.embeddings else "/api/generate"
        try:
            await self._http.post(
                path,
                body | ({"input": []} if model.embeddings else {}),
                model=model.name,
                timeout_s=timeout_s,
            )
        except HttpRefusal as error:
            raise _load_error(model, error) from error
        except (asyncio.CancelledError, EngineTimeout):
            # Ollama goes on loading for nobody unless it is told to stop.
            with suppress(StudiumError):
                await self._unload(model)
            raise
        self._loaded[model.name] = (model, self._clock() - started)

    async def _unload(self, model: ModelSpec) -> None:
        body = {"model": model.source, "keep_alive": 0}
        deadline = self._clock() + _UNLOAD_S
        try:
            await self._http.post("/api/generate", body, model=model.name, timeout_s=_UNLOAD_S)
            while model.source in await self._ps():
                if self._clock() >= deadline:
                    raise EngineTimeout(
                        f"Ollama still holds {model.name} {_UNLOAD_S:g} s after it was told to unload it",
                        try_next=f"see `ollama ps`; `ollama stop {model.source}` unloads it by hand",
                    )
                await self._sleep(_POLL_S)
        except (EngineMissing, EngineDied, UnknownModel):
            return  # a server that is gone, or a model that was deleted, holds nothing

    async def _note_version(self, model: ModelSpec) -> None:
        answer = await self._http.get("/api/version", model=model.name, timeout_s=_ASK_S)
        numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", str(answer.get("version", "")))
        version = tuple(int(number) for number in numbers.groups()) if numbers else (0, 0, 0)
        # Builds from source call themselves 0.0.0.
        self._cuts_prompts = (0, 0, 0) < version < _HONEST_VERSION

    def _check_ask(self, model: ModelSpec, ask: Ask) -> None:
        if model.embeddings:
            raise Unsupported(f"{model.name} is declared for embeddings", try_next="ask another model")
        if ask.grammar is not None:
            raise Unsupported(f"{model.name}: Ollama takes no grammar", try_next="give a JSON schema")
        if not self._cuts_prompts:
            return
        texts = [message.content for message in ask.messages] if ask.prompt is None else [ask.prompt]
        most_tokens = sum(len(text.encode()) for text in texts) + _TEMPLATE_TOKENS
        if most_tokens > model.context_tokens:
            raise PromptTooLong(
                f"{model.name}: the prompt may have up to {most_tokens:,} tokens, and this Ollama would cut it",
                expected=f"at most {model.context_tokens:,}",
                try_next="upgrade Ollama to 0.12.11, which can refuse, or raise the model's context_tokens",
            )

    async def _ps(self) -> dict[str, Json]:
        """Return what Ollama holds, by name with and without the tag `latest`."""
        answer = await self._http.get("/api/ps", model="Ollama", timeout_s=_ASK_S)
        listed = {str(entry["model"]): entry for entry in _entries(answer)}
        return listed | {name.removesuffix(":latest"): entry for name, entry in listed.items()}

    async def _residence(self, model: ModelSpec) -> Residence | None:
        entry = (await self._ps()).get(model.source)
        return None if entry is None else self._described(model, entry)

    def _described(self, model: ModelSpec, entry: Json) -> Residence:
        size, vram = entry.get("size"), entry.get("size_vram")
        _, load_seconds = self._loaded.get(model.name, (model, None))
        return Residence(model.name, size, size, vram_bytes=vram, load_seconds=load_seconds)

    async def _show(self, source: str, name: str) -> Json:
        return await self._http.post("/api/show", {"model": source}, model=name, timeout_s=_ASK_S)

    def _require(self, model: ModelSpec) -> None:
        if model.name not in self._loaded:
            raise EngineDied(
                f"{model.name} is not loaded", expected="a loaded model", try_next="load it first"
            )


def _request(model: ModelSpec, ask: Ask) -> tuple[str, Json]:
    # Told not to cut the prompt and not to forget its start when the context is full.
    body: Json = {"model": model.source, "keep_alive": -1, "truncate": False, "shift": False}
    body["options"] = _runner_options(model) | _sampling_options(ask)
    if ask.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": ask.top_logprobs}
    if ask.json_schema is not None:
        body["format"] = dict(ask.json_schema)
    if ask.prompt is not None:
        return "/api/generate", body | {"prompt": ask.prompt, "raw": True}
    messages = [{"role": message.role, "content": message.content} for message in ask.messages]
    return "/api/chat", body | {"messages": messages}


def _runner_options(model: ModelSpec) -> dict[str, Any]:
    """The defaults of threads and gpu_layers leave the choice to Ollama, which knows the machine."""
    options: dict[str, Any] = {"num_ctx": model.context_tokens}
    if model.gpu_layers:
        options["num_gpu"] = model.gpu_layers
    if model.threads > 1:
        options["num_thread"] = model.threads
    return options


def _sampling_options(ask: Ask) -> dict[str, Any]:
    chosen = {
        "temperature": ask.sampling.temperature,
        "top_k": ask.sampling.top_k,
        "top_p": ask.sampling.top_p,
        "repeat_penalty": ask.sampling.repeat_penalty,
        "seed": ask.sampling.seed,
        "num_predict": ask.sampling.max_tokens,
        "stop": list(ask.sampling.stop) or None,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _load_error(model: ModelSpec, error: HttpRefusal) -> StudiumError:
    if _NO_MEMORY.search(error.happened):
        return DoesNotFit(
            error.happened,
            expected="room for the model and its context",
            try_next="unload another model (`ollama ps` lists them), or lower context_tokens",
        )
    if error.status in (429, 503):
        return error
    return ModelBroken(
        error.happened, try_next=f"see Ollama's log, or fetch it again: ollama pull {model.source}"
    )


def _entries(answer: Json) -> list[Json]:
    entries = answer.get("models")
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and "model" in entry for entry in entries
    ):
        raise BadReply("Ollama lists models in another shape", expected="Ollama's API at this url")
    return entries
