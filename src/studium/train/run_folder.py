"""The folder of a training run: what it was told, how far it is, what it measured; read by every command.

runs/NAME/
    recipe.json      the resolved recipe, with stage, versions, seeds, commit and the data's hash
    status.json      state, step, steps, seconds, ETA, process; replaced whole, so a reader never sees half of it
    metrics.jsonl    one line per step (and per validation); after a resume, steps done again are cut off first
    events.jsonl     what watchers saw and did, pauses, threads, resumes
    recipe.yaml      the recipe as it was given
    preflight.json   what was checked before the first step
    failure.json     why it failed: code, happened, expected, try_next
    process.lock     held by the process at work, so that there is one
    log.txt          everything that was said
    rows.jsonl       flight recorder: per step the rows seen and their losses
    state.pt         everything needed to go on exactly; replaced whole
    stop             appears when somebody asks the run to stop after the step at work
    checkpoint/      the result: a Hugging Face folder, and model.gguf where that is possible
    report.md, plots *.svg
"""

import fcntl
import hashlib
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson
import psutil

from studium.errors import BadRequest, ConfigurationError, OperatorError
from studium.train.bases import base_sha256
from studium.train.config import Recipe

TRAINED_AT = "trained_at"
"""In recipe.json of a run that another Studium carried out: its address."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LIBRARIES = ("studium", "torch", "transformers", "trl", "peft", "tokenizers", "numpy", "unsloth")


class State(StrEnum):
    """How a run stands. A run whose process is gone while it says it is at work was killed: it can be resumed.

    A preparing one has not come to a step of this process: it is checked, loaded, or its teacher draws traces. A
    stopped one was asked to; a halted one was stopped by a watcher.
    """

    PREPARING = "preparing"
    RUNNING = "running"
    STOPPED = "stopped"
    HALTED = "halted"
    DONE = "done"
    FAILED = "failed"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run is. `seconds` are those spent training, resumed parts included; `eta_s` None while unknown."""

    state: State
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    eta_s: float | None = None
    process: int = 0
    process_started: float = 0.0
    message: str = ""
    at: float = 0.0

    @property
    def at_work(self) -> bool:
        """Whether a process is at the run, its first step before it or behind it."""
        return self.state in (State.PREPARING, State.RUNNING)


