"""Sessions that run in this process: one at the command line, or several beside the questions of a server.

They share its fleet, and with it one memory budget; their asks are of class SESSION, so a person's question goes
first. `Running` is one session from its opening to its report; `Host` keeps those of a server.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from studium.domains.topic_catalogue import topic as topic_named
from studium.domains.topics import Topic
from studium.errors import BadRequest, OperatorError, StudiumError
from studium.fleet import Fleet
from studium.records.models import Student
from studium.records.sessions import SessionPlan, SessionSummary
from studium.serve.sessions.folder import SessionFolder
from studium.serve.sessions.ledger import Ledger, read_ledger
from studium.serve.sessions.opening import begin, take_up
from studium.serve.sessions.ownership import owned
from studium.serve.sessions.report import write_report
from studium.serve.sessions.session import Means, Session

log = logging.getLogger(__name__)

Tell = Callable[[str], None]
# More than so many at once would only wait for each other.
MOST_AT_ONCE = 4
# What the runs at work get when the server stops; then they are withdrawn.
CLOSING_S = 10.0


class Running:
    """One run of a session. `open` and `tell` are called from threads."""

    def __init__(
        self, folder: SessionFolder, topic: Topic, open_ledger: Callable[[], Ledger], tell: Tell
    ) -> None:
        self.name = folder.name
        self.began = asyncio.Event()
        self._folder = folder
        self._topic = topic
        self._open = open_ledger
        self._tell = tell
        self.stopping = False
        self._session: Session | None = None
        self._working: asyncio.Task[SessionSummary] | None = None

    def stop(self) -> None:
        """End after the runs at work."""
        self.stopping = True
        if self._session is not None:
            self._session.stop()

    def withdraw(self) -> None:
        """End now, without the runs at work."""
        self.stop()
        if self._working is not None:
            self._working.cancel()

    async def run(self, fleet: Fleet, students: Mapping[str, Student], means: Means) -> SessionSummary:
        """Own the session, run it to its end, and write its report. `began` is set once it is under way.

        Raises OperatorError where another process runs it, and what `Session.run` raises.
        """
        with owned(self._folder.lock, self.name):
            ledger = await asyncio.to_thread(self._open)
            try:
                self._session = Session(
                    fleet, students, self._topic, self._folder, ledger, means, tell=self._tell
                )
                if self.stopping:
                    self._session.stop()
                self._working = asyncio.create_task(self._session.run(), name=f"session {self.name}")
                await self._to_its_end(self._working, self._session.under_way)
                await asyncio.to_thread(write_report, self._folder, ledger)
                return await asyncio.to_thread(ledger.summary)
            except StudiumError:
                with suppress(StudiumError):
                    write_report(self._folder, ledger)
                raise
            finally:
                ledger.close()

    async def _to_its_end(self, working: "asyncio.Task[SessionSummary]", under_way: asyncio.Event) -> None:
        beginning = asyncio.create_task(under_way.wait())
        try:
            await asyncio.wait({working, beginning}, return_when=asyncio.FIRST_COMPLETED)
            if under_way.is_set():
                self.began.set()
            await asyncio.wait([working])
        finally:  # cancelled from outside: nothing of it goes on
            beginning.cancel()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        if not working.cancelled():
            working.result()


def to_begin(workspace: Path, plan: SessionPlan, tell: Tell) -> Running:
    """Return a new session, ready to be run. Raises CallerError for a topic or name that is none."""
    folder, work = SessionFolder(workspace, plan.name), topic_named(plan.topic)
    return Running(folder, work, lambda: begin(folder, plan, work), tell)


def to_resume(
    workspace: Path, name: str, tell: Tell, *, more_s: float | None, more_cycles: int | None
) -> Running:
    """Return a session that goes on, ready to be run. Blocks on its database.

    Raises CallerError where there is none of that name, BadRequest for no more time, StoreUnavailable.
    """
    if more_s is not None and not more_s > 0:
        raise BadRequest(f"{more_s / 60:g} more minutes", expected="more than zero")
    if more_cycles is not None and more_cycles < 1:
        raise BadRequest(f"{more_cycles} more cycles", expected="at least 1")
    folder = SessionFolder(workspace, name)
    reader = read_ledger(folder.database)
    try:
        work = topic_named(reader.summary().plan.topic)
    finally:
        reader.close()
    return Running(folder, work, lambda: take_up(folder, more_s=more_s, more_cycles=more_cycles), tell)


class Host:
    """The sessions of a server. Only from its event loop."""

    def __init__(self, fleet: Fleet, students: Mapping[str, Student], means: Means) -> None:
        self._fleet = fleet
        self._students = students
        self._means = means
        self._tasks: dict[str, asyncio.Task[SessionSummary]] = {}
        self._running: dict[str, Running] = {}

    async def start(self, running: Running) -> "asyncio.Task[SessionSummary]":
        """Run a session in a task of its own, which is returned once the session is under way.

        Raises what kept it from it, as that it exists already or that another process runs it.
        """
        name = running.name
        if name in self._running or len(self._running) >= MOST_AT_ONCE:
            raise OperatorError(
                f"{'this session' if name in self._running else len(self._running)} runs here already",
                expected=f"each session once, and at most {MOST_AT_ONCE} at a time",
                try_next="wait for one to end, or end it with: studium session stop NAME",
            )
        self._running[name] = running
        task = asyncio.create_task(self._run(running), name=f"the session {name}")
        self._tasks[name] = task
        task.add_done_callback(_report)
        under_way = asyncio.create_task(running.began.wait())
        await asyncio.wait({task, under_way}, return_when=asyncio.FIRST_COMPLETED)
        under_way.cancel()
        if task.done():
            task.result()
        return task

    def running(self, name: str) -> Running | None:
        """Return a session that runs here."""
        return self._running.get(name)

    def stop(self) -> None:
        """Ask every session to end after its runs at work."""
        for one in self._running.values():
            one.stop()

    async def close(self) -> None:
        """End every session: its runs at work get a moment and are withdrawn. All of it can be resumed."""
        tasks = list(self._tasks.values())
        self.stop()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSING_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, running: Running) -> SessionSummary:
        try:
            return await running.run(self._fleet, self._students, self._means)
        finally:
            del self._running[running.name], self._tasks[running.name]


def _report(task: "asyncio.Task[SessionSummary]") -> None:
    """Say in the server's log how a session failed: perhaps nobody follows it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("%s failed: %s", task.get_name(), error)
