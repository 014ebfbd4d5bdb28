"""The ways to build the sandbox: how each is started, and what the walls inside must do.

Bubblewrap gives own namespaces and a system of which only Python and its libraries exist; the walls of `walls.py`
go up inside it besides. Landlock alone has only those walls, no work folder, and needs each of them.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studium.tools.walls import NOBODY

WORK = "/work"
WORK_BYTES = 16 * 1024**2
_INSIDE = "/inside"
_HERE = Path(__file__).parent
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": "/"}
# No site packages, no byte code written, nothing from the folder it starts in.
_PYTHON_FLAGS = ("-P", "-s", "-S", "-B", "-X", "utf8", "-m", "studium.tools.inside")


class Broken(Exception):
    """A sandbox cannot be started or went away: the next backend is tried, or the program refused."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to build the sandbox.

    `around` is the command that goes before Python's and raises Broken where it cannot be given. `work` is the
    folder a program may write to, `user` whom it becomes (None: whoever runs this), and `alone` says that nothing
    stands around the walls.
    """

    name: str
    around: Callable[[], Sequence[str]]
    work: str | None
    user: int | None
    alone: bool

    def command(self, control: int) -> list[str]:
        """Return the command that starts what waits inside, which obeys the socket `control`."""
        settings = {
            "readable": [*_SYSTEM, sys.base_prefix],
            "work": self.work,
            "user": self.user,
            "alone": self.alone,
        }
        python = os.path.realpath(sys.executable)
        return [*self.around(), python, *_PYTHON_FLAGS, str(control), json.dumps(settings)]


def backends() -> Sequence[Backend]:
    """Return every backend, the best one first, whether or not it works here."""
    user = NOBODY if os.geteuid() == 0 else None
    return (
        Backend("bubblewrap", _bubblewrap, WORK, user, alone=False),
        Backend("landlock", tuple, None, user, alone=True),
    )


def environment() -> Mapping[str, str]:
    """Return all that a sandbox hears of its surroundings: nothing of this process's environment."""
    return {**_ENVIRONMENT, "PYTHONPATH": str(_HERE.parents[1])}


def _bubblewrap() -> list[str]:
    """As root it makes no user namespace but keeps what it takes to become another user and to stop that one's
    program; for other users it makes one, and forbids further ones."""
    found = shutil.which("bwrap")
    if found is None:
        raise Broken("not installed")
    command = [
        found,
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]
    command += ["--new-session", "--hostname", "sandbox", "--cap-drop", "ALL"]
    if os.geteuid() == 0:
        for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_KILL"):
            command += ["--cap-add", capability]
    else:
        command += ["--unshare-user", "--disable-userns"]
    return [*command, *_system(), "--setenv", "PYTHONPATH", _INSIDE, "--remount-ro", "/", "--"]


def _system() -> list[str]:
    """Return the arguments that lay out the file system: everything read-only but a small folder in memory."""
    command: list[str] = []
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            command += ["--ro-bind", str(path), str(path)]
    python = Path(sys.base_prefix)
    # Folders that bubblewrap makes by itself are closed to the user a program becomes.
    for folder in (*reversed(python.parents), Path(f"{_INSIDE}/studium/tools"), Path("/dev")):
        if folder != Path("/") and not folder.is_relative_to("/usr"):
            command += ["--perms", "0755", "--dir", str(folder)]
    if not python.is_relative_to("/usr"):
        command += ["--ro-bind", str(python), str(python)]
    for name in ("inside.py", "walls.py"):
        command += ["--ro-bind", str(_HERE / name), f"{_INSIDE}/studium/tools/{name}"]
    for device in ("/dev/null", "/dev/urandom"):
        command += ["--dev-bind", device, device]
    return [*command, "--perms", "1777", "--size", str(WORK_BYTES), "--tmpfs", WORK]
