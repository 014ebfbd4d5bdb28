"""A worker process from its start to its end: started, heard, measured and reaped.

What it is asked over HTTP is `engine.py`'s affair. However this process ends, its workers end too: they
watch their stdin, and Linux kills them when their parent dies.
"""

import asyncio
import json
import os
import re
import secrets
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studium.errors import DoesNotFit, ModelBroken, OperatorError

TAIL_BYTES = 4096
END_S = 2.0
# llama.cpp says the cause first and then, at each level above it, that something failed: five lines in all.
_LAST_LINES, _LAST_CHARS = 6, 1_000
_LOG_PREFIX = re.compile(r"^\d+\.\d+\.\d+\.\d+ [A-Z] ", re.MULTILINE)
_WORKER = Path(__file__).with_name("worker.py")
# What is set by variable and not by flag: older builds refuse a flag they do not know, a variable they ignore. It
# also overrules what the user's environment may hold: a shifted context would cut prompts and answers silently.
_SERVER_ENVIRONMENT = {
    "LLAMA_ARG_CACHE_RAM": "0",
    "LLAMA_ARG_CACHE_IDLE_SLOTS": "off",
    "LLAMA_ARG_CONTEXT_SHIFT": "off",
    "LLAMA_ARG_CTX_CHECKPOINTS": "0",
    "LLAMA_ARG_FIT": "off",
    "LLAMA_ARG_LOG_VERBOSITY": "1",
    "LLAMA_LOG_VERBOSITY": "1",  # its name in older builds
}
_VISIBLE_GPUS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES")
# How llama.cpp, C++ and CUDA say that memory ran out.
_NO_MEMORY = ("failed to allocate", "insufficient memory", "out of memory", "bad_alloc", "MemoryError")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker loads; it reaches the worker as one line of JSON, field by field."""

    name: str
    path: str
    context_tokens: int
    slots: int
    threads: int
    gpu_layers: int
    batch_tokens: int
    embeddings: bool
    pooling_mean: bool
    adapters: tuple[str, ...]
    gpu: int | None = None


class Worker:
    """One running worker. `url` and `api_key` are where and how it is asked; the key is its own."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, api_key: str) -> None:
        self.name = name
        self.process = process
        self.api_key = api_key
        self.url = ""
        self.load_seconds: float | None = None
        self._tail = bytearray()
        self._listener = asyncio.create_task(self._listen())

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def end(self) -> None:
        """End the process, kindly and then by force; return when it is reaped and its memory free."""
        for stop in (self.process.terminate, self.process.kill):
            if not self.alive:
                break
            with suppress(ProcessLookupError):
                stop()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), END_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._listener, END_S)

    async def obituary(self) -> str:
        """Say how the process ended and what it said last; waits a moment for it to be reaped."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), END_S)
            await asyncio.wait_for(asyncio.shield(self._listener), END_S)
        return f"worker {self.pid} {self._how_it_ended()}{self._last_words()}"

    async def load_error(self, reason: str) -> OperatorError:
        """Return the error for a worker that ended, or gave `reason`, before it was ready."""
        ending = await self.obituary()
        told = f"{reason}{self._last_words()}" if reason else ending
        killed = self.process.returncode == -signal.SIGKILL  # what the kernel does when memory runs out
        if killed or any(words in told for words in _NO_MEMORY):
            return DoesNotFit(
                f"{self.name} did not fit into memory: {told}",
                try_next="unload another model, or lower context_tokens or slots",
            )
        return ModelBroken(
            f"{self.name} could not be loaded: {told}",
            expected="a model file this llama.cpp can run",
            try_next="download or export the file again",
        )

    async def _listen(self) -> None:
        assert self.process.stderr is not None
        while chunk := await self.process.stderr.read(65_536):
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]

    def _how_it_ended(self) -> str:
        code = self.process.returncode
        if code is None:
            return "no longer answers"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    def _last_words(self) -> str:
        lines = _LOG_PREFIX.sub("", self._tail.decode(errors="replace")).strip().splitlines()
        return f"; its last words: {' | '.join(lines[-_LAST_LINES:])[-_LAST_CHARS:]}" if lines else ""


async def start_worker(settings: WorkerSettings) -> Worker:
    """Start a worker and return it when its model answers. Raises ModelBroken or DoesNotFit.

    Bound it from outside: cancelled, it ends what it started before it returns.
    """
    worker = await _spawn(settings, [], {})
    try:
        assert worker.process.stdout is not None
        line = await worker.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {"error": ""}
        if "error" in answer:
            raise await worker.load_error(answer["error"])
        worker.url = answer["url"]
    except BaseException:
        await surely(worker.end())
        raise
    return worker


async def start_program(settings: WorkerSettings, program: str) -> Worker:
    """Start a `llama-server` binary in a worker's place; it may still be loading when this returns."""
    port = free_port()
    flags = {
        "--model": settings.path,
        "--alias": settings.name,
        "--host": "127.0.0.1",
        "--port": port,
        "--ctx-size": settings.context_tokens * settings.slots,
        "--parallel": settings.slots,
        "--threads": settings.threads,
        "--n-gpu-layers": settings.gpu_layers,
        "--batch-size": settings.batch_tokens,
        "--ubatch-size": settings.batch_tokens,
        "--threads-http": settings.slots + 4,
    }
    arguments = [program, *(str(part) for flag in flags.items() for part in flag), "--jinja", "--no-webui"]
    arguments += ["--embeddings"] if settings.embeddings else []
    arguments += ["--pooling", "mean"] if settings.pooling_mean else []
    for adapter in settings.adapters:
        arguments += ["--lora", adapter]
    worker = await _spawn(settings, arguments, _SERVER_ENVIRONMENT)
    worker.url = f"http://127.0.0.1:{port}"
    return worker


async def _spawn(settings: WorkerSettings, program: list[str], environment: dict[str, str]) -> Worker:
    api_key = secrets.token_urlsafe(24)
    told = {
        **asdict(settings),
        "api_key": api_key,
        "parent_pid": os.getpid(),
        "program": program,
        "environment": {**environment, "LLAMA_API_KEY": api_key},
    }
    # Seen by the worker as its only one, under whatever name its build of llama.cpp knows it.
    gpu = {} if settings.gpu is None else {name: str(settings.gpu) for name in _VISIBLE_GPUS}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        str(_WORKER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},  # NVML's order
        start_new_session=True,  # Ctrl-C is for us; we end the workers ourselves
    )
    worker = Worker(settings.name, process, api_key)
    assert process.stdin is not None
    # No waiting here, where a cancellation would lose the process: the line fits into the pipe.
    process.stdin.write(json.dumps(told).encode() + b"\n")
    return worker


async def surely(ending: Any) -> None:
    """Await an ending to its end even when the one who waits is cancelled meanwhile."""
    task = asyncio.ensure_future(ending)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def free_port() -> int:
    """Return a port of this machine that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
