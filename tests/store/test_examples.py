"""The log of refined answers: a row and a line each, whatever happens in between."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest
from sqlalchemy import select

from studium.records.examples import Claim, Example, Terms
from studium.store import open_store, schema

KILLED_WRITER = """
import sys
from pathlib import Path
from tests.store.test_examples import example
from studium.store import open_store
store = open_store(Path(sys.argv[1]) / "state.db")
number = 0
while True:
    number += 1
    store.examples.append(example(f"w{sys.argv[2]}-{number}"))
    print(number, flush=True)
"""


def example(request_id: str, *, training: bool = True) -> Example:
    return Example(
        request_id=request_id,
        at=1.0,
        domain="arithmetic",
        kind="arithmetic",
        question="What is 2 + 2?",
        draft="5",
        text="4",
        draft_by="a",
        refined_by="oracle",
        claims=(Claim("4", "oracle"),),
        members=({"student": "a", "answer": "5"},),
        terms={"a": Terms("Apache-2.0", True, "shipped"), "oracle": Terms("", training, "endpoint")},
    )


def lines(workspace: Path) -> list[dict[str, object]]:
    text = (workspace / "datasets" / "training_metadata.jsonl").read_bytes()
    assert text.endswith(b"\n")
    return [orjson.loads(line) for line in text.splitlines()]


def test_an_example_is_a_row_and_a_line(tmp_path):
    store = open_store(tmp_path / "state.db")
    store.examples.append(example("one"))
    store.examples.append(example("two", training=False))
    found = lines(tmp_path)
    assert [(line["id"], line["request_id"], line["trainable"]) for line in found] == [
        (1, "one", True),
        (2, "two", False),
    ]
    assert found[0]["terms"] == {
        "a": {"licence": "Apache-2.0", "training": True, "source": "shipped"},
        "oracle": {"licence": "", "training": True, "source": "endpoint"},
    }
    rows = store.read(select(schema.examples.c.request_id).order_by(schema.examples.c.id))
    assert [row["request_id"] for row in rows] == ["one", "two"]
    store.close()


def test_half_a_line_and_lines_that_are_owed_are_put_right(tmp_path):
    store = open_store(tmp_path / "state.db")
    for name in "abc":
        store.examples.append(example(name))
    path = store.examples.path
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(whole[0] + whole[1][:20])
    assert store.examples.repair() == 2
    assert [line["request_id"] for line in lines(tmp_path)] == ["a", "b", "c"]
    assert store.examples.repair() == 0
    store.close()


def test_a_deleted_file_is_written_anew(tmp_path):
    store = open_store(tmp_path / "state.db")
    store.examples.append(example("a"))
    store.examples.path.unlink()
    store.examples.append(example("b"))
    assert [line["request_id"] for line in lines(tmp_path)] == ["a", "b"]
    store.close()


@pytest.mark.slow
def test_two_writers_killed_in_the_middle_leave_every_acknowledged_example_once(tmp_path):
    open_store(tmp_path / "state.db").close()
    root = Path(__file__).parents[2]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", KILLED_WRITER, str(tmp_path), str(number)],
            stdout=subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
        )
        for number in range(2)
    ]  # fmt: skip
    acknowledged = [b"0", b"0"]
    for _ in range(10):
        acknowledged = [(writer.stdout and writer.stdout.readline()) or b"0" for writer in writers]
    threading.Event().wait(0.05)
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
    store = open_store(tmp_path / "state.db")
    store.examples.repair()
    names = [line["request_id"] for line in lines(tmp_path)]
    assert len(names) == len(set(names)) == store.examples.count()
    for number, last in enumerate(acknowledged):
        assert {f"w{number}-{i}" for i in range(1, int(last) + 1)} <= set(names)
    store.close()
