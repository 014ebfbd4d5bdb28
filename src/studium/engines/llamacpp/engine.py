"""The `llamacpp` engine: GGUF files, each run by llama.cpp in a worker process of its own.

Unloading ends the process, so the memory is really given back; a crash harms nobody else. The model's
`options` choose another home for the same role: `runner: llama-server` starts that binary from the PATH
in the worker's place, `url: http://...` uses a server that runs already (`api_key_env` names the
variable with its key) and is not ours to start or end.
"""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiohttp

from studium.engines.gguf_metadata import BrokenGguf, GgufHeader, read_gguf
from studium.engines.llamacpp import memory
from studium.engines.llamacpp.process import Worker, WorkerSettings, start_program, start_worker, surely
from studium.engines.llamacpp.request import Request, request_for
from studium.engines.openai_client import fetch_embeddings, fetch_json, stream_chat
from studium.errors import (
    BadRequest,
    ConfigurationError,
    EngineDied,
    EngineFailure,
    EngineMissing,
    EngineTimeout,
    ModelBroken,
    UnknownModel,
    Unsupported,
)
from studium.records.messages import Ask, Embeddings, Piece, Reply
from studium.records.models import Capabilities, MemoryEstimate, ModelSpec, Residence

EMBEDDED = Path(__file__).parents[2] / "embedded"
EMBED_S = 60.0
_HEALTH_POLL_S = 0.02
_OPTIONS = {"runner", "url", "api_key_env"}


class _Home:
    """Where a loaded model is asked: a worker of ours, or somebody's server (`worker` is None)."""

    def __init__(
        self, model: ModelSpec, url: str, api_key: str, worker: Worker | None, seconds: float
    ) -> None:
        self.model = model
        self.url = url
        self.headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.worker = worker
        self.load_seconds = seconds

        # What waits, waits here: each ask that llama-server itself keeps waiting costs it a thread and a
        # prompt (400 of them took 30 MB, more than a small model). A server by URL has its own rules.
        self._seats = asyncio.Semaphore(model.slots) if worker else None

    @property
    def alive(self) -> bool:
        return self.worker is None or self.worker.alive

    @asynccontextmanager
    async def seat(self, timeout_s: float) -> AsyncGenerator[float, None]:
        """Wait for a slot and hold it; yield the seconds that took. Raises EngineTimeout."""
        if self._seats is None:
            yield 0.0
            return
        started = time.monotonic()
        try:
            await asyncio.wait_for(self._seats.acquire(), timeout_s)
        except TimeoutError as cause:
            raise EngineTimeout(
                f"{self.model.name}: none of its {self.model.slots} slots became free within {timeout_s:g} s",
                try_next="raise the limit, or give the model more slots",
            ) from cause
        try:
            yield time.monotonic() - started
        finally:
            self._seats.release()

    def residence(self) -> Residence | None:
        """Measure what it occupies; None when its worker has ended."""
        if self.worker is None:
            return Residence(self.model.name, None, None, load_seconds=self.load_seconds)
        if not self.alive:
            return None
        on_gpu = self.model.gpu_layers != 0
        return memory.measure(self.model.name, self.worker.pid, self.load_seconds, on_gpu=on_gpu)


class _Loading:
    """A load under way and how many wait for it; when the last one leaves, it is ended."""

    def __init__(self, model: ModelSpec, task: asyncio.Task[_Home]) -> None:
        self.model = model
        self.task = task
        self.waiting = 0


Held = TypeVar("Held", _Home, _Loading)


