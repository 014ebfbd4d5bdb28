"""The first hour of a newcomer: `studium up`, the embedded students, an ordinary client, a tight budget.

Everything here is the real thing: the process as a user starts it, llama.cpp workers, GGUF students, the
`openai` and `ollama` clients. Memory is read from the kernel, not from what Studium says of itself.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import ollama
import openai
import orjson
import psutil
import pytest

MIB = 2**20
BUDGET_MIB = 130
START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Running:
    process: psutil.Process
    url: str
    workspace: Path

    def workers(self) -> list[psutil.Process]:
        return [one for one in self.process.children(recursive=True) if alive(one)]

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0, timeout=60)


def alive(process: psutil.Process) -> bool:
    """Whether it runs still; a worker may end, unloaded, between being listed and being looked at."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def resident_bytes(process: psutil.Process) -> int:
    with suppress(psutil.NoSuchProcess):
        return process.memory_info().rss
    return 0


def start(workspace: Path) -> Running:
    arguments = ["up", "--workspace", str(workspace), "--port", "0", "--memory-budget", f"{BUDGET_MIB}MiB"]
    started = subprocess.Popen(
        [sys.executable, "-m", "studium.cli.main", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    file, deadline = workspace / "server.json", time.monotonic() + START_LIMIT_S
    while not file.exists():
        assert started.poll() is None and time.monotonic() < deadline, "studium up did not start"
        time.sleep(0.02)
    return Running(psutil.Process(started.pid), orjson.loads(file.read_bytes())["url"], workspace)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = start(tmp_path_factory.mktemp("first-hour"))
    yield found
    found.process.terminate()
    found.process.wait(30)


def ask(running: Running, question: str, model: str = "auto"):
    return running.client().chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}]
    )


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 47 + 58?", "105"),
        ("Sort: 7, 3, 9", "3, 7, 9"),
        ("How many minutes are in 3 hours?", "180"),
        ("Is this review positive or negative? I loved the food.", "positive"),
        ("What is 2 + 3 * 4?", "14"),
    ],
)
def test_a_plain_question_of_every_skill_is_answered(running: Running, question: str, answer: str):
    reply = ask(running, question)
    assert reply.choices[0].message.content.splitlines()[-1] == f"Answer: {answer}"
    evidence = reply.model_extra["studium"]
    assert evidence["status"] == "answered" and evidence["strategy"] == "committee"
    assert evidence["answer"] == answer
    assert reply.usage.completion_tokens == sum(one["completion_tokens"] for one in evidence["members"])


@pytest.mark.parametrize("question", ["Who wrote Hamlet?", "Translate 'good morning' into French."])
def test_outside_their_skills_the_students_and_the_ensemble_say_so(running: Running, question: str):
    reply = ask(running, question)
    assert reply.choices[0].message.content.startswith("I cannot answer that")
    evidence = reply.model_extra["studium"]
    assert evidence["status"] == "unable"
    assert evidence["agreement"] == 1.0


def test_a_committee_larger_than_the_memory_answers_within_it(running: Running):
    names = [model.id for model in running.client().models.list() if model.id not in VIRTUAL]
    assert len(names) >= 5
    worst = heard = 0
    for name in (*names, *names):
        assert ask(running, "What is 12 + 7?", model=name).choices[0].message.content
        sizes = [size for size in map(resident_bytes, running.workers()) if size]
        worst, heard = max(worst, sum(sizes)), heard + 1
        assert len(sizes) < len(names)
    assert heard == 2 * len(names)
    assert worst <= BUDGET_MIB * MIB


VIRTUAL = {"auto", "simple", "medium", "complex", "expert"}


def test_streamed_words_of_one_student_add_up(running: Running):
    name = next(model.id for model in running.client().models.list() if model.id not in VIRTUAL)
    whole = ask(running, "What is 12 + 7?", model=name).choices[0].message.content
    stream = running.client().chat.completions.create(
        model=name, messages=[{"role": "user", "content": "What is 12 + 7?"}], stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == whole


def test_ollamas_client_is_answered_and_sees_who_is_in_memory(running: Running):
    client = ollama.Client(host=running.url, timeout=60)
    reply = client.chat(model="auto", messages=[{"role": "user", "content": "What is 47 + 58?"}])
    assert reply.message.content.endswith("Answer: 105")
    resident = client.ps().models
    assert resident and all(model.size > MIB for model in resident)


def test_a_prompt_longer_than_the_context_is_refused_and_never_cut(running: Running):
    with pytest.raises(openai.BadRequestError, match="context") as caught:
        ask(running, "What is 47 + 58? " * 500)
    assert caught.value.code == "context_length_exceeded"


def test_a_worker_killed_by_hand_is_replaced_at_the_next_question(running: Running):
    ask(running, "What is 47 + 58?")
    workers = running.workers()
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert ask(running, "What is 47 + 58?").model_extra["studium"]["answer"] == "105"


def test_what_happened_is_in_the_store_for_any_sqlite_client(running: Running):
    ask(running, "What is 47 + 58?")
    deadline = time.monotonic() + 10
    rows: list[tuple[str, float, float]] = []
    while not rows and time.monotonic() < deadline:
        with sqlite3.connect(running.workspace / "state.db") as client:
            rows = client.execute(
                "SELECT student, AVG(time_seconds), AVG(vram_mb) FROM student_runs GROUP BY student"
            ).fetchall()
    assert rows and all(seconds > 0 and 10 < megabytes < BUDGET_MIB * 1.05 for _, seconds, megabytes in rows)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_however_it_ends_nothing_is_left_running(tmp_path: Path, how: signal.Signals):
    found = start(tmp_path)
    ask(found, "What is 47 + 58?")
    workers = found.workers()
    assert workers
    os.kill(found.process.pid, how)
    gone, left = psutil.wait_procs([found.process, *workers], timeout=20)
    assert not left
    assert len(gone) == 1 + len(workers)
