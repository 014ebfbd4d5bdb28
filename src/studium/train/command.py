"""Runs one stage in this process, from a run's folder: preflight, training, report; the exit status says how it ended.

0 done; 130 stopped, to be gone on with later; 8 stopped by a watcher; else that of the error (2 recipe or data, 3 the
machine, 70 a bug of ours). Everything said goes to stderr and to the folder's log.txt.
"""

import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from studium.errors import StudiumBug, StudiumError
from studium.train.course import Checkpoint
from studium.train.forecast import shape_of
from studium.train.preflight.checking import preflight
from studium.train.recipe_file import FILE_NAME, Told, read_told
from studium.train.report import write_report
from studium.train.run_folder import RunFolder, State
from studium.train.stages.catalogue import stage as stage_named
from studium.train.surroundings import choose_threads, quiet

EXIT_STOPPED, EXIT_WATCHER = 130, 8
EXITS = {State.DONE: 0, State.STOPPED: EXIT_STOPPED, State.HALTED: EXIT_WATCHER}


class Log:
    """Says a line to people, and keeps it with the time in the run's log.txt."""

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.path / "log.txt"

    def __call__(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        with self._path.open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


def main(stage: str, folder: str) -> int:
    """Run the stage a folder was made for; return the exit status. Another process's run is left as it is."""
    quiet()
    run = RunFolder(Path(folder))
    say = Log(run)
    try:
        with _ended_by_sigterm(), run.alone():
            return _to_its_end(stage, run, say)
    except StudiumError as error:
        return _tell(error, say)
    except KeyboardInterrupt:
        return EXIT_STOPPED


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end a run that takes no steps yet as Control-C does, so that its folder can say so."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _to_its_end(stage: str, run: RunFolder, say: Log) -> int:
    """Run the stage in a folder that is this process's; whatever ends it is noted there."""
    try:
        run.say(replace(run.status(), state=State.PREPARING, eta_s=None, message=""))
        return EXITS[_trained(read_told(run.path / FILE_NAME, stage), run, say).ended.state]
    except StudiumError as error:
        _failed(run, str(error), error)
        return _tell(error, say)
    except KeyboardInterrupt:
        if (now := run.status()).state is not State.DONE:
            run.say(replace(now, state=State.STOPPED, message="ended at once"))
        say("ended at once; it goes on from what it last saved")
        return EXIT_STOPPED
    except Exception as error:
        _failed(run, f"{type(error).__name__}: {error}")
        trace = run.path / "traceback.txt"
        trace.write_text("".join(traceback.format_exception(error)))
        say(f"error: unexpected {type(error).__name__}: {str(error)[:300]}")
        say(f"  expected: this should not happen; the details are in {trace}")
        return StudiumBug.exit_code


def _tell(error: StudiumError, say: Log) -> int:
    """Say what is wrong in its three parts; return the exit status."""
    for part, text in (("error", error.happened), ("  expected", error.expected), ("  try", error.try_next)):
        if text:
            say(f"{part}: {text}")
    return error.exit_code


def _trained(told: Told, run: RunFolder, say: Log) -> Checkpoint:
    shape = shape_of(told.recipe.model)
    threads = choose_threads(shape.parameters if shape else None)
    run.append("events.jsonl", {"kind": "threads", "at": time.time(), **threads._asdict()})
    say(f"{threads.threads} thread{'s' if threads.threads > 1 else ''}: {threads.why}")
    preflight(told, run, say)
    checkpoint = stage_named(told.stage).run(told.recipe, run, say)
    run.append("events.jsonl", {"kind": "memory", "at": time.time(), "peak_bytes": _peak_bytes()})
    write_report(run)
    return checkpoint


def _peak_bytes() -> int:
    """Return the most main memory this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _failed(run: RunFolder, why: str, error: StudiumError | None = None) -> None:
    """Note why it ended; one that was done before stays so."""
    parts = {"code": error.code, "expected": error.expected, "try_next": error.try_next} if error else {}
    run.keep("failure.json", {"code": "internal", "happened": error.happened if error else why} | parts)
    if (now := run.status()).state is not State.DONE:
        run.say(replace(now, state=State.FAILED, message=why))