class LlamaCppEngine:
    """llama.cpp as an engine. A source is a path, or the name of a `.gguf` file in one of `folders`."""

    name = "llamacpp"
    capabilities = Capabilities(
        manages_memory=True,
        places_models=True,
        logprobs=True,
        json_schema=True,
        grammar=True,
        embeddings=True,
        adapters=True,
    )

    def __init__(self, folders: Sequence[Path] = (EMBEDDED,)) -> None:
        self._folders = tuple(folders)
        self._homes: dict[str, _Home] = {}
        self._loading: dict[str, _Loading] = {}
        self._session: aiohttp.ClientSession | None = None

    async def estimate(self, model: ModelSpec) -> MemoryEstimate:
        """Return the memory a worker will need, from the file's header; nothing for a server by URL."""
        if "url" in _options(model):
            return MemoryEstimate(0, 0, 0)
        path = self._path(model)
        header = await asyncio.to_thread(_header, model.name, path)
        more_bytes = sum(_existing(model, adapter).stat().st_size for adapter in model.adapters)
        more_bytes += sum(part.stat().st_size for part in _other_parts(path))
        return memory.estimate(header, model, more_bytes)

    async def load(self, model: ModelSpec, *, timeout_s: float) -> Residence:
        """Start a worker with the model, or find it started; return what it occupies."""
        # Measured rather than remembered: that a worker has died is told to us a moment after it has.
        if (home := self._homes.get(model.name)) and (residence := home.residence()):
            _same(home, model)
            return residence
        loading = self._loading.get(model.name)
        if loading is None:
            task = asyncio.create_task(self._settle(model))
            loading = self._loading[model.name] = _Loading(model, task)
            task.add_done_callback(partial(self._loaded, model.name))
        return _residence(await self._join(_same(loading, model), timeout_s))

    async def unload(self, model: ModelSpec) -> None:
        """End the model's worker and wait until it is reaped, which is when its memory is free."""
        if loading := self._loading.get(model.name):
            await _end_load(loading.task)
        if home := self._homes.pop(model.name, None):
            await _leave(home)

    async def residences(self) -> Sequence[Residence]:
        """Return what each worker occupies now, as the kernel counts it (shared pages included)."""
        measured = [home.residence() for home in list(self._homes.values())]
        return [residence for residence in measured if residence is not None]

    async def generate(self, model: ModelSpec, ask: Ask) -> AsyncGenerator[Piece | Reply, None]:
        """Stream one answer.

        Log-probabilities are the model's own, before temperature and truncation; llama.cpp leaves out
        those of tokens that are only the beginning of a character.
        """
        home = self._home(model)
        request = request_for(model, ask)
        try:
            async with (
                home.seat(ask.timeout_s) as waited_s,
                aclosing(self._stream(home, request, ask.timeout_s - waited_s)) as parts,
            ):
                async for part in parts:
                    yield _as_asked(part, ask, waited_s)
        except EngineDied as died:
            raise await _explained(home, died) from died

    async def embed(self, model: ModelSpec, texts: Sequence[str]) -> Embeddings:
        """Return one normalised vector per text; the model must be declared with `embeddings`."""
        home = self._home(model)
        if not model.embeddings:
            raise Unsupported(
                f"{model.name} is not loaded for embeddings", try_next="declare it with embeddings: true"
            )
        try:
            async with home.seat(EMBED_S):
                return await fetch_embeddings(
                    self._http(),
                    f"{home.url}/v1/embeddings",
                    texts,
                    model_id=model.name,
                    model=model.name,
                    timeout_s=EMBED_S,
                    headers=home.headers,
                )
        except EngineDied as died:
            raise await _explained(home, died) from died

    async def models(self) -> Sequence[str]:
        """Return the names of the GGUF files in the engine's folders."""
        return sorted({path.name for folder in self._folders for path in folder.glob("*.gguf")})

    async def close(self) -> None:
        """End every worker and every load under way."""
        models = [held.model for held in (*self._homes.values(), *self._loading.values())]
        await asyncio.gather(*(self.unload(model) for model in models))
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _join(self, loading: _Loading, timeout_s: float) -> _Home:
        loading.waiting += 1
        try:
            done, _ = await asyncio.wait({loading.task}, timeout=timeout_s)
        finally:
            loading.waiting -= 1
            if not loading.waiting and not loading.task.done():
                await _end_load(loading.task)
        if not done:
            raise EngineTimeout(
                f"{loading.model.name} was not loaded within {timeout_s:g} s", try_next="raise the limit"
            )
        if loading.task.cancelled():
            raise EngineDied(f"{loading.model.name} was unloaded while it was being loaded")
        return loading.task.result()

    def _loaded(self, name: str, task: asyncio.Task[_Home]) -> None:
        del self._loading[name]
        if not task.cancelled():
            task.exception()  # looked at even when everybody who waited for it has left

    async def _settle(self, model: ModelSpec) -> _Home:
        """Bring a model up in whatever its options say and take it into the books."""
        if dead := self._homes.pop(model.name, None):
            await _leave(dead)
        started = time.monotonic()
        options = _options(model)
        if url := options.get("url"):
            key = os.environ.get(options.get("api_key_env", ""), "")
            home = await self._visit(model, url.rstrip("/"), key)
        else:
            home = await self._start(model, options.get("runner", "worker"))
        home.load_seconds = time.monotonic() - started
        self._homes[model.name] = home
        return home

    async def _start(self, model: ModelSpec, runner: str) -> _Home:
        path = self._path(model)
        header = await asyncio.to_thread(_header, model.name, path)
        settings = _settings(model, path, header)
        if runner == "worker":
            worker = await start_worker(settings)
        elif (program := shutil.which("llama-server")) is None:
            raise EngineMissing(
                "no llama-server on the PATH",
                expected="that program of llama.cpp, for models with `runner: llama-server`",
                try_next="install llama.cpp, or leave out runner",
            )
        else:
            worker = await start_program(settings, program)
        home = _Home(model, worker.url, worker.api_key, worker, 0.0)
        if runner != "worker":
            await self._ready(home, worker)
        return home

    async def _ready(self, home: _Home, worker: Worker) -> None:
        """Wait until a llama-server has loaded its model; end it when it will not or nobody waits."""
        try:
            while worker.alive:
                with suppress(EngineFailure, UnknownModel):
                    await self._healthy(home)
                    return
                await asyncio.sleep(_HEALTH_POLL_S)
            raise await worker.load_error("")
        except BaseException:
            await surely(worker.end())
            raise

    async def _visit(self, model: ModelSpec, url: str, api_key: str) -> _Home:
        if model.adapters:
            raise Unsupported(f"{model.name}: adapters must be given to the server at {url} when it starts")
        home = _Home(model, url, api_key, None, 0.0)
        try:
            await self._healthy(home)
        except EngineFailure as cause:
            raise EngineMissing(
                f"{model.name}: {cause.happened}",
                expected=f"a llama-server at {url}",
                try_next="start it, or correct the url",
            ) from cause
        return home

    async def _healthy(self, home: _Home) -> None:
        url = f"{home.url}/health"
        await fetch_json(self._http(), url, model=home.model.name, timeout_s=5.0, headers=home.headers)

    def _stream(self, home: _Home, request: Request, timeout_s: float) -> AsyncGenerator[Piece | Reply, None]:
        # Streamed even where nobody wants pieces: llama-server looks about once a second whether the one
        # who waits for a whole answer is still there, and its slot is busy until then.
        return stream_chat(
            self._http(),
            home.url + request.path,
            request.body,
            model=home.model.name,
            timeout_s=timeout_s,
            headers=home.headers,
        )

    def _home(self, model: ModelSpec) -> _Home:
        home = self._homes.get(model.name)
        if home is None:
            raise EngineDied(f"{model.name} is not loaded", try_next="load it first")
        return home

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            # A kept connection holds one of llama-server's few HTTP threads for 5 s while it idles, and
            # those who wait would wait for that; a new one on the loopback costs a tenth of a millisecond.
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session

    def _path(self, model: ModelSpec) -> Path:
        given = Path(model.source).expanduser()
        candidates = [given]
        if len(given.parts) == 1:
            names = (given.name, f"{given.name}.gguf")
            candidates += [folder / name for folder in self._folders for name in names]
        for path in candidates:
            if path.is_file():
                return path
        raise UnknownModel(
            f"{model.name}: there is no file {model.source}",
            expected="the path of a GGUF file",
            try_next="correct the model's source",
        )


