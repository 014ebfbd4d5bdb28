"""Running a session in this process: opening Studium, signals, and what is said at the end."""

import asyncio
import shlex
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from studium.cli.failures import EXIT_INTERRUPTED
from studium.cli.output import note, write, write_json, write_table
from studium.cli.running import running_server
from studium.errors import BadRequest, StudiumError, UnknownModel
from studium.registry import Roster, build_roster

if TYPE_CHECKING:
    from studium.config import Config
    from studium.domains.topics import Topic
    from studium.records.sessions import SessionSummary
    from studium.serve.sessions.folder import SessionFolder
    from studium.serve.sessions.ledger import Ledger
    from studium.serve.sessions.session import Session

Json = dict[str, Any]
# Also the hang-up of a terminal that is closed: a session is to end in order.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Invocation:
    """The configuration, and the options that led to it (for the commands told to the user)."""

    config: "Config"
    config_option: str | None
    workspace_option: str | None
    as_json: bool

    def resume_command(self, name: str) -> str:
        """Return the command that goes on with a session of this workspace."""
        words = ["studium", "session", "resume", name]
        if self.config_option is not None:
            words += ["--config", self.config_option]
        if self.workspace_option is not None:
            words += ["--workspace", self.workspace_option]
        return shlex.join(words)


async def run_new(
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
    """Begin a session and run it; return the exit status."""
    from studium.domains.topic_catalogue import topic as topic_named
    from studium.records.sessions import SessionPlan
    from studium.serve.sessions.folder import SessionFolder
    from studium.serve.sessions.opening import begin

    folder = SessionFolder(invocation.config.workspace, name)
    work = topic_named(topic)
    plan = SessionPlan(
        name=name,
        topic=topic,
        students=_chosen(build_roster(invocation.config), students),
        duration_s=minutes * 60,
        max_cycles=cycles,
        token_budget=tokens,
        seed=seed,
    )
    return await _run(invocation, folder, work, lambda: begin(folder, plan, work))


async def run_again(invocation: Invocation, name: str, *, minutes: float | None, cycles: int | None) -> int:
    """Go on with a session; return the exit status."""
    from studium.domains.topic_catalogue import topic as topic_named
    from studium.serve.sessions.folder import SessionFolder
    from studium.serve.sessions.ledger import read_ledger
    from studium.serve.sessions.opening import take_up

    if minutes is not None and not minutes > 0:
        raise BadRequest(f"{minutes:g} more minutes", expected="more than zero")
    if cycles is not None and cycles < 1:
        raise BadRequest(f"{cycles} more cycles", expected="at least 1")
    folder = SessionFolder(invocation.config.workspace, name)
    reader = read_ledger(folder.database)
    try:
        work = topic_named(reader.summary().plan.topic)
    finally:
        reader.close()
    more_s = None if minutes is None else minutes * 60
    return await _run(invocation, folder, work, lambda: take_up(folder, more_s=more_s, more_cycles=cycles))


async def _run(
    invocation: Invocation, folder: "SessionFolder", topic: "Topic", opened: "Callable[[], Ledger]"
) -> int:
    """Own the session, open Studium, run, and tell how it ended."""
    from studium.app import open_studium
    from studium.serve.sessions.ownership import owned
    from studium.serve.sessions.report import write_report
    from studium.serve.sessions.session import Means, Session

    config = invocation.config
    if url := running_server(config.workspace):
        note(f"a Studium serves this workspace at {url}: its models are counted apart from this session's")
    with owned(folder.lock, folder.name):
        ledger = await asyncio.to_thread(opened)
        try:
            async with open_studium(config) as studium:
                means = Means(
                    max_models=config.fleet.max_models_at_once,
                    seat_s=config.fleet.load_timeout_s + 60.0,
                )
                session = Session(
                    studium.fleet, studium.roster.students, topic, folder, ledger, means, tell=note
                )
                interrupted = await _until_done(session)
            await asyncio.to_thread(write_report, folder, ledger)
            summary = await asyncio.to_thread(ledger.summary)
            _conclude(invocation, summary, folder, ledger)
        except StudiumError:
            with suppress(StudiumError):
                write_report(folder, ledger)
            raise
        finally:
            ledger.close()
    return EXIT_INTERRUPTED if interrupted else 0


async def _until_done(session: "Session") -> bool:
    """Run a session; the first signal stops it after the runs at work, the second at once. True if signalled."""
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(session.run(), name="session")
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            note("stopping after the runs at work; once more to withdraw them")
            session.stop()
        else:
            running.cancel()

    for one in STOPPING:
        loop.add_signal_handler(one, on_signal)
    try:
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()
    finally:
        for one in STOPPING:
            loop.remove_signal_handler(one)
    return signals > 0


def _chosen(roster: Roster, wanted: str | None) -> tuple[str, ...]:
    """Return the students' names, in roster order. Raises UnknownModel naming the nearest."""
    able = [name for name, student in roster.students.items() if not student.model.embeddings]
    if wanted is None:
        return tuple(able)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    for name in names:
        if name not in able:
            near = get_close_matches(name, able, n=1)
            raise UnknownModel(
                f"there is no student {name!r} that generates",
                expected=f"some of {', '.join(able)}",
                try_next=f"did you mean {near[0]!r}?" if near else "see: studium students list",
            )
    return tuple(name for name in able if name in names)


def _conclude(
    invocation: Invocation, summary: "SessionSummary", folder: "SessionFolder", ledger: "Ledger"
) -> None:
    """Tell how it ended: a document for programs; for people a table, the report and the next command."""
    from studium.records.sessions import SessionState

    resume = invocation.resume_command(summary.plan.name)
    stopped = summary.state is not SessionState.FINISHED
    if invocation.as_json:
        write_json(summary_json(summary) | {"folder": folder.root, "report": folder.report, "resume": resume})
    else:
        write_table(STUDENT_COLUMNS, student_rows(ledger))
        write(
            f"\n{summary.plan.name} {summary.state.value}: {summary.reason}. {summary.useful} useful of "
            f"{summary.runs} proposals in {summary.cycles} cycles, {summary.active_seconds / 60:.2f} minutes\n"
            f"report: {folder.report}\n"
        )
    if stopped:
        note(f"go on with: {resume}")


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


def by_student(ledger: "Ledger") -> list[Json]:
    """Return what each student's runs came to, as plain data, by name."""
    grouped: dict[str, list[Any]] = {}
    for run in ledger.runs():
        grouped.setdefault(run.run.student, []).append(run)
    rows: list[Json] = []
    for student, runs in sorted(grouped.items()):
        sizes = [run.run.memory_bytes / 1e6 for run in runs if run.run.memory_bytes is not None]
        seconds = sum(run.run_seconds for run in runs)
        tokens = sum(run.run.completion_tokens for run in runs)
        rows.append(
            {
                "student": student,
                "runs": len(runs),
                "useful": sum(run.useful for run in runs),
                "failed": sum(not run.run.success for run in runs),
                "mean_seconds": sum(run.run.seconds for run in runs) / len(runs),
                "mean_vram_mb": sum(sizes) / len(sizes) if sizes else None,
                "tokens_per_second": tokens / seconds if seconds > 0 else None,
            }
        )
    return rows


def summary_json(summary: "SessionSummary") -> Json:
    """Return a session at a glance as plain data."""
    fields = asdict(summary)
    plan = fields.pop("plan")
    return {
        "name": plan["name"],
        "topic": plan["topic"],
        "state": "interrupted" if summary.interrupted else summary.state.value,
        **{key: value for key, value in fields.items() if key != "state"},
        "remaining_seconds": max(0.0, plan["duration_s"] - summary.active_seconds),
        "plan": plan,
    }
