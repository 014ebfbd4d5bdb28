"""Attempts to escape, each against every sandbox this machine has, and without one to show that they can succeed."""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.tools.attempts import AS_ROOT, CONTROLLED, UNCONTROLLED

from studium.tools.backends import Backend
from studium.tools.outcome import Fate, Limits
from studium.tools.sandbox import run_in

ATTEMPTS = CONTROLLED | AS_ROOT | UNCONTROLLED
LIMITS = Limits(cpu_s=2, wall_s=5.0)
PRELUDE = "W = {world!r}\ndef won(proof):\n    if proof:\n        print('ESC' + 'APED', flush=True)\n"


@pytest.fixture
def world() -> Iterator[dict[str, Any]]:
    """Things worth reaching, open to every user, so that only the sandbox is in the way."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # not below pytest's, which is closed to others
        Path(folder).chmod(0o777)
        with reachable(Path(folder)) as found:
            yield found


@contextmanager
def reachable(tmp_path: Path) -> Iterator[dict[str, Any]]:
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "target").write_text("untouched")
    (tmp_path / "target").chmod(0o666)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside").chmod(0o777)
    abstract = f"studium-{secrets.token_hex(8)}"
    victim = subprocess.Popen(["sleep", "60"], env={"TOKEN": "s3cret"})
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as hidden,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(tmp_path / "socket"))
        (tmp_path / "socket").chmod(0o777)
        unix.listen()
        hidden.bind(f"\0{abstract}")
        hidden.listen()
        try:
            yield {
                "secret": str(tmp_path / "secret"),
                "target": str(tmp_path / "target"),
                "outside": str(tmp_path / "outside"),
                "home": str(Path.home()),
                "victim": victim.pid,
                "tcp": tcp.getsockname()[1],
                "udp": udp.getsockname()[1],
                "unix": str(tmp_path / "socket"),
                "abstract": abstract,
            }
        finally:
            victim.kill()
            victim.wait()


def unconfined(program: str, world: dict[str, Any]) -> str:
    """Run a program with nothing around it, as a descendant that holds a descriptor it should not have."""
    held = os.open(world["secret"], os.O_RDONLY)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=world["outside"],
            env={"TOKEN": "s3cret", "PATH": os.environ["PATH"]},
            pass_fds=(held,),
            stdin=subprocess.DEVNULL,
        )
    finally:
        os.close(held)
    return done.stdout + done.stderr


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_nothing_escapes(attempt: str, backend: Backend, world: dict[str, Any]):
    os.environ["STUDIUM_TEST_TOKEN"] = "s3cret"
    try:
        outcome = run_in(backend, PRELUDE.format(world=world) + ATTEMPTS[attempt], "", LIMITS)
    finally:
        del os.environ["STUDIUM_TEST_TOKEN"]
    assert outcome.fate is not Fate.REFUSED, outcome.reason
    said = outcome.stdout + outcome.stderr
    assert "ESCAPED" not in said
    assert "SyntaxError" not in said
    assert Path(world["target"]).read_text() == "untouched"
    assert Path(world["target"]).stat().st_mode & 0o777 == 0o666
    assert not list(Path(world["outside"]).iterdir())
    assert run_in(backend, "print('next')").stdout == "next\n"


@pytest.mark.parametrize("attempt", CONTROLLED | AS_ROOT)
def test_without_a_sandbox_the_attempt_succeeds(attempt: str, world: dict[str, Any]):
    if attempt in AS_ROOT and os.geteuid() != 0:
        pytest.skip("succeeds only as root")
    assert "ESCAPED" in unconfined(PRELUDE.format(world=world) + ATTEMPTS[attempt], world)


def test_there_are_enough_attempts():
    assert len(CONTROLLED) + len(AS_ROOT) >= 40
    assert len(ATTEMPTS) == len(CONTROLLED) + len(AS_ROOT) + len(UNCONTROLLED)


def test_nothing_is_left_for_the_next_program(backend: Backend):
    leave = "open('here', 'w').write('a')\nimport os, sys\nos.umask(0)\nsys.modules['json'].loads = None\nprint(1)"
    run_in(backend, leave)
    look = "import os, json\nprint(json.loads('[1]'), os.path.exists('here'), os.path.exists('/work/here'))"
    for _ in range(3):
        assert run_in(backend, look).stdout == "[1] False False\n"


def test_what_is_given_as_json_comes_back(backend: Backend):
    told = run_in(
        backend, "import json, sys; print(json.dumps(json.load(sys.stdin)[::-1]))", json.dumps([1, "é"])
    )
    assert json.loads(told.stdout) == ["é", 1]