def _settings(model: ModelSpec, path: Path, header: GgufHeader) -> WorkerSettings:
    architecture = header.metadata.get("general.architecture")
    return WorkerSettings(
        name=model.name,
        path=str(path),
        context_tokens=model.context_tokens,
        slots=model.slots,
        threads=model.threads,
        gpu_layers=model.gpu_layers,
        batch_tokens=memory.batch_tokens(model),
        embeddings=model.embeddings,
        # A file that does not say how it pools would give one vector per token.
        pooling_mean=model.embeddings and f"{architecture}.pooling_type" not in header.metadata,
        adapters=tuple(str(_existing(model, adapter)) for adapter in model.adapters),
        gpu=model.gpu,
    )


def _header(name: str, path: Path) -> GgufHeader:
    try:
        return read_gguf(path)
    except (BrokenGguf, OSError) as cause:
        raise ModelBroken(
            f"{name}: {path}: {cause}", expected="a whole GGUF file", try_next="download or export it again"
        ) from cause


def _other_parts(path: Path) -> list[Path]:
    """Return the other files of a model that is split as llama.cpp splits it (x-00001-of-00003.gguf)."""
    stem, found, rest = path.name.partition("-00001-of-")
    return [part for part in path.parent.glob(f"{stem}-*-of-{rest}") if part != path] if found else []


