"""Running a session: in the Studium that serves the workspace, else in this process; and what is said at the end."""

import asyncio
import shlex
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from studium.cli.failures import EXIT_INTERRUPTED
from studium.cli.output import note, write, write_json, write_table
from studium.cli.running import post, post_lines, running_server
from studium.errors import EngineDied, EngineMissing, StudiumError
from studium.serve.sessions.glance import by_student

if TYPE_CHECKING:
    from pathlib import Path

    from studium.config import Config
    from studium.serve.sessions.hosting import Running
    from studium.serve.sessions.ledger import Ledger

Json = dict[str, Any]
# Also the hang-up of a terminal that is closed: a session is to end in order.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# How long a server that stops is waited for until its session can be shown.
OWNER_S = 60.0


@dataclass(frozen=True, slots=True)
class Invocation:
    """The configuration, and the options that led to it (for the commands told to the user)."""

    config: "Config"
    config_option: str | None
    workspace_option: str | None
    as_json: bool
    own_budget: bool = False

    def serving(self) -> str | None:
        """Return the URL of the Studium that serves the workspace, where the session is to run in it."""
        url = running_server(self.config.workspace)
        if url is not None and self.own_budget:
            note(
                f"a Studium serves this workspace at {url}: with --memory-budget its models are counted apart"
            )
            return None
        return url

    def resume_command(self, name: str) -> str:
        """Return the command that goes on with a session of this workspace."""
        words = ["studium", "session", "resume", name]
        if self.config_option is not None:
            words += ["--config", self.config_option]
        if self.workspace_option is not None:
            words += ["--workspace", self.workspace_option]
        return shlex.join(words)


def run_new(
    invocation: Invocation,
    name: str,
    topic: str,
    *,
    minutes: float,
    cycles: int | None,
    students: str | None,
    tokens: int | None,
    seed: int,
) -> int:
    """Begin a session and follow it to its end; return the exit status."""
    wanted = None if students is None else [one.strip() for one in students.split(",") if one.strip()]
    if url := invocation.serving():
        body = {"name": name, "topic": topic, "duration_minutes": minutes, "cycles": cycles}
        body |= {"students": wanted, "tokens": tokens, "seed": seed}
        return _there(invocation, url, name, "/api/sessions", body)

    def opened() -> "Running":
        from studium.records.sessions import SessionPlan
        from studium.registry import build_roster
        from studium.serve.sessions.hosting import to_begin
        from studium.serve.sessions.opening import chosen_students

        chosen = chosen_students(build_roster(invocation.config).students, wanted)
        plan = SessionPlan(name, topic, chosen, minutes * 60, cycles, tokens, seed)
        return to_begin(invocation.config.workspace, plan, note)

    return asyncio.run(_here(invocation, opened))


def run_again(invocation: Invocation, name: str, *, minutes: float | None, cycles: int | None) -> int:
    """Go on with a session and follow it; return the exit status."""
    if url := invocation.serving():
        path = f"/api/sessions/{quote(name, safe='')}/resume"
        return _there(invocation, url, name, path, {"duration_minutes": minutes, "cycles": cycles})

    def opened() -> "Running":
        from studium.serve.sessions.hosting import to_resume

        more_s = None if minutes is None else minutes * 60
        return to_resume(invocation.config.workspace, name, note, more_s=more_s, more_cycles=cycles)

    return asyncio.run(_here(invocation, opened))


async def _here(invocation: Invocation, opened: "Callable[[], Running]") -> int:
    """Open Studium in this process, run the session, and tell how it ended."""
    from studium.app import open_studium
    from studium.serve.sessions.session import Means

    config, running = invocation.config, opened()
    loop, signals = asyncio.get_running_loop(), list[int]()

    def on_signal() -> None:
        signals.append(1)
        if len(signals) == 1:
            note("stopping after the runs at work; once more to withdraw them")
            running.stop()
        else:
            running.withdraw()

    for one in STOPPING:
        loop.add_signal_handler(one, on_signal)
    try:
        async with open_studium(config) as studium:
            means = Means(
                max_models=config.fleet.max_models_at_once, seat_s=config.fleet.load_timeout_s + 60.0
            )
            await running.run(studium.fleet, studium.roster.students, means)
    finally:
        for one in STOPPING:
            loop.remove_signal_handler(one)
    _conclude(invocation, running.name)
    return EXIT_INTERRUPTED if signals else 0


