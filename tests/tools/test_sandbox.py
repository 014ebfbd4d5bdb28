"""What becomes of programs in the sandbox: every fate, every limit, and what is refused."""

import os
import platform
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from studium.tools import sandbox, walls
from studium.tools.backends import Backend, Broken, backends
from studium.tools.box import Box
from studium.tools.outcome import Fate, Limits, Outcome
from studium.tools.sandbox import run_in

AMPLE = Limits(cpu_s=5, wall_s=10.0, memory_bytes=96 * 1024**2)
BRIEF = Limits(wall_s=0.2)


@pytest.mark.parametrize(
    ("program", "fate", "exit_code"),
    [
        ("print(1)", Fate.DONE, 0),
        ("", Fate.DONE, 0),
        ("import sys; sys.exit()", Fate.DONE, 0),
        ("import os; os._exit(0)", Fate.DONE, 0),
        ("raise SystemExit(3)", Fate.FAILED, 3),
        ("raise SystemExit('no')", Fate.FAILED, 1),
        ("1/0", Fate.FAILED, 1),
        ("def f(", Fate.FAILED, 1),
        ("print('\\ud800')", Fate.FAILED, 1),
        ("input()", Fate.FAILED, 1),
        ("raise KeyboardInterrupt", Fate.FAILED, 1),
        ("import os; os.abort()", Fate.FAILED, -signal.SIGSEGV),
        ("import ctypes; ctypes.string_at(0)", Fate.FAILED, -signal.SIGSEGV),
        (
            "import sys; sys.setrecursionlimit(10**9)\nx = []\nfor _ in range(300_000): x = [x]\nrepr(x)",
            Fate.FAILED,
            None,
        ),
        ("x = 'a' * 10**10", Fate.MEMORY, None),
        ("x = []\nwhile True: x.append('a' * 1000)", Fate.MEMORY, None),
        ("while True: print('a' * 1000)", Fate.OUTPUT, None),
        ("import sys\nwhile True: sys.stderr.write('a' * 1000)", Fate.OUTPUT, None),
        ("while True: pass", Fate.TIME, None),
        ("import time; time.sleep(60)", Fate.TIME, None),
        ("import os, time; os.close(1); os.close(2); time.sleep(60)", Fate.TIME, None),
        (
            "import signal; signal.pthread_sigmask(0, range(1, 65))\nwhile True: signal.pause()",
            Fate.TIME,
            None,
        ),
    ],
)
def test_a_program_meets_its_fate(program: str, fate: Fate, exit_code: int | None, backend: Backend):
    outcome = run_in(backend, program, "", BRIEF if fate is Fate.TIME else AMPLE)
    assert outcome.fate is fate, outcome
    if exit_code is not None:
        assert outcome.exit_code == exit_code
    assert run_in(backend, "print('next')").stdout == "next\n"


@pytest.mark.parametrize("prelude", ["", "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)"])
def test_the_processor_time_is_limited_even_where_the_signal_is_ignored(prelude: str, backend: Backend):
    outcome = run_in(backend, f"{prelude}\nwhile True: pass", "", Limits(cpu_s=1, wall_s=60.0))
    assert outcome.fate is Fate.TIME
    assert 0.5 < outcome.cpu_s < 3.0  # as the kernel reckons it, which is not exact


def test_output_up_to_the_limit_is_kept_and_one_byte_more_is_too_much(backend: Backend):
    limits = Limits(output_bytes=1000)
    within = run_in(backend, "import sys; print('a' * 499); sys.stderr.write('b' * 500)", "", limits)
    assert (within.fate, within.stdout, within.stderr) == (Fate.DONE, "a" * 499 + "\n", "b" * 500)
    beyond = run_in(backend, "print('a' * 1000)", "", limits)
    assert (beyond.fate, beyond.stdout) == (Fate.OUTPUT, "a" * 1000)


