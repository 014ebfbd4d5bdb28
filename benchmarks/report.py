"""The one form of every benchmark: `python -m benchmarks.NAME [--quick] [--json]`.

A benchmark returns rows (what was measured) and aims (what was hoped for, with the interval that was
found). The JSON holds name, commit, machine, command, rows and aims; people get tables. An aim that
is not met is printed like any other; the exit status says only whether the benchmark could be run.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parent.parent
BUILD = REPOSITORY / "build" / "benchmarks"


@dataclass(frozen=True, slots=True)
class Aim:
    """Something hoped for. `met` None means that this run could not tell (see `note`)."""

    aim: str
    value: float | None
    low: float | None
    high: float | None
    target: str
    met: bool | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    rows: Sequence[Mapping[str, Any]]
    aims: Sequence[Aim]
    notes: Sequence[str] = field(default_factory=tuple)


def say(text: str) -> None:
    """Tell people how far it is, on stderr."""
    print(text, file=sys.stderr, flush=True)


def run(name: str, about: str, measure: Callable[[bool], Report]) -> None:
    """Parse the command line, measure, and print; `measure` is told whether to be quick."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=about)
    parser.add_argument("--quick", action="store_true", help="under a minute; the figures are rough")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    command = f"python -m benchmarks.{name}" + (" --quick" if options.quick else "")
    emit(name, measure(options.quick), command=command, as_json=options.json)


def emit(name: str, report: Report, *, command: str, as_json: bool) -> None:
    """Print a report in the one form, for a program or for people."""
    result = {"name": name, "command": command, "commit": commit(), "machine": machine(), **asdict(report)}
    if as_json:
        print(json.dumps(result, indent=1))
        return
    print(f"{command}   ({result['commit']}; {result['machine']})\n")
    print_table(report.rows)
    print()
    print_table([{**asdict(aim), "met": _verdict(aim.met)} for aim in report.aims])
    for note in report.notes:
        print(f"- {note}")


def commit() -> str:
    """Return the commit measured, marked when the tree has changes."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


def machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, no GPU used, {system}"


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a Markdown table, ready for the docs. Columns come in the order they first appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(_cell(row.get(column)) for column in columns) + " |")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _verdict(met: bool | None) -> str:
    return {True: "met", False: "NOT MET", None: "not told"}[met]
