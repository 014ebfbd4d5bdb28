"""Training on another Studium: two of them on this machine, the near one without any training tool."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.web.test_adapters_api import served
from tests.web.test_train_api import RECIPE, server, until
from typer.testing import CliRunner

from studium.cli.train import app
from studium.cli.train_at import LONGEST_WATCH_S, progress, train_there, watch
from studium.errors import OperatorError, StudiumError
from studium.manage.box import Box
from studium.records.jobs import Job
from studium.train.recipe_file import read_told

KEY = "a-long-enough-key"
# The serving-only environment: whatever imports a training tool fails.
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "peft", "trl", "datasets", "accelerate", "tokenizers"}:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Block())
"""


def test_progress_is_told_when_it_is_news_and_waiting_ends() -> None:
    now = [0.0]
    job: dict[str, Any] = {"state": "running", "step": 0, "steps": 0, "eta_s": None, "message": ""}
    states = iter(
        [job | {"state": "queued"}, job | {"step": 3, "steps": 9, "eta_s": 61.0}, job | {"state": "done"}]
    )
    assert (
        watch(next(states), lambda: next(states), "x", clock=lambda: now[0], sleep=lambda _: None)["state"]
        == "done"
    )
    assert progress(job) == "running"
    assert (
        progress(job | {"step": 3, "steps": 9, "eta_s": 61.0}) == "running, step 3 of 9, about 1 min 1 s left"
    )
    assert (
        progress(job | {"state": "stopped", "step": 3, "steps": 9, "eta_s": 61.0}) == "stopped, step 3 of 9"
    )

    def sleep(_: float) -> None:
        now[0] += LONGEST_WATCH_S / 2

    with pytest.raises(OperatorError, match="not done after two weeks"):
        watch(job, lambda: job, "x", clock=lambda: now[0], sleep=sleep)


async def test_what_cannot_be_carried_out_there_is_refused_before_it_begins(tmp_path, monkeypatch) -> None:
    """A wrong key, rows that are too many, a model that is not there or is another, a name that is taken here."""
    config = "workspace: {folder}/there\nserver: {{port: 0, api_keys_env: KEYS, max_dataset: 1KiB}}\n"
    monkeypatch.setattr("tests.web.test_adapters_api.CONFIG", config)
    row, here = '{"prompt": "1 + 1", "completion": "2", "licence": "own"}\n', tmp_path / "here"
    (tmp_path / "few.jsonl").write_text(row)
    (tmp_path / "many.jsonl").write_text(row * 40)
    (tmp_path / "recipe.yaml").write_text("model: sprout\nname: ours\ndata: [{file: few.jsonl}]\n")

    async with served(tmp_path, monkeypatch) as (studium, client):

        async def trained(*sets: str, key: str = KEY, dry_run: bool = False) -> int:
            monkeypatch.setenv("STUDIUM_API_KEY", key)
            told = read_told(tmp_path / "recipe.yaml", "sft", sets)
            box = Box(str(client._base_url), said.append)
            return await asyncio.to_thread(train_there, told, box, here, dry_run=dry_run, json=False)

        said: list[str] = []
        with pytest.raises(StudiumError, match="the API key is missing or unknown"):
            await trained(key="some-other-key")
        with pytest.raises(StudiumError, match=r"raise server\.max_dataset"):
            await trained(f"data=[{{file: {tmp_path}/many.jsonl}}]")
        with pytest.raises(StudiumError, match="nothing that this workspace has"):
            await trained("model=runs/none/checkpoint")
        monkeypatch.setattr("studium.web.train_api._base_sha256", lambda _: "0" * 64)
        with pytest.raises(StudiumError, match="sprout there is not the one here"):
            await trained()
        monkeypatch.undo()
        assert await trained(dry_run=True) == 0
        (here / "runs" / "ours").mkdir(parents=True)
        with pytest.raises(StudiumError, match="a run ours in this workspace already"):
            await trained()
        assert studium.store.jobs.jobs() == [] and not (tmp_path / "there" / "runs").exists() and said == []
        assert [one.suffix for one in (tmp_path / "there" / "datasets").iterdir()] == [".jsonl"]
        studium.store.jobs.add(Job("train-ours", "train", "ours", {}))
        stopped = await asyncio.to_thread(
            CliRunner().invoke, app, ["stop", "ours", "--at", str(client._base_url)]
        )
        assert stopped.exit_code == 0 and studium.store.jobs.jobs()[0].halt


