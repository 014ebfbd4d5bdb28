"""A run's folder brought home from the box that trained it: listed with hashes there, fetched in pieces here.

Files come into incoming/NAME and move to runs/NAME at once when all are there and every hash is right. A fetch that was
interrupted goes on from the byte it had; one that is at work is left alone. What only the run itself needed
(`state.pt`, which would run code when opened, locks, parts) stays there.
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
from studium.manage.box import Box, Lost
from studium.manage.recipes import RUNS
from studium.train.bases import sha256_of
from studium.train.recipe_file import FILE_NAME
from studium.train.run_folder import RunFolder, State

INCOMING = "incoming"
TRAINED_AT = "trained_at"
MOST_FILES, MOST_DEPTH = 1000, 4
_TOLD = "recipe.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SUFFIXES = (".json", ".jsonl", ".safetensors", ".gguf", ".svg", ".md", ".txt", ".jinja", ".model")


class Sent(NamedTuple):
    """A file of a run: its path within the folder, and what it holds."""

    path: str
    num_bytes: int
    sha256: str


def travels(path: str) -> bool:
    """Say whether a path within a run's folder is one of a file that is sent."""
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
    files = [{"path": one.path, "bytes": one.num_bytes, "sha256": one.sha256} for one in sent]
    return {
        "run": run.path.name,
        "state": run.status().state.value,
        "folder": str(run.path.absolute()),
        "files": files,
    }


def bring_home(box: Box, name: str, workspace: Path) -> RunFolder:
    """Fetch a run that is done into runs/NAME and return it; blocks. Interrupted, the same again goes on.

    Raises BadReply where a file is not what was listed, StoreUnavailable, OperatorError, and what `Box` raises.
    """
    home, coming = workspace / RUNS / name, workspace / INCOMING / name
    told = box.get(f"/api/runs/{name}")
    files = _checked(told)
    try:
        with _alone(coming):
            _check_room(coming, files)
            for one in files:
                _fetch(box, name, one, coming)
            for path in [one for one in coming.rglob("*") if one.is_file()]:
                if str(path.relative_to(coming)) not in {one.path for one in files}:
                    path.unlink()  # of another run of this name
            _settle_in(
                coming, str(told.get("folder", "")).removesuffix(f"/{RUNS}/{name}"), workspace, box.url
            )
            home.parent.mkdir(parents=True, exist_ok=True)
            coming.rename(home)
    except OSError as error:
        raise StoreUnavailable(
            f"{error.filename or coming} cannot be written: {error.strerror}",
            expected=f"room, and no run {name} here yet",
            try_next="make room and give the same command again: it goes on from what is there",
        ) from error
    return RunFolder(home)


def homed(tree: Any, there: str, here: str) -> Any:
    """Return a recipe's tree with what lay in the box's workspace in this one. Pure."""
    if isinstance(tree, Mapping):
        return {key: homed(value, there, here) for key, value in tree.items()}
    if isinstance(tree, list):
        return [homed(one, there, here) for one in tree]
    is_there = isinstance(tree, str) and there and tree.startswith(f"{there}/")
    return here + tree[len(there) :] if is_there else tree


def _settle_in(coming: Path, there: str, workspace: Path, url: str) -> None:
    """Have the recipe name what is here; done twice it changes nothing."""
    here = str(workspace.absolute())
    told = json.loads((coming / _TOLD).read_text(encoding="utf-8"))
    told |= {"recipe": homed(told.get("recipe"), there, here), TRAINED_AT: url}
    recipe = homed(yaml.safe_load((coming / FILE_NAME).read_text(encoding="utf-8")), there, here)
    for name, text in (
        (_TOLD, json.dumps(told, indent=2)),
        (FILE_NAME, yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)),
    ):
        (coming / name).write_text(text, encoding="utf-8")


def _checked(told: Mapping[str, Any]) -> list[Sent]:
    """Return what a box listed. Raises BadReply where a path leads elsewhere, or a recipe or result is missing."""
    try:
        files = [Sent(str(one["path"]), int(one["bytes"]), str(one["sha256"])) for one in told["files"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _no_run(f"its list cannot be read ({error!r})") from error
    wrong = next((one.path for one in files if not travels(one.path) or one.num_bytes < 0), None)
    if wrong is not None or len(files) > MOST_FILES:
        raise _no_run(f"it lists {wrong!r}" if wrong is not None else f"it lists {len(files):,} files")
    if told.get("state") != State.DONE:
        raise _no_run(f"it is {str(told.get('state'))[:40]}")
    if lacking := {FILE_NAME, _TOLD, "status.json"} - {one.path for one in files}:
        raise _no_run(f"it lists no {', '.join(sorted(lacking))}")
    return files


def _no_run(why: str) -> BadReply:
    return BadReply(
        f"the box sent no run: {why}",
        expected=f"at most {MOST_FILES:,} plain files of a finished run",
        try_next="check that it is a Studium of this version",
    )


def _check_room(coming: Path, files: list[Sent]) -> None:
    needed = sum(one.num_bytes for one in files) - sum(
        one.stat().st_size for one in coming.rglob("*") if one.is_file()
    )
    free = shutil.disk_usage(coming).free
    if needed > free:
        raise OperatorError(
            f"the run takes {needed:,} bytes more, {free:,} are free",
            expected="room for it beside what is here",
            try_next="make room and give the same command again",
        )


def _fetch(box: Box, name: str, one: Sent, coming: Path) -> None:
    """Fetch a file from where it was left; what comes to the wrong hash is fetched once more from the beginning."""
    path = coming / one.path
    if path.is_file() and path.stat().st_size == one.num_bytes and sha256_of(path) == one.sha256:
        return
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        box.until_done(lambda: _go_on(box, f"/api/runs/{name}/files/{quote(one.path)}", part, one.num_bytes))
        if sha256_of(part) == one.sha256:
            part.replace(path)
            return
        part.unlink()
    raise BadReply(
        f"{one.path} did not come as it was listed: its hash is another",
        expected=one.sha256,
        try_next="give the same command again; if it stays so, the disk of the box may be failing",
    )


def _go_on(box: Box, url_path: str, part: Path, num_bytes: int) -> None:
    with part.open("ab") as file:
        if file.tell() > num_bytes:
            file.truncate(0)
        at = file.seek(0, os.SEEK_END)
        if at < num_bytes:
            for start, piece in box.pieces(url_path, at):
                if start != file.tell():  # it came from the beginning
                    file.truncate(start)
                    file.seek(start)
                file.write(piece[: num_bytes - start])
                if start + len(piece) >= num_bytes:
                    break
        at = file.tell()
    if at < num_bytes:
        raise Lost(f"{box.url} stopped sending at byte {at:,} of {num_bytes:,}")


@contextmanager
def _alone(coming: Path) -> Iterator[None]:
    """Be the one process that fetches into a folder. Raises OperatorError."""
    coming.mkdir(parents=True, exist_ok=True)
    number = os.open(coming, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise OperatorError(
            f"another process is fetching into {coming}", expected="one at a time", try_next="let it end"
        ) from None
    finally:
        os.close(number)