def test_what_a_failing_program_wrote_is_kept_and_names_the_line(backend: Backend):
    outcome = run_in(backend, "print('before', flush=True)\nprint(1 / 0)")
    assert outcome.stdout == "before\n"
    assert outcome.stderr.splitlines()[1:] == [
        '  File "program.py", line 2, in <module>',
        "ZeroDivisionError: division by zero",
    ]


def test_any_text_can_be_a_program_or_its_input(backend: Backend):
    assert run_in(backend, "é = '\ud800'; print(é)").stdout == "?\n"
    assert run_in(backend, "\x00").fate is Fate.FAILED
    long = "a" * 3_000_000
    told = run_in(backend, f"import sys; print(len(sys.stdin.read()), len('{long}'))", long)
    assert told.stdout == "3000000 3000000\n"


def test_what_a_program_may_use_is_there(backend: Backend):
    assert (
        run_in(backend, "open('/dev/null', 'w').write('x'); open('/dev/urandom', 'rb').read(1)").fate
        is Fate.DONE
    )
    if backend.work:
        write = (
            "import os; open('a', 'w').write('b'); os.rename('a', 'c'); print(open('c').read(), os.listdir())"
        )
        assert run_in(backend, write).stdout == "b ['c']\n"


def test_the_standard_library_is_there_and_nothing_else(backend: Backend):
    assert run_in(backend, "import math, re, collections, unicodedata, heapq; print(1)").stdout == "1\n"
    assert "No module named 'numpy'" in run_in(backend, "import numpy").stderr
    if backend.name == "bubblewrap":  # Landlock as root may not see a Python that belongs to root alone
        assert run_in(backend, "import unittest, sqlite3, difflib; print(1)").stdout == "1\n"


def test_runs_are_alike_from_one_to_the_next(backend: Backend):
    told = {run_in(backend, "print(hash('a'), list({'x', 'y', 'z'}))").stdout for _ in range(3)}
    assert len(told) == 1
    drawn = {run_in(backend, "import random; print(random.random())").stdout for _ in range(3)}
    assert len(drawn) == 3  # and yet no program knows what another drew


def test_many_threads_may_run_programs_at_once(backend: Backend):
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda n: run_in(backend, f"print({n} * {n})").stdout, range(40)))
    assert told == [f"{n * n}\n" for n in range(40)]


def test_a_sandbox_that_dies_is_replaced(backend: Backend):
    box = Box(backend)
    for process in [*_below(box._process.pid), box._process.pid]:
        with suppress(ProcessLookupError):  # it may end with the one before
            os.kill(process, signal.SIGKILL)
    box._process.wait()
    with pytest.raises(Broken, match="the sandbox is gone"):
        box.run("print(1)", "", Limits())
    assert run_in(backend, "print(2)").stdout == "2\n"


def test_a_program_inherits_nothing_from_a_process_with_many_open_files(backend: Backend):
    """The socket that the sandbox obeys once kept its high number, and was left open below the walls."""
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(300)]
    try:
        outcome = Box(backend).run(
            "import os\nfor d in range(3, 1000):\n    try: print(os.fstat(d))\n    except OSError: pass",
            "",
            Limits(),
        )
    finally:
        for descriptor in held:
            os.close(descriptor)
    assert (outcome.fate, outcome.stdout) == (Fate.DONE, "")