class Wire:
    """A line to a server that can be cut: while `cut_after` is set, an answer ends after so many bytes, once each."""

    def __init__(self, url: str) -> None:
        self._there = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts: list[int] = []
        self.asked: list[str] = []
        self.on_cut: Callable[[], None] = lambda: None
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        far = socket.create_connection((self._there.hostname, self._there.port))
        with near, far, suppress(OSError):
            head = near.recv(65536)
            self.asked.append(head.decode("latin-1"))
            far.sendall(head)
            threading.Thread(target=self._pour, args=(near, far), daemon=True).start()
            left = self.cuts.pop(0) if self.cuts and b"model.safetensors" in head else None
            while data := far.recv(65536):
                near.sendall(data if left is None else data[:left])
                if left is not None and (left := left - len(data)) <= 0:
                    near.shutdown(socket.SHUT_RDWR)
                    self.on_cut()
                    return

    def _pour(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)

    def starts(self) -> list[int]:
        """Where each request for the weights began."""
        asked = [one.lower() for one in self.asked if "model.safetensors" in one]
        return [int(one.partition("range: bytes=")[2].partition("-")[0] or 0) for one in asked]


@contextmanager
def wire(url: str) -> Iterator[Wire]:
    found = Wire(url)
    try:
        yield found
    finally:
        found.close()


def here(folder: Path, *arguments: str, key: str = KEY) -> "subprocess.Popen[str]":
    """Begin a command on the near side, without training tools."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STUDIUM_")}
    (folder / "block").mkdir(exist_ok=True)
    (folder / "block" / "sitecustomize.py").write_text(BLOCK)
    paths = os.pathsep.join([str(folder / "block"), *filter(None, [environment.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "studium.cli.main", *arguments, "--workspace", "state"],
        cwd=folder,
        env=environment | {"HOME": str(folder), "PYTHONPATH": paths, "STUDIUM_API_KEY": key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def said(process: "subprocess.Popen[str]", limit_s: float = 200.0) -> tuple[int, str]:
    try:
        out, error = process.communicate(timeout=limit_s)
    finally:
        process.kill()
    return process.returncode, out + error


def files(folder: Path, name: str) -> dict[str, bytes]:
    run = folder / "state" / "runs" / name
    return {str(one.relative_to(run)): one.read_bytes() for one in run.rglob("*") if one.is_file()}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_recipe_is_carried_out_elsewhere_and_its_run_comes_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left by Ctrl-C, taken up, cut and killed while fetching: the same weights."""
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    far.mkdir()
    (far / "studium.yaml").write_text("server: {api_keys_env: BOX_KEYS}\n")
    rows = [
        {"prompt": f"{a} + {b} = ", "completion": str(a + b), "licence": "own"}
        for a in range(9)
        for b in range(9)
    ]
    (near / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (near / "recipe.json").write_text(
        json.dumps(RECIPE | {"name": "ours", "steps": 120, "data": [{"file": "rows.jsonl"}]})
    )
    train = ("train", "sft", "--config", "recipe.json")
    monkeypatch.setenv("BOX_KEYS", KEY)

    with server(far) as (_, url), wire(url) as line:
        at = (*train, "--at", line.url)
        watching = here(near, *at)
        learning = far / "state" / "runs" / "ours" / "metrics.jsonl"
        until(lambda: learning.exists() and learning.read_bytes())
        watching.send_signal(signal.SIGINT)
        status, told = said(watching)
        assert status == 130 and f"studium train stop ours --at {line.url}" in told

        fetching = here(near, *at)
        line.on_cut = lambda: None if line.cuts else fetching.kill()
        line.cuts += [70_000, 200_000]
        assert said(fetching)[0] == -signal.SIGKILL
        assert len(line.starts()) == 2 and not (near / "state" / "runs").exists()
        status, told = said(here(near, *at))
        assert status == 0, told
        # What the killed process had not written yet is asked for again.
        assert len(line.starts()) == 3 and 0 < line.starts()[1] <= line.starts()[2]

    assert "home already" in said(here(near, *at))[1], "told without asking the box"
    status, told = said(here(near, "train", "why", "ours", "--step", "3"))
    assert status == 0 and " = ' -> '" in told
    status, told = said(here(near, "adapters", "register", "ours", "--role", "sprout"))
    assert status == 0, told

    (far / "near.json").write_text((near / "recipe.json").read_text())
    (far / "rows.jsonl").write_text((near / "rows.jsonl").read_text())
    command = [
        sys.executable,
        "-m",
        "studium.cli.main",
        "train",
        "sft",
        "--config",
        "near.json",
        "--name",
        "calm",
    ]
    done = subprocess.run(
        [*command, "--workspace", "state"], cwd=far, check=False, timeout=300, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    ours, calm = files(near, "ours"), files(far, "calm")
    assert all(ours[name] == calm[name] for name in calm if name.startswith("checkpoint/model"))
    assert (
        "state.pt" not in ours and {"report.md", "loss.svg", "metrics.jsonl", "preflight.json"} <= ours.keys()
    )