def _there(invocation: Invocation, url: str, name: str, path: str, body: Json) -> int:
    """Have the Studium that serves the workspace run the session, follow it, and tell how it ended."""
    signals: list[int] = []

    def on_signal(*_: object) -> None:
        signals.append(1)
        if len(signals) == 1:
            note("stopping after the runs at work; once more to withdraw them")
        with suppress(StudiumError):
            post(url, f"/api/sessions/{quote(name, safe='')}/stop", {})

    before = signal.signal(signal.SIGINT, on_signal)
    last = ""
    try:
        given = {key: value for key, value in body.items() if value is not None}
        for event in post_lines(url, path, given | {"stream": True}):
            last = event["kind"]
            if last == "begun":
                note(f"runs in the Studium at {url}: it goes on there if this terminal is closed")
            elif last in ("progress", "closing"):
                note(event["text"])
    except EngineMissing:
        if not last:
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    if last == "closing":
        _wait_for_owner(invocation.config.workspace, name)
    elif last != "ended":
        raise EngineDied(
            f"the Studium at {url} went away while it ran the session {name!r}",
            expected="a server that tells how it ended",
            try_next=invocation.resume_command(name),
        )
    _conclude(invocation, name)
    return EXIT_INTERRUPTED if signals else 0


def _wait_for_owner(workspace: "Path", name: str) -> None:
    """Wait until a server that stops has put the session down."""
    from studium.serve.sessions.folder import SessionFolder
    from studium.serve.sessions.ownership import owner_of

    deadline = time.monotonic() + OWNER_S
    while owner_of(SessionFolder(workspace, name).lock) and time.monotonic() < deadline:
        time.sleep(0.1)


def _conclude(invocation: Invocation, name: str) -> None:
    """Tell how it ended: a document for programs; for people a table, the report and the next command."""
    from studium.records.sessions import SessionState
    from studium.serve.sessions.folder import SessionFolder
    from studium.serve.sessions.glance import summary_json
    from studium.serve.sessions.ledger import read_ledger

    folder, resume = SessionFolder(invocation.config.workspace, name), invocation.resume_command(name)
    ledger = read_ledger(folder.database)
    try:
        summary = ledger.summary()
        if invocation.as_json:
            document = summary_json(summary) | {"folder": folder.root, "report": folder.report}
            write_json(document | {"resume": resume})
        else:
            write_table(STUDENT_COLUMNS, student_rows(ledger))
            state = "interrupted" if summary.interrupted else summary.state.value
            why = f": {summary.reason}" if summary.reason else ""
            useful = f"{summary.useful} useful of {summary.runs} proposals in {cycles_told(summary.cycles)}"
            minutes = f"{summary.active_seconds / 60:.2f} minutes"
            write(f"\n{name} {state}{why}. {useful}, {minutes}\nreport: {folder.report}\n")
    finally:
        ledger.close()
    if summary.state is not SessionState.FINISHED:
        note(f"go on with: {resume}")


def cycles_told(number: int) -> str:
    return "1 cycle" if number == 1 else f"{number} cycles"


STUDENT_COLUMNS = ("student", "runs", "useful", "failed", "mean s", "MB", "tokens/s")


def student_rows(ledger: "Ledger") -> list[tuple[str, ...]]:
    """Return one row per student: what its runs came to."""
    rows: list[tuple[str, ...]] = []
    for one in by_student(ledger):
        rows.append(
            (
                one["student"],
                str(one["runs"]),
                str(one["useful"]),
                str(one["failed"]),
                f"{one['mean_seconds']:.2f}",
                "-" if one["mean_vram_mb"] is None else f"{one['mean_vram_mb']:,.0f}",
                "-" if one["tokens_per_second"] is None else f"{one['tokens_per_second']:,.1f}",
            )
        )
    return rows
