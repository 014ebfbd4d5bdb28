"""The layout as documented, read by a program that shares no code with ours: the example in C."""

import shutil
import subprocess
import time
from importlib.resources import files
from pathlib import Path

import pytest

from studium.intents.layout import Frame
from studium.intents.ring import created

COMPILER = shutil.which("cc")
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler here")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("c") / "read_intent"
    source = str(files("studium") / "examples" / "read_intent.c")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-o", str(program)]
    subprocess.run([str(COMPILER), *flags, source], check=True, timeout=60)
    return program


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (Frame("go left, señor", horizon_s=60.0, fallback="stay"), "fresh go left, señor\n"),
        (Frame("go left", horizon_s=0.0, fallback="stay"), "stale stay\n"),
        (Frame("go left", horizon_s=0.0), "stale go left\n"),
        (Frame("", empty=True, fallback="stay"), "stale stay\n"),
        (Frame("x" * 4096, horizon_s=60.0, fallback="y" * 1024), "fresh " + "x" * 4096 + "\n"),
    ],
)
def test_the_example_reads_what_was_published(tmp_path, reader, frame, told):
    from dataclasses import replace

    ring = created(tmp_path / "npc.intent")
    ring.publish(Frame("an earlier one", horizon_s=60.0))
    ring.publish(replace(frame, observed_ns=time.monotonic_ns()))
    run = subprocess.run(
        [str(reader), str(ring.path)], capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    assert run.stdout == told


def test_the_example_does_not_believe_a_damaged_file(tmp_path, reader):
    ring = created(tmp_path / "npc.intent")
    ring.publish(Frame("go left", observed_ns=time.monotonic_ns(), horizon_s=60.0))
    ring.map[64 + 5184 + 64] ^= 1
    assert subprocess.run([str(reader), str(ring.path)], timeout=60, check=False).returncode == 1
