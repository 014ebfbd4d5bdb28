"""The folder of an evaluation, beside those of training runs.

runs/NAME/
    eval.json        what was asked of whom: model with fingerprint, items with hash, samples, temperature
    answers.jsonl    one line per try, as it is graded; the last line of a killed run may be cut off
    report.json      the figures, once all was asked
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from studium.errors import BadRequest, ConfigurationError
from studium.evals.grading import Graded, graded_of

Json = dict[str, Any]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class EvalFolder:
    """One evaluation's files. Opening reads nothing."""

    def __init__(self, runs: Path, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise BadRequest(
                f"{name!r} is no name for a run",
                expected="a-z, 0-9, '.', '_', '-', at most 64 characters",
                try_next="give it another --name",
            )
        self.path = runs / name
        self.name = name

    def begin(self, told: Mapping[str, Any]) -> None:
        """Make the folder, or take up the run in it. Raises ConfigurationError where another one is in it."""
        kept = self.told()
        if kept and kept != orjson.loads(orjson.dumps(told)):
            differs = [key for key in told if kept.get(key) != told[key]]
            raise ConfigurationError(
                f"the run {self.name} asked something else: it differs in {', '.join(differs)}",
                expected="the same model, items and tries, to go on",
                try_next="give the new run another --name",
            )
        if not kept and self.path.exists() and any(self.path.iterdir()):
            raise ConfigurationError(
                f"{self.path} holds something that is no evaluation",
                expected="a name of its own",
                try_next="give the new run another --name",
            )
        self.path.mkdir(parents=True, exist_ok=True)
        if not kept:
            _replace(self.path / "eval.json", told)

    def told(self) -> Json:
        """Return what was asked of whom; empty where there is no such run."""
        return _read(self.path / "eval.json")

    def answers(self) -> list[Graded]:
        """Return what was graded so far, the latest of each try; a line that was cut off is left out."""
        found: dict[tuple[str, int], Graded] = {}
        for line in self._lines():
            try:
                graded = graded_of(orjson.loads(line))
            except (ValueError, TypeError):
                continue
            found[graded.item, graded.sample] = graded
        return list(found.values())

    def append(self, graded: Graded) -> None:
        """Write one try down, and an end to a line that a kill cut off."""
        with (self.path / "answers.jsonl").open("ab+") as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(orjson.dumps(graded.as_row()) + b"\n")

    def finish(self, report: Mapping[str, Any]) -> None:
        _replace(self.path / "report.json", report)

    def report(self) -> Json:
        """Return the figures; empty where the run is not finished."""
        return _read(self.path / "report.json")

    def _lines(self) -> list[bytes]:
        file = self.path / "answers.jsonl"
        return file.read_bytes().splitlines() if file.exists() else []


def evaluations(runs: Path) -> list[EvalFolder]:
    """Return the evaluations of a workspace, the oldest first."""
    found = sorted(runs.glob("*/eval.json"), key=lambda path: path.stat().st_mtime)
    return [EvalFolder(runs, path.parent.name) for path in found if _NAME.fullmatch(path.parent.name)]


def _read(path: Path) -> Json:
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise BadRequest(f"{path} is no JSON", try_next="remove its folder and run again") from error


def _replace(path: Path, value: Mapping[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))
    part.replace(path)
