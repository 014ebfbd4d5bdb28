"""The scripted engine: it obeys the engine protocol to the letter and a script in everything else.

Memory is declared, not used: `residences` reports what the script says, and `events` remembers what was asked
of the engine. Clock and sleep are arguments, so that slow and hanging models cost a test nothing.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from studium.engines.scripted.faults import LOAD_FAULTS, UNLOAD_FAULTS, Faults
from studium.engines.scripted.read import read_script
from studium.engines.scripted.script import BUILT_IN, Fault, FaultKind, ModelScript
from studium.engines.scripted.speech import Break, Pause, count_tokens, embedding, speak, steps
from studium.errors import (
    BadReply,
    DoesNotFit,
    EngineDied,
    EngineRefused,
    EngineTimeout,
    ModelBroken,
    StudiumError,
    UnknownModel,
    Unsupported,
)
from studium.records.messages import Ask, Embeddings, Piece, Reply
from studium.records.models import Capabilities, MemoryEstimate, ModelSpec, Residence

_REMEMBERED_EVENTS = 10_000


class Event(NamedTuple):
    """Something that happened: load, unload, ask, died or gave back, and the bytes occupied just after."""

    what: str
    model: str
    occupied_bytes: int


@dataclass(eq=False, slots=True)
class _Tenant:
    """A model in memory."""

    residence: Residence
    slots: asyncio.Semaphore
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class ScriptedEngine:
    """Answers from scripts. A model's `source` is a registered or built-in name, or a script file.

    A file with several models is entered as "FILE#MODEL", or by the ModelSpec's name.
    """

    capabilities = Capabilities(
        manages_memory=True, places_models=True, logprobs=True, json_schema=True, embeddings=True
    )

    def __init__(
        self,
        models: Mapping[str, ModelScript] | None = None,
        *,
        name: str = "scripted",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.events: deque[Event] = deque(maxlen=_REMEMBERED_EVENTS)
        self._models = dict(BUILT_IN) | dict(models or {})
        self._from_files: dict[tuple[str, str], ModelScript] = {}
        self._clock = clock
        self._sleep = sleep
        self._tenants: dict[str, _Tenant] = {}
        self._kept: dict[str, Residence] = {}
        self._hidden: dict[str, Residence] = {}
        self._later: set[asyncio.Task[None]] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._faults = Faults()

    @property
    def occupied_bytes(self) -> int:
        """The bytes of all models in memory, those wrongly kept included, listed or not."""
        held = (*self._residences(), *self._hidden.values())
        return sum(residence.resident_bytes or 0 for residence in held)

    async def estimate(self, model: ModelSpec) -> MemoryEstimate:
        script = self._script(model)
        if script.promised_bytes is not None:
            return MemoryEstimate(script.promised_bytes, 0, 0)
        overhead = max((script.peak_bytes or 0) - script.resident_bytes, 0)
        return MemoryEstimate(script.resident_bytes, 0, overhead)

    async def load(self, model: ModelSpec, *, timeout_s: float) -> Residence:
        script = self._script(model)
        if model.adapters:
            raise Unsupported(
                f"{model.name}: a scripted model takes no adapters", try_next="give it another script"
            )
        async with self._locks.setdefault(model.name, asyncio.Lock()):
            if (tenant := self._tenants.get(model.name)) is None:
                tenant = await self._load(model, script, timeout_s)
        return tenant.residence

    async def unload(self, model: ModelSpec) -> None:
        async with self._locks.setdefault(model.name, asyncio.Lock()):
            tenant = self._tenants.pop(model.name, None)
            if tenant is None:
                return
            tenant.gone.set()
            if fault := self._faults.strike(model.name, self._script(model), UNLOAD_FAULTS):
                self._keep(tenant.residence, fault)
            self._remember("unload", model.name)

    async def residences(self) -> Sequence[Residence]:
        return self._residences()

    async def generate(self, model: ModelSpec, ask: Ask) -> AsyncGenerator[Piece | Reply, None]:
        script, tenant, started = self._script(model), self._tenant(model), self._clock()
        if model.embeddings:
            raise Unsupported(f"{model.name} was loaded for embeddings", try_next="ask another model")
        self._remember("ask", model.name)
        speech = speak(script, ask, context_tokens=model.context_tokens)
        fault = self._faults.strike(model.name, script)
        first_token_s = None
        await self._take_slot(model, tenant, ask.timeout_s)
        try:
            for step in steps(script, speech, fault):
                if isinstance(step, Pause):
                    await self._pause(model, tenant, step.seconds, started + ask.timeout_s)
                elif isinstance(step, Break):
                    raise self._break(model, tenant, step.fault)
                else:
                    await asyncio.sleep(0)
                    if first_token_s is None:
                        first_token_s = self._clock() - started
                    yield step
        finally:
            tenant.slots.release()
        yield Reply(
            text=speech.text,
            finish=speech.finish,
            seconds=self._clock() - started,
            prompt_tokens=speech.prompt_tokens,
            completion_tokens=len(speech.tokens),
            first_token_s=first_token_s,
            logprobs=speech.logprobs,
        )

    async def embed(self, model: ModelSpec, texts: Sequence[str]) -> Embeddings:
        script = self._script(model)
        if not model.embeddings or not script.embedding_size:
            raise Unsupported(
                f"{model.name} gives no embeddings",
                expected="a model with `embeddings: true` and a script with an embedding_size",
                try_next="name such a model",
            )
        self._tenant(model)
        vectors = [embedding(script, text) for text in texts]
        return Embeddings(vectors, sum(count_tokens(Ask(prompt=text)) for text in texts))

    async def models(self) -> Sequence[str]:
        return sorted(self._models)

    async def close(self) -> None:
        for tenant in self._tenants.values():
            tenant.gone.set()
        self._tenants.clear()
        self._kept.clear()
        self._hidden.clear()
        for task in self._later:
            task.cancel()

    async def _load(self, model: ModelSpec, script: ModelScript, timeout_s: float) -> _Tenant:
        started = self._clock()
        fault = self._faults.strike(model.name, script, LOAD_FAULTS)
        needed_s = math.inf if fault and fault.kind is FaultKind.HANG_AT_LOAD else script.load_s
        if needed_s:
            await self._sleep(min(needed_s, timeout_s))
        if needed_s > timeout_s:
            raise EngineTimeout(f"{model.name} did not load within {timeout_s:g} s")
        if fault is not None:
            raise _load_error(model, script, fault)
        residence = Residence(
            model=model.name,
            resident_bytes=script.resident_bytes,
            peak_bytes=max(script.peak_bytes or 0, script.resident_bytes),
            load_seconds=self._clock() - started,
        )
        self._kept.pop(model.name, None)
        self._hidden.pop(model.name, None)
        self._tenants[model.name] = tenant = _Tenant(residence, asyncio.Semaphore(model.slots))
        self._remember("load", model.name)
        return tenant

    def _keep(self, residence: Residence, fault: Fault) -> None:
        """Hold on to the memory of a model that was unloaded, as its fault says."""
        if fault.kind is FaultKind.HIDES_MEMORY:
            self._hidden[residence.model] = residence
            return
        self._kept[residence.model] = residence
        if fault.kind is FaultKind.GIVES_BACK_LATE:
            task = asyncio.create_task(self._give_back(residence, fault.seconds))
            self._later.add(task)
            task.add_done_callback(self._later.discard)

    async def _give_back(self, residence: Residence, after_s: float) -> None:
        await self._sleep(after_s)
        if self._kept.get(residence.model) is residence:
            del self._kept[residence.model]
            self._remember("gave back", residence.model)

    def _script(self, model: ModelSpec) -> ModelScript:
        if (script := self._models.get(model.source)) is not None:
            return script
        # One file serves several models: the source alone does not tell which.
        key = (model.source, model.name)
        if key not in self._from_files:
            self._from_files[key] = _from_file(model, sorted(self._models))
        return self._from_files[key]

    def _tenant(self, model: ModelSpec) -> _Tenant:
        if (tenant := self._tenants.get(model.name)) is None:
            raise EngineDied(
                f"{model.name} is not loaded", expected="a loaded model", try_next="load it first"
            )
        return tenant

    def _residences(self) -> list[Residence]:
        return [*(tenant.residence for tenant in self._tenants.values()), *self._kept.values()]

    async def _take_slot(self, model: ModelSpec, tenant: _Tenant, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await tenant.slots.acquire()
        except TimeoutError as cause:
            raise EngineTimeout(f"{model.name} had no free slot within {timeout_s:g} s") from cause

    async def _pause(self, model: ModelSpec, tenant: _Tenant, seconds: float, deadline: float) -> None:
        left_s = deadline - self._clock()
        sleeping = asyncio.ensure_future(self._sleep(max(min(seconds, left_s), 0.0)))
        gone = asyncio.ensure_future(tenant.gone.wait())
        try:
            await asyncio.wait((sleeping, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            gone.cancel()
        if tenant.gone.is_set():
            raise EngineDied(f"{model.name} was unloaded while it answered")
        if seconds > left_s:
            raise EngineTimeout(
                f"{model.name} did not finish in time", try_next="raise the limit or ask for less"
            )

    def _break(self, model: ModelSpec, tenant: _Tenant, fault: Fault) -> StudiumError:
        match fault.kind:
            case FaultKind.CRASH:
                if self._tenants.get(model.name) is tenant:
                    del self._tenants[model.name]
                tenant.gone.set()
                self._remember("died", model.name)
                return EngineDied(f"{model.name} died after {fault.after_tokens} tokens")
            case FaultKind.HALF_STREAM:
                return EngineDied(f"{model.name}: the stream ended after {fault.after_tokens} tokens")
            case FaultKind.GARBAGE:
                return BadReply(f"{model.name} sent bytes that are no answer")
            case FaultKind.BUSY:
                return EngineRefused(f"{model.name} is busy", try_next=f"come back in {fault.seconds:g} s")
            case _:
                return EngineRefused(f"{model.name} refused to answer")

    def _remember(self, what: str, model: str) -> None:
        self.events.append(Event(what, model, self.occupied_bytes))


def _load_error(model: ModelSpec, script: ModelScript, fault: Fault) -> StudiumError:
    if fault.kind is FaultKind.OUT_OF_MEMORY:
        return DoesNotFit(
            f"{model.name} needs {script.resident_bytes:,} bytes and there is no room for them",
            try_next="unload another model",
        )
    return ModelBroken(f"{model.name} crashed while it loaded", try_next="see its script")


def _from_file(model: ModelSpec, known: Sequence[str]) -> ModelScript:
    file, _, entry = model.source.partition("#")
    if not file.endswith((".yaml", ".yml")):
        raise UnknownModel(
            f"no script is named {model.source!r}",
            expected="one of " + ", ".join(known) + ", or a .yaml file",
            try_next=f"change the source of {model.name}",
        )
    models = read_script(Path(file)).models
    wanted = entry or (next(iter(models)) if len(models) == 1 else model.name)
    if wanted not in models:
        raise UnknownModel(
            f"the script {file} has no model {wanted!r}",
            expected="one of " + ", ".join(models),
            try_next=f"name it as {file}#MODEL",
        )
    return models[wanted]