class RunFolder:
    """One run's files. Opening reads nothing; every write is whole or a line."""

    def __init__(self, path: Path) -> None:
        if not _NAME.fullmatch(path.name):
            raise BadRequest(
                f"{path.name!r} is no name for a run",
                expected="a-z, 0-9, '.', '_', '-', at most 64 characters",
                try_next="set 'name:' in the recipe, or --name",
            )
        self.path = path

    def begin(self, stage: str, recipe: Recipe, data_hash: str) -> bool:
        """Make the folder, or take up the run in it; return whether there is something to go on from.

        Raises ConfigurationError where the folder holds a run of another recipe or other data, or one still running.
        """
        told = {"stage": stage, "recipe": asdict(recipe), "data": data_hash}
        kept = self.told()
        if kept and {key: kept[key] for key in told} != orjson.loads(orjson.dumps(told)):
            raise ConfigurationError(
                f"the run {self.path.name} was begun with another recipe or other data",
                expected="the same recipe to go on, or another name",
                try_next=f"give the new run another 'name:', or remove {self.path}",
            )
        if self.status().at_work and self.status().process != os.getpid():
            raise ConfigurationError(
                f"the run {self.path.name} is at work in process {self.status().process}",
                expected="one process per run",
                try_next=f"studium train watch {self.path.name}, or studium train stop {self.path.name}",
            )
        self.path.mkdir(parents=True, exist_ok=True)
        if not kept:
            # Who is trained last, where a recipe trains one after the other.
            base = [recipe.model, *getattr(recipe, "then", ())][-1]
            provenance = {
                "base": base,
                "base_sha256": base_sha256(base),
                "versions": versions(),
                "commit": commit(),
                "began": time.time(),
            }
            self._replace("recipe.json", told | provenance)
        goes_on = self.state_file.exists()
        if not goes_on:
            self.cut(0)  # of a try that ended before anything was saved
        return goes_on

    @property
    def state_file(self) -> Path:
        return self._file("state.pt")

    @property
    def checkpoint(self) -> Path:
        return self._file("checkpoint")

    @property
    def asked_to_stop(self) -> bool:
        return self._file("stop").exists()

    def ask_to_stop(self) -> None:
        self._file("stop").touch()

    def told(self) -> Mapping[str, Any]:
        """Return what the run was told, with versions and commit; empty where there is no run."""
        return self._read("recipe.json")

    def failure(self) -> dict[str, str]:
        """Return why the run failed: code, happened, expected, try_next; empty where it did not."""
        return self._read("failure.json")

    @contextmanager
    def alone(self, wait_s: float = 5.0) -> Iterator[None]:
        """Be the one process at work here; one that is ending is waited for. Raises OperatorError where it does not.

        How the last process failed, and a stop that it was asked for, are forgotten.
        """
        end = time.monotonic() + wait_s
        with self._file("process.lock").open("a") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > end:
                        raise OperatorError(
                            f"another process is at work in {self.path} and has not ended within {wait_s:g} s",
                            expected="one process per run",
                            try_next=f"studium train stop {self.path.name}",
                        ) from None
                    time.sleep(0.05)
            # Not later, as when training begins: a stop may be asked for from now on.
            for of_the_last in ("failure.json", "stop"):
                self._file(of_the_last).unlink(missing_ok=True)
            yield

    def status(self) -> Status:
        """Return how the run stands; one that says it is at work while its process is gone was killed."""
        kept = self._read("status.json")
        if not kept:
            return Status(State.STOPPED)
        status = Status(**{**kept, "state": State(kept["state"])})
        if status.at_work and not _lives(status):
            return Status(**{**asdict(status), "state": State.KILLED})
        return status

    def say(self, status: Status) -> None:
        """Replace the status."""
        me = psutil.Process()
        now = {"process": me.pid, "process_started": me.create_time(), "at": time.time()}
        self._replace("status.json", {**asdict(status), **now})

    def keep(self, file: str, value: Mapping[str, Any]) -> None:
        """Replace a file of JSON, whole."""
        self._replace(file, value)

    def append(self, file: str, line: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl, events.jsonl or rows.jsonl."""
        with self._file(file).open("ab") as out:
            out.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")

    def lines(self, file: str) -> Iterator[Mapping[str, Any]]:
        """Yield a file's lines; a last line that was cut off by a kill is left out."""
        if not self._file(file).exists():
            return
        with self._file(file).open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    yield orjson.loads(line)

    def cut(self, step: int) -> None:
        """Drop what was written after `step`, which is done again: nothing is counted twice."""
        for file in ("metrics.jsonl", "rows.jsonl"):
            kept = [line for line in self.lines(file) if line["step"] <= step]
            if self._file(file).exists():
                self._write(file, b"".join(orjson.dumps(line) + b"\n" for line in kept))

    def _file(self, name: str) -> Path:
        return self.path / name

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return orjson.loads(self._file(name).read_bytes())
        except FileNotFoundError:
            return {}

    def _replace(self, name: str, value: Mapping[str, Any]) -> None:
        self._write(name, orjson.dumps(value, option=orjson.OPT_INDENT_2))

    def _write(self, name: str, content: bytes) -> None:
        part = self._file(name + ".part")
        part.write_bytes(content)
        part.replace(self._file(name))


def versions() -> Mapping[str, str]:
    """Return the versions of the libraries a result depends on."""
    found: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the commit of Studium's code, with "+" where it was changed since; "" outside a clone."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def hash_of(*parts: bytes) -> str:
    """Return a content hash, of data in the order given."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _lives(status: Status) -> bool:
    try:
        return abs(psutil.Process(status.process).create_time() - status.process_started) < 1.0
    except psutil.Error:
        return False
