"""Ending a session that another process runs: a note in its folder, which it looks for twice a second."""

import time
from pathlib import Path

from studium.cli.output import note, write, write_json
from studium.errors import BadRequest

LOOK_S = 0.1


def stop_session(workspace: Path, name: str, *, wait_s: float, as_json: bool) -> None:
    """Ask a session to stop and wait until it has; raises BadRequest where nobody runs it, CallerError."""
    from studium.serve.sessions.folder import SessionFolder, write_whole
    from studium.serve.sessions.ledger import read_ledger
    from studium.serve.sessions.ownership import owner_of

    folder = SessionFolder(workspace, name)
    read_ledger(folder.database).close()
    owner = owner_of(folder.lock)
    if owner is None:
        raise BadRequest(
            f"nobody runs the session {name!r}",
            expected="a session under way",
            try_next=f"see: studium session show {name}",
        )
    write_whole(folder.stop, "stop after the runs at work\n")
    if wait_s > 0:
        note(f"{name} (process {owner.pid}) stops after the runs at work")
    deadline = time.monotonic() + wait_s
    while (stopped := owner_of(folder.lock) != owner) is False and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    if as_json:
        write_json({"name": name, "stopped": stopped, "pid": owner.pid})
    else:
        write(f"{name} has stopped\n" if stopped else f"{name} will stop after the runs at work\n")
    if stopped:
        note(f"go on with: studium session resume {name}")
