"""How a command ends when it goes wrong: what is said, where, and the exit status.

0 done; 1 broken pipe or refused by Studium in general; 2 configuration or command line; 3 the machine; 4 the
question; 5 a model; 6 asked, but nobody had an answer; 70 a bug of ours; 130 interrupted.
"""

import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from studium.cli.output import note, write_json
from studium.errors import StudiumError

EXIT_NO_ANSWER = 6
EXIT_BUG = 70
EXIT_INTERRUPTED = 130


def report(error: StudiumError, *, as_json: bool) -> int:
    """Say what happened, what was expected and what to try; return the exit status."""
    if as_json:
        body = {"message": error.happened, "expected": error.expected, "try_next": error.try_next}
        write_json({"error": {"code": error.code} | body})
        return error.exit_code
    note(f"error: {error.happened}")
    if error.expected:
        note(f"  expected: {error.expected}")
    if error.try_next:
        note(f"  try: {error.try_next}")
    return error.exit_code


def report_bug(error: BaseException, *, as_json: bool) -> int:
    """Keep the traceback in a file and say where; return the exit status."""
    what = f"unexpected {type(error).__name__}: {error}".splitlines()[0][:300]
    where = _keep(error)
    if as_json:
        write_json({"error": {"code": "internal", "message": what, "crash_log": where}})
        return EXIT_BUG
    note(f"error: {what}")
    note("  expected: this should not happen; it is a mistake in Studium")
    note(f"  try: report it with the details in {where}" if where else "  try: report it, with the command")
    return EXIT_BUG


def _keep(error: BaseException) -> str | None:
    """Write the traceback beside temporary files, for this user alone; None where even that fails."""
    name = f"studium-crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    path = Path(tempfile.gettempdir()) / name
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(f"python {sys.version}\n")
            file.writelines(traceback.format_exception(error))
    except OSError:
        return None
    return str(path)
