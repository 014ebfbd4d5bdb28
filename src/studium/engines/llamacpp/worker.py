"""The process that holds one model: llama.cpp's server on a random loopback port.

It is run as a script by `process.py` and imports nothing of Studium, so that it starts in a moment and
stays small. It reads one line of JSON (what to load) from stdin, writes one (the port, or why not) to
stdout, and then waits for stdin to end: that is how it learns that its parent has gone.
"""

import ctypes
import importlib
import json
import os
import signal
import socket
import sys
import time
from typing import Any

_PR_SET_PDEATHSIG = 1
WARM_UP_S = 60.0
_LOG_S = 0.2
_ONE_TOKEN = {"prompt": "a", "n_predict": 1, "cache_prompt": False}


def main() -> None:
    """Serve until stdin ends. Never returns: tearing the server down could hang, ending cannot."""
    # llama.cpp prints here and there to stdout; the report must be alone on it.
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    settings = json.loads(sys.stdin.buffer.readline())
    _die_with_parent(settings["parent_pid"])
    if settings["program"]:
        _become(settings["program"], settings["environment"])
    try:
        server, answer = _serve(settings)
    except (RuntimeError, OSError, MemoryError) as error:
        server, answer = None, {"error": f"{type(error).__name__}: {error}"}
        # The cause is in llama.cpp's log, which a thread of its own writes: ending at once lost it now and then.
        time.sleep(_LOG_S)
    report.write(json.dumps(answer) + "\n")
    report.close()
    if server is not None:
        sys.stdin.buffer.read()
    os._exit(0 if server is not None else 1)


def _serve(settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    started = time.monotonic()
    xllamacpp: Any = importlib.import_module("xllamacpp")  # it has no type information
    server = xllamacpp.Server(_parameters(xllamacpp, settings))
    _warm_up(server.listening_address, settings["api_key"], settings["embeddings"])
    return server, {"url": server.listening_address, "seconds": time.monotonic() - started}


def _parameters(xllamacpp: Any, settings: dict[str, Any]) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings["path"]
    parameters.model_alias = {settings["name"]}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [settings["api_key"]]
    parameters.n_ctx = settings["context_tokens"] * settings["slots"]  # llama.cpp divides it by the slots
    parameters.n_parallel = settings["slots"]
    # A connection holds an HTTP thread while its answer streams; some must be left for what waits.
    parameters.n_threads_http = settings["slots"] + 4
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = settings["threads"]
    parameters.n_gpu_layers = settings["gpu_layers"]
    parameters.n_batch = parameters.n_ubatch = settings["batch_tokens"]
    parameters.fit_params = False  # never less context than asked for
    parameters.ctx_shift = False  # never cut a prompt or an answer's beginning
    parameters.cache_ram_mib = 0  # finished prompts would be kept, up to 8 GiB of them
    parameters.n_ctx_checkpoints = 0
    parameters.ui = False
    parameters.warmup = False  # the first request does it
    parameters.verbosity = 1  # errors, which go into the messages of ours
    parameters.embedding = settings["embeddings"]
    if settings["pooling_mean"]:
        parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    parameters.lora_adapters = [
        xllamacpp.CommonAdapterLoraInfo(path=path, scale=1.0) for path in settings["adapters"]
    ]
    return parameters


def _warm_up(url: str, api_key: str, embeddings: bool) -> None:
    """Ask once: a server destroyed before its first request hangs for ever, and the first is the slowest."""
    path, body = ("/v1/embeddings", {"input": "a"}) if embeddings else ("/completion", _ONE_TOKEN)
    content = json.dumps(body)
    head = f"POST {path} HTTP/1.0\r\nAuthorization: Bearer {api_key}\r\nContent-Type: application/json\r\n"
    host, _, port = url.removeprefix("http://").rpartition(":")
    # By hand, because the standard client's modules cost 30 ms and several megabytes.
    with socket.create_connection((host, int(port)), timeout=WARM_UP_S) as connection:
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n{content}".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    if b" 200 " not in answer.split(b"\r\n", 1)[0]:
        raise RuntimeError(f"the first request failed: {answer[-400:].decode(errors='replace')}")


def _become(program: list[str], environment: dict[str, str]) -> None:
    """Turn into another server. The signal asked for in `_die_with_parent` outlives the change."""
    os.execve(program[0], program, {**os.environ, **environment})


def _die_with_parent(parent_pid: int) -> None:
    """Ask Linux to kill this process when its parent ends, however it ends; elsewhere stdin's end must do."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it ended before we asked
        os._exit(1)


if __name__ == "__main__":
    main()