def test_an_interrupted_run_leaves_no_process_behind(backend: Backend, monkeypatch: pytest.MonkeyPatch):
    started: list[Box] = []

    def interrupted(box: Box, *_: object) -> Outcome:
        started.append(box)
        raise KeyboardInterrupt

    monkeypatch.setattr(Box, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_in(backend, "print(1)")
    assert started[0]._process.returncode is not None


def test_landlock_is_taken_where_there_is_no_bubblewrap(monkeypatch: pytest.MonkeyPatch):
    if run_in(backends()[1], "print(1)").fate is not Fate.DONE:
        pytest.skip("this kernel has no Landlock")
    sandbox._BOXES.close()  # one that has started would be taken again
    monkeypatch.setenv("PATH", "/nowhere")
    sandbox.available.cache_clear()
    try:
        chosen, found = sandbox.available()
    finally:
        sandbox.available.cache_clear()
    assert chosen is not None
    assert (chosen.name, found) == ("landlock", "landlock; no bubblewrap: not installed")


def test_closing_a_sandbox_ends_the_program_in_it(backend: Backend):
    box = Box(backend)
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(Broken):
            box.run("import time\nwhile True: time.sleep(1)", "", Limits(wall_s=60.0))
        ended.set()

    threading.Thread(target=wait).start()
    child = next_descendant(box._process.pid)
    box._control.shutdown(2)
    assert ended.wait(20)
    assert not Path(f"/proc/{child}").exists()


def next_descendant(parent: int) -> int:
    """Wait until a process below `parent` has become the program's user or has its limits, and return it."""
    for _ in range(2000):
        for child in _below(parent):
            limits = Path(f"/proc/{child}/limits")
            if limits.exists() and "Max processes             0 " in limits.read_text():
                return child
        threading.Event().wait(0.005)
    raise AssertionError("no program was started")


def _below(parent: int) -> list[int]:
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if above == parent:
            found += [int(folder.name), *_below(int(folder.name))]
    return found


def test_where_nothing_confines_every_program_is_refused_and_the_reason_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
):
    def missing() -> list[str]:
        raise Broken("not installed")

    def nothing() -> list[Backend]:
        return [Backend("bubblewrap", missing, None, None, alone=False)]

    monkeypatch.setattr(sandbox, "backends", nothing)
    sandbox.available.cache_clear()
    try:
        outcome = sandbox.run("print(1)")
    finally:
        sandbox.available.cache_clear()
    assert outcome == Outcome(
        Fate.REFUSED,
        reason="no bubblewrap: not installed; install a sandbox: apt-get install bubblewrap "
        "(or Linux 6.2 or newer with Landlock, on x86_64 or aarch64)",
    )


def test_walls_that_cannot_all_be_put_up_refuse_the_program():
    """A user that one cannot become: the program must not run as who one is."""
    landlock = backends()[1]
    outcome = run_in(replace(landlock, user=2**32 + 7), "print(1)")
    assert outcome.fate is Fate.REFUSED
    assert outcome.stdout == ""


def test_the_filter_is_known_for_both_machines_and_has_no_number_twice():
    for machine, column in (("x86_64", 0), ("aarch64", 1)):
        numbers = [known[column] for known in walls._REFUSED.values() if known[column] is not None]
        assert len(numbers) == len(set(numbers))
        assert len(walls.filter_code(machine)) % 8 == 0
        assert len(walls.filter_code(machine)) // 8 < 4096


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the C library's numbers are those of x86_64")
def test_the_numbers_of_refused_calls_are_the_kernels():
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("the kernel's headers are not installed")
    lines = (line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR_"))
    known = {name.removeprefix("__NR_"): int(number) for _, name, number in lines}
    compared = {name: numbers[0] for name, numbers in walls._REFUSED.items() if name in known}
    assert len(compared) > 70
    assert compared == {name: known[name] for name in compared}
    generic = Path("/usr/include/asm-generic/unistd.h")
    if generic.exists():
        lines = (
            line.split() for line in generic.read_text().splitlines() if line.startswith("#define __NR_")
        )
        known = {
            line[1].removeprefix("__NR_"): int(line[2]) for line in lines if line[2:] and line[2].isdigit()
        }
        compared = {name: numbers[1] for name, numbers in walls._REFUSED.items() if name in known}
        assert len(compared) > 60
        assert compared == {name: known[name] for name in compared}


def test_the_doctor_says_which_sandbox_there_is():
    from studium.cli.checks import State, code_sandbox

    finding = code_sandbox()
    chosen, found = sandbox.available()
    assert finding.name == "sandbox"
    assert finding.state is (State.OK if chosen else State.ABSENT)
    assert found in finding.found
    assert bool(finding.try_next) is (chosen is None)
