"""What `doctor` looks at: one function per question, each answered without changing anything.

A finding is OK, ABSENT (an extra that is not there, and how to add it) or BROKEN (something that is in the
way of an answer). Every look outside this process has a limit.
"""

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path

from studium.cli.running import is_alive
from studium.config import Config
from studium.errors import OperatorError
from studium.records.hardware import HardwareSnapshot

OLLAMA_URL = "http://127.0.0.1:11434"
TRAINING = ("torch", "transformers", "peft", "trl", "tokenizers", "gguf")
IMPORT_TIMEOUT_S = 30.0
REACH_S = 1.0
FREE_DISK_BYTES = 200 * 1024**2
GIB = 1024**3


class State(StrEnum):
    OK = "ok"
    ABSENT = "absent"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one thing; `try_next` is the command or line that changes it."""

    name: str
    state: State
    found: str
    try_next: str = ""


def look_around(config: Config, hardware: HardwareSnapshot, environment: Mapping[str, str]) -> list[Finding]:
    """Return all findings but those about single students, in the order a newcomer needs them."""
    return [
        python(),
        llama_cpp(
            needed=not config.students or any(_kind(config, m.engine) == "llamacpp" for m in config.models)
        ),
        memory(hardware),
        gpus(hardware),
        workspace(config.workspace),
        port(config.server.host, config.server.port),
        *keys(config, environment),
        ollama(config),
        llama_server(),
        training(),
        code_sandbox(),
    ]


def python() -> Finding:
    return Finding(
        "python", State.OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )


def llama_cpp(*, needed: bool) -> Finding:
    """Import the library in a process of its own: on a processor it was not built for it kills its process."""
    try:
        installed = version_of("xllamacpp")
    except PackageNotFoundError:
        return Finding("llama.cpp", _lack(needed), "not installed", "pip install xllamacpp")
    command = [sys.executable, "-c", "import xllamacpp"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=IMPORT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding(
            "llama.cpp", _lack(needed), f"{installed} did not load in {IMPORT_TIMEOUT_S:.0f} s", "make run"
        )
    if done.returncode == 0:
        return Finding("llama.cpp", State.OK, f"{installed}, embedded")
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    why = said[-1] if said else f"ended with status {done.returncode}"
    return Finding(
        "llama.cpp",
        _lack(needed),
        f"{installed} cannot be loaded: {why}",
        "pip install --force-reinstall xllamacpp",
    )


def memory(hardware: HardwareSnapshot) -> Finding:
    found = f"{hardware.ram_available_bytes / GIB:.1f} of {hardware.ram_total_bytes / GIB:.1f} GiB free"
    return Finding("memory", State.OK, found)


def gpus(hardware: HardwareSnapshot) -> Finding:
    if not hardware.gpus:
        return Finding("gpu", State.ABSENT, "none that NVML knows; models run on the processor", "nvidia-smi")
    found = [f"{gpu.name}, {gpu.vram_free_bytes / GIB:.1f} GiB free" for gpu in hardware.gpus]
    return Finding("gpu", State.OK, "; ".join(found))


def workspace(folder: Path) -> Finding:
    existing = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding(
            "workspace", State.BROKEN, f"{folder} cannot be written to", "studium up --workspace FOLDER"
        )
    free = shutil.disk_usage(existing).free
    found = f"{folder}, {free / GIB:.1f} GiB free" + ("" if folder.exists() else "; made when first needed")
    if free < FREE_DISK_BYTES:
        return Finding("workspace", State.BROKEN, found, f"make room: du -sh {existing}/* | sort -h")
    return Finding("workspace", State.OK, found)


def port(host: str, number: int) -> Finding:
    where = f"{host}:{number}"
    try:
        address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(address[0], address[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address[4])
    except OSError as error:
        if is_alive(f"http://{where}"):
            return Finding("port", State.OK, f"a Studium is already serving at {where}")
        return Finding(
            "port", State.ABSENT, f"{where}: {error.strerror}", f"studium up --port {min(number + 1, 65535)}"
        )
    return Finding("port", State.OK, f"{where} is free")


def keys(config: Config, environment: Mapping[str, str]) -> list[Finding]:
    """Return a finding for each variable the configuration names that is not set."""
    named = {"server": config.server.api_keys_env}
    named |= {f"engine {name}": engine.api_key_env for name, engine in config.engines.items()}
    return [
        Finding("key", State.ABSENT, f"{variable} is not set, which {who} needs", f"export {variable}=...")
        for who, variable in named.items()
        if variable and not environment.get(variable)
    ]


def ollama(config: Config) -> Finding:
    import json
    from http.client import HTTPException
    from urllib.request import urlopen

    declared = [engine.url for engine in config.engines.values() if engine.kind == "ollama" and engine.url]
    url = (declared or [OLLAMA_URL])[0].rstrip("/")
    state = (
        State.BROKEN
        if any(_kind(config, model.engine) == "ollama" for model in config.models)
        else State.ABSENT
    )
    try:
        with urlopen(url + "/api/version", timeout=REACH_S) as response:
            told = json.loads(response.read(4096))
    except (OSError, ValueError, HTTPException):
        advice = (
            "ollama serve" if shutil.which("ollama") else "install it from ollama.com, then: ollama serve"
        )
        return Finding("ollama", state, f"does not answer at {url}", advice)
    release = told.get("version") if isinstance(told, dict) else None
    return Finding("ollama", State.OK, f"{release or 'unknown version'} at {url}")


def llama_server() -> Finding:
    program = shutil.which("llama-server")
    if program is None:
        return Finding(
            "llama-server", State.ABSENT, "not on the PATH; the embedded llama.cpp does without", ""
        )
    return Finding("llama-server", State.OK, program)


def need_training_tools() -> None:
    """Raise OperatorError where what training needs is not installed: serving does without it."""
    lacking = [name for name in TRAINING if find_spec(name) is None]
    if lacking:
        raise OperatorError(
            f"training needs {', '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not installed",
            expected="an environment with the training tools",
            try_next="make dev (in a clone), or pip install 'studium[train]'",
        )


def training() -> Finding:
    lacking = [name for name in TRAINING if find_spec(name) is None]
    if lacking:
        return Finding("training", State.ABSENT, f"not installed: {', '.join(lacking)}", "make dev")
    return Finding("training", State.OK, f"torch {version_of('torch')}")


def code_sandbox() -> Finding:
    """Start the sandbox in which code runs that a model wrote, as it would be used."""
    from studium.tools.sandbox import INSTALL, available

    backend, found = available()
    if backend is None:
        return Finding("sandbox", State.ABSENT, f"code is not run, so not scored: {found}", INSTALL)
    return Finding("sandbox", State.OK, f"{found}, for code that a model wrote")


def _kind(config: Config, engine: str) -> str:
    """An engine that is not declared is of the kind it is named after."""
    declared = config.engines.get(engine)
    return declared.kind if declared else engine


def _lack(needed: bool) -> State:
    return State.BROKEN if needed else State.ABSENT