def _existing(model: ModelSpec, adapter: str) -> Path:
    path = Path(adapter).expanduser()
    if not path.is_file():
        raise UnknownModel(f"{model.name}: there is no adapter {adapter}", expected="the path of a GGUF LoRA")
    return path


def _options(model: ModelSpec) -> dict[str, str]:
    options = dict(model.options)
    if unknown := sorted(set(options) - _OPTIONS):
        raise ConfigurationError(
            f"{model.name}: llamacpp has no option {unknown[0]!r}",
            expected=f"one of {', '.join(sorted(_OPTIONS))}",
        )
    if options.get("runner", "worker") not in ("worker", "llama-server"):
        raise ConfigurationError(
            f"{model.name}: runner is {options['runner']!r}", expected="worker or llama-server"
        )
    return options


def _same(held: Held, model: ModelSpec) -> Held:
    if held.model != model:
        raise BadRequest(
            f"{model.name} is loaded with another shape", try_next="unload it first, or use another name"
        )
    return held


def _residence(home: _Home) -> Residence:
    residence = home.residence()
    if residence is None:
        raise EngineDied(f"{home.model.name}: its worker ended as soon as it was ready")
    return residence


def _as_asked(part: Piece | Reply, ask: Ask, waited_s: float) -> Piece | Reply:
    """Leave out alternatives nobody asked for, and count the wait for a slot into the reply's seconds."""
    if ask.top_logprobs == 0:
        part = replace(part, logprobs=tuple(replace(entry, top=()) for entry in part.logprobs))
    if isinstance(part, Reply):
        first_s = None if part.first_token_s is None else part.first_token_s + waited_s
        part = replace(part, seconds=part.seconds + waited_s, first_token_s=first_s)
    return part


async def _leave(home: _Home) -> None:
    if home.worker is not None:
        await surely(home.worker.end())


async def _end_load(task: asyncio.Task[_Home]) -> None:
    """Cancel a load and wait until it has ended what it started."""
    task.cancel()
    await asyncio.wait({task})


async def _explained(home: _Home, died: EngineDied) -> EngineDied:
    if home.worker is None:
        return died
    return EngineDied(
        f"{died.happened}; {await home.worker.obituary()}",
        expected=died.expected,
        try_next="load the model again",
    )
