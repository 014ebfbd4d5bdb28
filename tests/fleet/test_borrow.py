"""Borrowing from a Studium that really serves, as a trainer does: blocking, from a thread of its own."""

import asyncio
import json
import os
import threading
import time
from contextlib import ExitStack

import pytest

from studium.app import open_studium
from studium.config import load_config
from studium.errors import CallerError, EngineTimeout, OperatorError
from studium.fleet.borrow import borrow
from studium.web.server import serve

MB = 1_000_000
SCRIPT = "models: {adder: {resident_bytes: 60000000, default: 'Answer: 105'}}"
CONFIG = """
workspace: {folder}/state
fleet: {{memory_budget: 100MB, lease_quiet: 100ms}}
server: {{port: 0, heartbeat: 1s}}
models: [{{name: adder, engine: scripted, source: "{folder}/script.yaml#adder"}}]
students: [{{name: adder}}]
"""
BOUND_S = 60.0


class Served:
    """A Studium that serves in a thread of its own, and announces itself in its workspace."""

    def __init__(self, folder):
        (folder / "script.yaml").write_text(SCRIPT)
        (folder / "studium.yaml").write_text(CONFIG.format(folder=folder))
        self.config = load_config(folder / "studium.yaml", environment={}, overrides={})
        self.workspace = self.config.workspace
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self):
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        async with open_studium(self.config) as self.studium, serve(self.studium, drain_s=1.0) as url:
            (self.workspace / "server.json").write_text(json.dumps({"url": url}))
            self._ready.set()
            await self._stop.wait()

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(BOUND_S)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(BOUND_S)

    def ask(self):
        """Ask in the background; return what will be the answer."""
        return asyncio.run_coroutine_threadsafe(self.studium.ask("What is 47 + 58?"), self._loop)

    @property
    def reserved_bytes(self):
        return self.studium.fleet.residency.reserved_bytes()


@pytest.fixture
def served(tmp_path):
    with Served(tmp_path) as made:
        yield made


def asked_to_leave_within(memory, timeout_s):
    until = time.monotonic() + timeout_s
    while not memory.asked_to_leave:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_borrower_is_asked_to_leave_and_gets_the_memory_back(served):
    with borrow(served.workspace, "sft", 80 * MB) as memory:
        assert memory.served and served.reserved_bytes == 80 * MB and not memory.asked_to_leave
        answer = served.ask()
        asked_to_leave_within(memory, BOUND_S)
        assert not answer.done()
        memory.pause()
        assert answer.result(BOUND_S).text == "Answer: 105"
        assert served.reserved_bytes == 80 * MB and not memory.asked_to_leave


def test_a_borrower_may_pause_unasked(served):
    with borrow(served.workspace, "sft", 80 * MB) as memory:
        for _ in range(3):
            memory.pause()
        assert served.reserved_bytes == 80 * MB


def test_the_end_of_the_block_gives_the_memory_back_at_once_also_when_it_fails(served):
    with pytest.raises(ZeroDivisionError), borrow(served.workspace, "sft", 80 * MB):
        raise ZeroDivisionError
    until = time.monotonic() + BOUND_S
    while served.reserved_bytes:
        assert time.monotonic() < until
        time.sleep(0.01)
    with borrow(served.workspace, "sft", 80 * MB):
        assert served.reserved_bytes == 80 * MB


def test_what_cannot_be_borrowed_is_refused_in_the_servers_words(served):
    with pytest.raises(OperatorError, match="at most 95 MiB"), borrow(served.workspace, "sft", 200 * MB):
        pass
    with pytest.raises(CallerError, match="a name of letters"), borrow(served.workspace, "../x", MB):
        pass
    with borrow(served.workspace, "sft", 80 * MB):
        with pytest.raises(CallerError, match="held already"), borrow(served.workspace, "sft", MB):
            pass
        with (
            pytest.raises(EngineTimeout, match="within 0"),
            borrow(served.workspace, "second", 80 * MB, wait_s=0.6),
        ):
            pass


def test_without_a_studium_all_the_memory_is_the_borrowers(tmp_path):
    told = []
    with borrow(tmp_path, "sft", 80 * MB, tell=told.append) as memory:
        assert not memory.served and not memory.asked_to_leave
        memory.pause()
    assert "no Studium serves" in told[0]


def test_a_borrower_outlives_a_studium_and_is_lent_to_by_the_next(tmp_path):
    first = Served(tmp_path)
    with ExitStack() as stack:
        with first:
            memory = stack.enter_context(borrow(first.workspace, "sft", 80 * MB))
        assert not memory.asked_to_leave
        memory.pause()
        with Served(tmp_path) as second:
            until = time.monotonic() + BOUND_S
            while second.reserved_bytes != 80 * MB:
                assert time.monotonic() < until
                time.sleep(0.01)
            assert not memory.asked_to_leave


def test_a_studium_that_is_too_busy_to_answer_is_not_taken_for_gone(tmp_path, monkeypatch):
    announced = {"url": "http://127.0.0.1:9", "pid": os.getpid()}
    (tmp_path / "server.json").write_text(json.dumps(announced))
    with pytest.raises(EngineTimeout), borrow(tmp_path, "sft", MB, wait_s=0.5):
        pass
    monkeypatch.setattr("studium.fleet.borrow.BUSY_S", 0.0)
    with borrow(tmp_path, "sft", MB) as memory:
        assert not memory.served


@pytest.mark.parametrize(
    "left", ["", "[]", '{"url": 3, "pid": "x"}', '{"url": "http://127.0.0.1:9", "pid": 0}']
)
def test_what_a_dead_studium_left_behind_is_no_studium(tmp_path, left):
    (tmp_path / "server.json").write_text(left)
    with borrow(tmp_path, "sft", MB) as memory:
        assert not memory.served
