"""What waits inside the sandbox: starts once, then runs one program after the other, each behind walls of its own.

Started by `studium.tools.sandbox` with a socket and settings; standard library and `walls` only. Each
program runs in a fork of this process, made before it has read any program, so starting one costs a few
milliseconds and none sees what another did. This process never reads a program and obeys only its socket.

Over the socket come requests (JSON limits; four descriptors: program, stdin, stdout, stderr) and `stop`;
back go `ready` and one JSON reply per request: what became of the process, or why it was refused.
"""

import json
import os
import select
import signal
import socket
import sys
import traceback
import types
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from studium.tools.walls import MEMORY_EXIT, Limits, put_up

_STOP = b"stop"
_LONGEST_MESSAGE_BYTES = 4096
_MOST_DESCRIPTORS = 256
# What small programs commonly import: loaded once here, instead of in every run.
_COMMON = (
    *("abc", "array", "bisect", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal", "enum"),
    *("fractions", "functools", "hashlib", "heapq", "io", "itertools", "json", "math", "numbers", "operator"),
    *("queue", "random", "re", "statistics", "string", "struct", "textwrap", "time", "typing", "unicodedata"),
)


def main() -> None:
    # Under the lowest number, so that what a program must not inherit is known to lie below `_MOST_DESCRIPTORS`.
    control = socket.socket(fileno=os.dup(int(sys.argv[1])))
    os.close(int(sys.argv[1]))
    settings = json.loads(sys.argv[2])
    for name in _COMMON:
        import_module(name)
    control.send(b"ready")
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _LONGEST_MESSAGE_BYTES, 4)
        if not message:
            return
        if message == _STOP:
            continue  # it came when the program had ended by itself
        reply = _run(control, settings, json.loads(message), descriptors)
        # What a program leaves behind, the next one must not find: then this sandbox ends, and another is started.
        used = settings["work"] is not None and any(Path(settings["work"]).iterdir())
        control.send(json.dumps({**reply, "used": used}).encode())
        if used:
            return


def _run(
    control: socket.socket, settings: dict[str, Any], limits: dict[str, int], descriptors: list[int]
) -> dict[str, Any]:
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        _become(settings, limits, descriptors, tell)
    for descriptor in (*descriptors, tell):
        os.close(descriptor)
    with os.fdopen(told, "rb") as telling:
        trouble = telling.read()
    if trouble:
        os.waitpid(child, 0)
        return {"refused": trouble.decode("utf-8", "replace")}
    ended = os.pidfd_open(child)
    readable, _, _ = select.select([ended, control], [], [])
    if ended not in readable:
        control.recv(_LONGEST_MESSAGE_BYTES)  # `stop`, or nothing where nobody waits any more
        os.kill(child, signal.SIGKILL)
    os.close(ended)
    _, status, usage = os.wait4(child, 0)
    return {"exit_code": os.waitstatus_to_exitcode(status), "cpu_s": usage.ru_utime + usage.ru_stime}


def _become(settings: dict[str, Any], limits: dict[str, int], descriptors: list[int], tell: int) -> NoReturn:
    """Turn this process into the program; returns never. What goes wrong before it starts is told."""
    try:
        with os.fdopen(descriptors[0], "rb", closefd=False) as source:
            text = source.read().decode("utf-8", "replace")
        for place, descriptor in enumerate(descriptors[1:]):
            os.dup2(descriptor, place)
        os.chdir(settings["work"] or "/")
        put_up(
            Limits(**limits),
            settings["readable"],
            settings["work"],
            settings["user"],
            alone=settings["alone"],
        )
    except BaseException as error:
        os.write(tell, f"{type(error).__name__}: {error}".encode()[:_LONGEST_MESSAGE_BYTES])
        os._exit(1)
    os.closerange(
        3, os.sysconf("SC_OPEN_MAX")
    )  # the socket and `tell` among them, which says that all is well
    _perform(text)


def _perform(text: str) -> NoReturn:
    """Run a program as the interpreter would, and leave without any clearing up of this process."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = ["program.py"]
    sys.path.pop(0)  # where this file lies
    status = 0
    try:
        exec(compile(text, "program.py", "exec"), module.__dict__)
    except SystemExit as leaving:
        status = _status(leaving.code)
    except MemoryError:
        status = MEMORY_EXIT
    except BaseException as error:
        status = 1
        of_the_program = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(error.with_traceback(of_the_program))
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        status = status or 1
    os._exit(status & 0xFF)


def _status(code: object) -> int:
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
