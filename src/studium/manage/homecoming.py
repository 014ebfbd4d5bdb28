"""A run's folder brought home from the box that trained it: listed with hashes there, fetched in pieces here.

Files come into incoming/NAME and move to runs/NAME at once when all are there and every hash is right. A fetch that was
interrupted goes on from the byte it had. What only the run itself needed (`state.pt`, which would run code when opened,
locks, parts) stays there.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import yaml

from studium.errors import BadReply, OperatorError, StoreUnavailable
from studium.manage.box import Box
from studium.manage.recipes import RUNS
from studium.train.bases import sha256_of
from studium.train.recipe_file import FILE_NAME
from studium.train.run_folder import TRAINED_AT, RunFolder, State

INCOMING, TOLD = "incoming", "recipe.json"
MOST_FILES, MOST_DEPTH = 1000, 4
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SUFFIXES = (".json", ".jsonl", ".safetensors", ".gguf", ".svg", ".md", ".txt", ".jinja", ".model")


class Sent(NamedTuple):
    """A file of a run: its path within the folder, and what it holds."""

    path: str
    bytes: int
    sha256: str


def travels(path: str) -> bool:
    """Say whether a path within a run's folder is one of a file that is sent. Pure."""
    parts = path.split("/")
    named = len(parts) <= MOST_DEPTH and all(_NAME.fullmatch(part) for part in parts)
    return named and (path.endswith(_SUFFIXES) or path == FILE_NAME)


def files_of(run: RunFolder) -> dict[str, Path]:
    """Return the files of a run that are sent, by their path within its folder; no link is followed."""
    found = {str(one.relative_to(run.path)): one for one in sorted(run.path.rglob("*"))}
    return {
        path: one for path, one in found.items() if travels(path) and one.is_file() and not one.is_symlink()
    }


def listed(run: RunFolder) -> dict[str, Any]:
    """Return a run as a box tells of it. Reads every file once."""
    sent = [Sent(path, one.stat().st_size, sha256_of(one)) for path, one in files_of(run).items()]
    return {
        "run": run.path.name,
        "state": run.status().state.value,
        "folder": str(run.path.absolute()),
        "files": [one._asdict() for one in sent],
    }


def bring_home(box: Box, name: str, workspace: Path) -> None:
    """Fetch a run that is done into runs/NAME; blocks. Interrupted, the same again goes on.

    Raises BadReply where a file is not what was listed, StoreUnavailable, OperatorError, and what `Box` raises.
    """
    home, coming = workspace / RUNS / name, workspace / INCOMING / name
    told = box.get(f"/api/runs/{name}")
    files = checked(told)
    try:
        with _alone(coming):
            _clear(coming, files)
            for one in files:
                _fetch(box, name, one, coming)
            there = str(told.get("folder", "")).removesuffix(f"/{RUNS}/{name}")
            _make_ours(coming, there, str(workspace.absolute()), box.url)
            home.parent.mkdir(parents=True, exist_ok=True)
            coming.rename(home)
    except OSError as error:
        raise StoreUnavailable(
            f"{error.filename or coming} cannot be written: {error.strerror}",
            expected=f"room for the run, and no other called {name}",
            try_next="give the same command again: it goes on from what is there",
        ) from error


def checked(told: Mapping[str, Any]) -> list[Sent]:
    """Return what a box listed. Raises BadReply for what is no finished run, or a path that leads elsewhere. Pure."""
    try:
        files = [Sent(str(one["path"]), int(one["bytes"]), str(one["sha256"])) for one in told["files"]]
        wrong = [one.path for one in files if not travels(one.path) or one.bytes < 0]
        lacking = {FILE_NAME, TOLD, "status.json"} - {one.path for one in files}
        sound = told["state"] == State.DONE and len(files) <= MOST_FILES
    except (KeyError, TypeError, ValueError) as error:
        raise BadReply(f"the box sent no list of files: {error!r}", expected="one of a run") from error
    if sound and not wrong and not lacking:
        return files
    raise BadReply(
        f"the box lists {len(files):,} files of a run that is {told['state']}"
        + "".join(f", {one[:80]!r} among them" for one in wrong[:1])
        + (f", without {', '.join(sorted(lacking))}" if lacking else ""),
        expected=f"at most {MOST_FILES:,} plain files of a finished run",
        try_next="check that it is a Studium of this version",
    )


def homed(tree: Any, there: str, here: str) -> Any:
    """Return a recipe's tree with what lay in the box's workspace in this one. Pure."""
    if isinstance(tree, Mapping):
        return {key: homed(value, there, here) for key, value in tree.items()}
    if isinstance(tree, list):
        return [homed(one, there, here) for one in tree]
    is_there = isinstance(tree, str) and there and tree.startswith(f"{there}/")
    return here + tree[len(there) :] if is_there else tree


def _make_ours(coming: Path, there: str, here: str, url: str) -> None:
    """Have the recipe name what is here, and say where it was carried out."""
    told = json.loads((coming / TOLD).read_text(encoding="utf-8"))
    told |= {"recipe": homed(told.get("recipe"), there, here), TRAINED_AT: url}
    (coming / TOLD).write_text(json.dumps(told, indent=2), encoding="utf-8")
    recipe = homed(yaml.safe_load((coming / FILE_NAME).read_text(encoding="utf-8")), there, here)
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    (coming / FILE_NAME).write_text(text, encoding="utf-8")


def _clear(coming: Path, files: list[Sent]) -> None:
    """Remove what came of another run of this name. Raises OperatorError where the rest will not fit."""
    known = {f"{one.path}{end}" for one in files for end in ("", ".part")}
    left = [one for one in coming.rglob("*") if one.is_file()]
    for one in left:
        if str(one.relative_to(coming)) not in known:
            one.unlink()
    here = sum(one.stat().st_size for one in left if one.exists())
    needed, free = sum(one.bytes for one in files) - here, shutil.disk_usage(coming).free
    if needed > free:
        raise OperatorError(
            f"the run takes {needed:,} bytes more, {free:,} are free",
            try_next="make room and give the same command again",
        )


def _fetch(box: Box, name: str, one: Sent, coming: Path) -> None:
    """Fetch a file from where it was left; what comes to another hash is fetched once more from the beginning."""
    path = coming / one.path
    part = path.with_name(f"{path.name}.part")
    if path.is_file() and sha256_of(path) == one.sha256:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        box.until_done(lambda: _go_on(box, f"/api/runs/{name}/files/{quote(one.path)}", part, one.bytes))
        if sha256_of(part) == one.sha256:
            part.replace(path)
            return
        part.unlink()
    raise BadReply(
        f"{one.path} came with another hash than was listed, twice",
        expected=one.sha256,
        try_next="give the same command again; if it stays so, look at the disks of both machines",
    )


def _go_on(box: Box, url_path: str, part: Path, num_bytes: int) -> None:
    with part.open("ab") as file:
        if file.tell() < num_bytes:
            for piece in box.pieces(url_path, file.tell()):
                file.write(piece[: num_bytes - file.tell()])
                if file.tell() >= num_bytes:
                    break
        os.fsync(file.fileno())
        at = file.tell()
    if at < num_bytes:
        raise box.lost(f"it stopped at byte {at:,} of {num_bytes:,}")


@contextmanager
def _alone(coming: Path) -> Iterator[None]:
    """Be the one process that fetches into a folder. Raises OperatorError."""
    coming.mkdir(parents=True, exist_ok=True)
    number = os.open(coming, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise OperatorError(f"another process is fetching into {coming}", try_next="let it end") from None
    finally:
        os.close(number)
