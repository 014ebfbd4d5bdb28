"""The engines that the contract suite is run against: one bench per engine, made anew for every test.

To add an engine, write one asynchronous context manager that yields a `Bench` and put it into `BENCHES`.
A field left at None says that the engine has no such case; the tests that need it are then skipped.
"""

import atexit
import shutil
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from tests.fixtures import vllm_server
from tests.fixtures.llama_server import real_llama_server
from tests.fixtures.tiny_gguf import write_adapter, write_model

from studium.engines.llamacpp.engine import LlamaCppEngine
from studium.engines.ollama import OllamaEngine
from studium.engines.openai_api import OpenAIApiEngine
from studium.engines.protocol import Engine
from studium.engines.scripted import Fault, FaultKind, ModelScript, Rule, Script, ScriptedEngine
from studium.engines.scripted.server import serving
from studium.records.messages import Ask, Message, Sampling
from studium.records.models import ModelSpec


def say(text: str, *, max_tokens: int = 24, seed: int = 7, timeout_s: float = 20.0) -> Ask:
    """Return an ask of one user turn, drawn with a seed."""
    sampling = Sampling(max_tokens=max_tokens, seed=seed, temperature=0.7)
    return Ask(messages=(Message("user", text),), sampling=sampling, timeout_s=timeout_s)


@dataclass(frozen=True, slots=True)
class Bench:
    """One engine and what to try on it.

    `good` answers `ask` with at least 20 tokens where it is let, and `long` with work for half a second or
    more. `unknown` names nothing; `broken` names something that cannot be read. `too_long` does not fit
    `good`'s context. `embedding` is a model that gives vectors, `adapted` is `good` with an adapter.
    `seeded` and `counts_tokens` say whether the server behind it honours seeds and reports counts;
    `slots_in_parallel` whether `good` (2 slots) answers two asks at once.
    """

    engine: Engine
    good: ModelSpec
    unknown: ModelSpec
    ask: Ask = field(default_factory=lambda: say("Count to ten."))
    long: Ask = field(default_factory=lambda: say("Tell me everything.", max_tokens=1500))
    broken: ModelSpec | None = None
    too_long: Ask | None = None
    embedding: ModelSpec | None = None
    adapted: ModelSpec | None = None
    seeded: bool = True
    counts_tokens: bool = True
    slots_in_parallel: bool = True


def _llamacpp_bench(folder: Path, **options: str) -> Bench:
    """Random-weight GGUF models, each in a process of its own."""
    model_path = write_model(folder / "tiny.gguf")
    adapter_path = write_adapter(folder / "lora.gguf")
    truncated = folder / "truncated.gguf"
    truncated.write_bytes(model_path.read_bytes()[:100_000])

    def spec(name: str, path: Path, **more: object) -> ModelSpec:
        shape: dict[str, object] = {"context_tokens": 2048, "options": options, **more}
        return ModelSpec(name=name, engine="llamacpp", source=str(path), **shape)  # type: ignore[arg-type]

    return Bench(
        engine=LlamaCppEngine(),
        good=spec("tiny", model_path, slots=2),
        unknown=spec("absent", folder / "absent.gguf"),
        broken=spec("truncated", truncated),
        too_long=say("x" * 3000),
        embedding=spec("vectors", model_path, embeddings=True),
        adapted=spec("adapted", model_path, adapters=(str(adapter_path),)),
    )


@asynccontextmanager
async def llamacpp(folder: Path) -> AsyncGenerator[Bench, None]:
    """llama.cpp as it comes with the package."""
    yield _llamacpp_bench(folder)


@asynccontextmanager
async def llama_server(folder: Path) -> AsyncGenerator[Bench, None]:
    """A real llama-server binary, where there is one."""
    with real_llama_server(folder):
        yield _llamacpp_bench(folder, runner="llama-server")


