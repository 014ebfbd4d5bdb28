"""A session's folder (requirement SES-8): where everything lies, and writing there so that no file is half.

WORKSPACE/sessions/NAME/
    scheduler_history/student_profiles.db        the truth
    scheduler_history/cycle_N_STUDENT.json       one per run
    PREFIX_proposals/STUDENT/cycle_NNN.md        one per proposal
    cycle_reports/cycle_NNN.json                 one per cycle
    report.html                                  written when the session ends or stops
    status.json, owner.lock, stop                what goes on now (see `watch`, `ownership`)
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studium.config.kinds import NAME_PATTERN
from studium.errors import BadRequest, OperatorError

SESSIONS = "sessions"
TEMPORARY = ".part"
_PREFIX = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class SessionFolder:
    """The paths of one session. Creates nothing by itself."""

    def __init__(self, workspace: Path, name: str) -> None:
        self.name = checked_name(name)
        self.root = workspace / SESSIONS / name
        self.history = self.root / "scheduler_history"
        self.database = self.history / "student_profiles.db"
        self.reports = self.root / "cycle_reports"
        self.report = self.root / "report.html"
        self.status = self.root / "status.json"
        self.lock = self.root / "owner.lock"
        self.stop = self.root / "stop"

    def run_file(self, cycle: int, student: str) -> Path:
        """Return the file of one run. Raises BadRequest where the student's name is no file name."""
        return self.history / f"cycle_{cycle}_{checked_student(student)}.json"

    def proposal_file(self, prefix: str, cycle: int, student: str) -> Path:
        """Return the file of one proposal. Raises BadRequest where a name is no file name."""
        return self.proposals(prefix) / checked_student(student) / f"cycle_{cycle:03d}.md"

    def proposals(self, prefix: str) -> Path:
        if not _PREFIX.fullmatch(prefix):
            raise BadRequest(
                f"the topic's prefix is {prefix!r}", expected="a-z, 0-9, '_' or '-', at most 32 characters"
            )
        return self.root / f"{prefix}_proposals"

    def cycle_report(self, cycle: int) -> Path:
        return self.reports / f"cycle_{cycle:03d}.json"


def checked_name(name: str) -> str:
    """Return a session's name, which becomes a folder. Raises BadRequest for any other text."""
    if NAME_PATTERN.fullmatch(name):
        return name
    raise BadRequest(
        f"{name[:80]!r} cannot name a session",
        expected="a-z, 0-9, '.', '_', '-', at most 64 characters, the first a letter or digit",
        try_next="studium session run rh_main --topic riemann --duration 120",
    )


def checked_student(student: str) -> str:
    """Return a student's name, which becomes a folder. Raises BadRequest for any other text."""
    if NAME_PATTERN.fullmatch(student):
        return student
    raise BadRequest(
        f"the student {student[:80]!r} cannot have a folder of its name",
        expected="a name of a-z, 0-9, '.', '_', '-', at most 64 characters",
        try_next="rename the student in studium.yaml",
    )


def session_names(workspace: Path) -> Iterator[str]:
    """Yield the names of the sessions of a workspace, sorted."""
    folder = workspace / SESSIONS
    if folder.is_dir():
        for entry in sorted(folder.iterdir()):
            if NAME_PATTERN.fullmatch(entry.name) and (entry / "scheduler_history").is_dir():
                yield entry.name


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part. Raises OperatorError."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8", errors="replace")
        os.replace(temporary, path)  # noqa: PTH105 (one name for what matters here)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OperatorError(
            f"{path} cannot be written: {error.strerror or error}",
            expected="a disk with free space and a folder that may be written to",
            try_next="make room and resume the session; what ran so far is recorded",
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write a value as an indented JSON file, whole or not at all. Raises OperatorError."""
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")
