"""The sandbox: the one place where code runs that a model wrote, and the one function that runs it there.

`run` takes a program and returns what became of it; it never raises for what the program did. Bubblewrap is used
where it works, else Landlock with a filter of system calls; where neither does, every program is refused and the
reason says what to install: running unconfined is never the fallback.

What a program prints is the program's: a verdict must not rest on its claims (see domains/codegen). What a sandbox
does not hide is time, and the files of the Python installation. See docs/decisions/0017-sandbox.md.
"""

import atexit
import sys
from functools import cache
from typing import NamedTuple

from studium.tools.backends import Backend, Broken, backends
from studium.tools.box import START_S, Boxes
from studium.tools.outcome import Fate, Limits, Outcome

INSTALL = "apt-get install bubblewrap (or Linux 6.2 or newer with Landlock, on x86_64 or aarch64)"
_BOXES = Boxes()


class Available(NamedTuple):
    """The backend that works here, or None; `found` says which it is, and why better ones are not."""

    backend: Backend | None
    found: str


def run(program: str, stdin: str = "", limits: Limits | None = None) -> Outcome:
    """Run a Python program in the sandbox and return what became of it; blocks for up to `limits.wall_s`."""
    backend, found = available()
    if backend is None:
        return Outcome(Fate.REFUSED, reason=f"{found}; install a sandbox: {INSTALL}")
    return run_in(backend, program, stdin, limits)


@cache
def available() -> Available:
    """Return the first backend that runs a program here; looked at once per process, in under a second."""
    if sys.platform != "linux":
        return Available(None, f"no sandbox is known for {sys.platform}")
    reasons: list[str] = []
    for backend in backends():
        outcome = run_in(backend, "print(6 * 7)", limits=Limits(wall_s=START_S))
        if outcome.stdout == "42\n":
            return Available(backend, "; ".join([backend.name, *reasons]))
        reasons.append(f"no {backend.name}: {outcome.reason or outcome.stderr.strip() or outcome.fate}")
    return Available(None, "; ".join(reasons))


def run_in(backend: Backend, program: str, stdin: str = "", limits: Limits | None = None) -> Outcome:
    """Run a program in one backend; a sandbox that is found dead is replaced once."""
    reason = ""
    for _ in range(2):
        try:
            with _BOXES.taken(backend) as box:
                return box.run(program, stdin, limits or Limits())
        except Broken as broken:
            reason = str(broken)
    return Outcome(Fate.REFUSED, reason=reason)


atexit.register(_BOXES.close)