_WORDS = "one two three four five six seven eight nine ten eleven twelve"
SCRIPT = ModelScript(
    rules=(Rule((" ".join([_WORDS] * 20),), contains="everything"),),
    default=(f"{_WORDS} {_WORDS}",),
    json_answer='{"sure": true}',
    load_s=0.01,
    first_token_s=0.002,
    token_s=0.004,
    context_tokens=2048,
    resident_bytes=50_000_000,
    peak_bytes=60_000_000,
)


@asynccontextmanager
async def scripted(folder: Path) -> AsyncGenerator[Bench, None]:
    """Scripted models; the long answer takes a second."""
    good = ModelSpec(name="good", engine="scripted", source="good", context_tokens=2048, slots=2)
    yield Bench(
        engine=ScriptedEngine({"good": SCRIPT, "broken": ModelScript(fault=Fault(FaultKind.CRASH_AT_LOAD))}),
        good=good,
        unknown=replace(good, name="absent", source="absent"),
        broken=replace(good, name="broken", source="broken"),
        too_long=say("x " * 3000),
        embedding=replace(good, name="vectors", embeddings=True),
    )


@asynccontextmanager
async def openai_api(folder: Path) -> AsyncGenerator[Bench, None]:
    """The scripted models behind an OpenAI-shaped server; it has no loading that could fail."""
    async with serving(Script({"good": SCRIPT})) as running:
        good = ModelSpec(name="good", engine="openai_api", source="good", context_tokens=2048, slots=2)
        yield Bench(
            engine=OpenAIApiEngine(f"{running.url}/v1"),
            good=good,
            unknown=replace(good, name="absent", source="absent"),
            too_long=say("x " * 3000),
            embedding=replace(good, name="vectors", embeddings=True),
        )


@asynccontextmanager
async def ollama(folder: Path) -> AsyncGenerator[Bench, None]:
    """The scripted models behind a server that speaks Ollama's protocol."""
    models = {"good": SCRIPT, "vectors": SCRIPT, "broken": ModelScript(fault=Fault(FaultKind.CRASH_AT_LOAD))}
    async with serving(Script(models)) as running:
        good = ModelSpec(name="good", engine="ollama", source="good", context_tokens=2048, slots=2)
        yield Bench(
            engine=OllamaEngine(running.url),
            good=good,
            unknown=replace(good, name="absent", source="absent"),
            broken=replace(good, name="broken", source="broken"),
            too_long=say("x " * 3000),
            embedding=replace(good, name="vectors", source="vectors", embeddings=True),
        )


@asynccontextmanager
async def vllm(folder: Path) -> AsyncGenerator[Bench, None]:
    """A real vLLM, where there is one, with a model of random weights; it loads nothing when asked to."""
    words = ["serve", "./model", "--served-model-name", "good", "--max-model-len", "1024"]
    url = vllm_server.served(words, _random_folder)
    good = ModelSpec(
        name="good",
        engine="openai_api",
        source="good",
        context_tokens=1024,
        slots=2,
        options={"dialect": "vllm"},
    )
    yield Bench(
        engine=OpenAIApiEngine(f"{url}/v1"),
        good=good,
        unknown=replace(good, name="absent", source="absent"),
        long=say("Tell me everything.", max_tokens=900),
        too_long=say("x " * 3000),
    )


@cache
def _random_folder() -> Path:
    """Return a folder with a Llama of random weights; it is gone when this process ends."""
    write_random = pytest.importorskip("benchmarks.training_speed", reason="training is an extra")
    folder = Path(mkdtemp(prefix="studium-random-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_random.write_random_llama(write_random.Size("tiny", 64, 2, 2, 96), folder / "model")
    return folder


BENCHES: Mapping[str, Callable[[Path], AbstractAsyncContextManager[Bench]]] = {
    "llamacpp": llamacpp,
    "llama-server": llama_server,
    "scripted": scripted,
    "openai_api": openai_api,
    "ollama": ollama,
    "vllm": vllm,
}
