"""The ledger of what calls cost: reserved in one conditional statement before a call, settled after it.

A reservation that is open counts in full in every window; settled, what was really spent is booked in the minute
of the settlement. So whatever falls into a window was counted when the last call in it was let in, and no window of
an hour or a day, wherever it begins, holds more than its cap. A reservation that nobody settles within its call's
own limit is booked as spent in full (`assumed`): what may have been sent may have been charged, so the death of its
owner gives nothing back. Times are the ledger's own (see `ledger_time`).
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine

from studium.errors import StoreUnavailable
from studium.records.spending import CAPS, NOTHING, SCOPES, Amount, Change, Refusal, Usage, Want, units_of
from studium.store.database import sqlite_module
from studium.store.ledger_time import Anchor, Reading, advance, read_clocks

HOUR_S, DAY_S, MINUTE_S = 3600, 86_400, 60
# What a call may last beyond its own limit: being told to stop, and the settlement's way to the disk.
SLACK_S = 60.0
BUSY_S = 5.0
# SQLite itself looks again after up to 100 ms, which leaves some of many processes waiting long.
LOOK_AGAIN_S = (0.0005, 0.002)
_WINDOWS_S = {"hour": HOUR_S, "day": DAY_S}
_COLUMNS = {"usd": "nanousd", "gpu_s": "gpu_ms"}

CapsOf = Callable[[Mapping[str, str]], Mapping[str, int | None]]
"""From the settings changed at run time to all caps by name, in the ledger's units; None: no cap."""


def _spent(column: str, scope: str) -> str:
    if scope in _WINDOWS_S:
        return f"(SELECT COALESCE(SUM({column}), 0) FROM spending_minutes WHERE minute >= :{scope}_from)"
    total = f"SELECT {column} FROM spending_totals WHERE scope = '{scope}' AND name = :{scope}"
    return f"COALESCE(({total}), 0)"


def _reserved(column: str, scope: str) -> str:
    where = "" if scope in _WINDOWS_S else f" AND {scope} = :{scope}"
    return f"(SELECT COALESCE(SUM({column}), 0) FROM reservations WHERE assumed_minute IS NULL{where})"


def _within(cap: str) -> str:
    unit, _, scope = cap.partition("_per_")
    column = _COLUMNS[unit]
    not_asked = f":{column} = 0 OR :{cap} IS NULL" + (" OR :session = ''" if scope == "session" else "")
    return f"({not_asked} OR {_spent(column, scope)} + {_reserved(column, scope)} + :{column} <= :{cap})"


_RESERVE = (
    "INSERT INTO reservations (at_s, until_s, student, pid, request, session, nanousd, gpu_ms)"
    " SELECT :now, :until, :student, :pid, :request, :session, :nanousd, :gpu_ms WHERE "
    + " AND ".join(_within(cap) for cap in CAPS)
)
_USAGE = "SELECT " + ", ".join(
    f"{part(column, scope)}"
    for unit, column in _COLUMNS.items()
    for scope in SCOPES
    for part in (_spent, _reserved)
)
_BOOK_MINUTE = (
    "INSERT INTO spending_minutes (minute, nanousd, gpu_ms, assumed_nanousd, assumed_gpu_ms)"
    " VALUES (:minute, :nanousd, :gpu_ms, :assumed_nanousd, :assumed_gpu_ms) ON CONFLICT (minute) DO UPDATE SET"
    " nanousd = nanousd + excluded.nanousd, gpu_ms = gpu_ms + excluded.gpu_ms,"
    " assumed_nanousd = assumed_nanousd + excluded.assumed_nanousd,"
    " assumed_gpu_ms = assumed_gpu_ms + excluded.assumed_gpu_ms"
)
_BOOK_TOTAL = (
    "INSERT INTO spending_totals (scope, name, at_s, nanousd, gpu_ms) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (scope, name) DO UPDATE SET at_s = excluded.at_s,"
    " nanousd = nanousd + excluded.nanousd, gpu_ms = gpu_ms + excluded.gpu_ms"
)


class Spending:
    """The ledger of one store. Every call blocks for the disk; safe from any thread and any process.

    Everything raises StoreUnavailable where the disk refuses: then nothing was promised.
    """

    def __init__(self, database: Engine, clocks: Callable[[], Reading] = read_clocks) -> None:
        self._database = database
        self._clocks = clocks
        self._error: type[Exception] = sqlite_module().Error
        self._lock = threading.Lock()
        self._connection: Any = None

    @contextmanager
    def turn(self, *, durable: bool = True) -> Iterator["Turn"]:
        """Hold the ledger alone for one transaction, on disk at the end; `durable` also past a power cut.

        What is not durable may be lost to a power cut; a settlement that is lost counts as spent in full.
        """
        with self._lock:
            try:
                connection = self._opened()
                connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._begin(connection)
                try:
                    yield Turn(connection, _tick(connection, self._clocks))
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except self._error as error:
                raise StoreUnavailable(
                    f"the ledger of spending cannot be written: {error}",
                    expected="a writable store on a disk with free space: what cannot be reserved is not spent",
                    try_next="free some space, or ask students that cost nothing",
                ) from error

    def overrides(self) -> dict[str, str]:
        """Return the settings that were changed at run time, without holding the ledger."""
        with self._database.connect() as connection:
            return dict(connection.exec_driver_sql("SELECT name, value FROM governor_settings").all())  # pyright: ignore[reportArgumentType, reportCallIssue]

    def changes(self, most: int = 20) -> list[Change]:
        """Return the latest changes of settings, the newest first."""
        query = "SELECT at, by, name, old, new FROM governor_changes ORDER BY id DESC LIMIT ?"
        with self._database.connect() as connection:
            return [Change(*row) for row in connection.exec_driver_sql(query, (most,))]

    def close(self) -> None:
        """Close the ledger's connection. The database is its owner's."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _begin(self, connection: Any) -> None:
        """Begin a transaction once nobody else writes. Raises the database's error after BUSY_S."""
        until = time.monotonic() + BUSY_S
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except self._error as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
            time.sleep(random.uniform(*LOOK_AGAIN_S))

    def _opened(self) -> Any:
        if self._connection is None:
            held = self._database.raw_connection()
            self._connection = held.driver_connection
            held.detach()
            self._connection.execute("PRAGMA busy_timeout=0")  # `_begin` waits
            self._connection.isolation_level = None  # transactions begin and end where `turn` says
        return self._connection


class Turn:
    """One transaction on the ledger; from `Spending.turn`. `now_s` is the ledger's time."""

    def __init__(self, connection: Any, now_s: float) -> None:
        self._connection = connection
        self.now_s = now_s
        self._expire()

    def overrides(self) -> dict[str, str]:
        """Return the settings that were changed at run time, by name."""
        return dict(self._connection.execute("SELECT name, value FROM governor_settings").fetchall())

    def reserve(self, want: Want, caps: Mapping[str, int | None]) -> int | Refusal:
        """Promise what a call may cost if no cap is passed: its number, or why not. One conditional statement."""
        asked = self._asked(want.request, want.session) | {
            "now": self.now_s,
            "until": self.now_s + want.limit_s + SLACK_S,
            "student": want.student,
            "pid": os.getpid(),
            "nanousd": want.most.nanousd,
            "gpu_ms": want.most.gpu_ms,
        }
        done = self._connection.execute(_RESERVE, asked | dict(caps))
        return int(done.lastrowid) if done.rowcount == 1 else self._why_not(want, caps)

    def settle(self, number: int, spent: Amount) -> None:
        """Book what a call really cost, and give back the rest of its reservation."""
        row = self._connection.execute(
            "DELETE FROM reservations WHERE id = ? RETURNING request, session, nanousd, gpu_ms, assumed_minute",
            (number,),
        ).fetchone()
        request, session, nanousd, gpu_ms, assumed_minute = row or ("", "", 0, 0, None)
        if assumed_minute is not None:  # the owner was late, not dead: what was assumed is taken back
            self._book(Amount(-nanousd, -gpu_ms), request, session, assumed_minute, assumed=True)
        self._book(spent, request, session, int(self.now_s // MINUTE_S))

    def usage(self, caps: Mapping[str, int | None], request: str = "", session: str = "") -> list[Usage]:
        """Return how far each cap is used up, in the order of `CAPS`."""
        found = iter(self._connection.execute(_USAGE, self._asked(request, session)).fetchone())
        return [
            Usage(
                cap,
                None if caps[cap] is None else (caps[cap] or 0) / units_of(cap),
                (spent := next(found)) / units_of(cap),
                next(found) / units_of(cap),
                self._free_in_s(cap, spent),
            )
            for cap in CAPS
        ]

    def sessions(self, most: int = 20) -> list[tuple[str, Amount]]:
        """Return what each session has spent, the latest first."""
        rows = self._connection.execute(
            "SELECT name, nanousd, gpu_ms FROM spending_totals WHERE scope = 'session' ORDER BY at_s DESC LIMIT ?",
            (most,),
        )
        return [(name, Amount(nanousd, gpu_ms)) for name, nanousd, gpu_ms in rows]

    def assumed(self) -> Amount:
        """Return what was booked within a day for calls that nobody settled."""
        day = self._asked("", "")["day_from"]
        query = (
            "SELECT COALESCE(SUM(assumed_nanousd), 0), COALESCE(SUM(assumed_gpu_ms), 0)"
            " FROM spending_minutes WHERE minute >= ?"
        )
        return Amount(*self._connection.execute(query, (day,)).fetchone())

    def change(self, name: str, value: str | None, *, by: str, at: float) -> None:
        """Change one setting (None: back to the configuration), and note who did it."""
        old = self.overrides().get(name)
        if value is None:
            self._connection.execute("DELETE FROM governor_settings WHERE name = ?", (name,))
        else:
            self._connection.execute(
                "INSERT OR REPLACE INTO governor_settings (name, value, at, by) VALUES (?, ?, ?, ?)",
                (name, value, at, by),
            )
        self._connection.execute(
            "INSERT INTO governor_changes (at, by, name, old, new) VALUES (?, ?, ?, ?, ?)",
            (at, by, name, old, value),
        )

    def _expire(self) -> None:
        """Book as spent in full what nobody settled in time, and forget what no window reaches any more."""
        minute = int(self.now_s // MINUTE_S)
        late = self._connection.execute(
            "UPDATE reservations SET assumed_minute = ? WHERE assumed_minute IS NULL AND until_s < ?"
            " RETURNING request, session, nanousd, gpu_ms",
            (minute, self.now_s),
        ).fetchall()
        for request, session, nanousd, gpu_ms in late:
            self._book(Amount(nanousd, gpu_ms), request, session, minute, assumed=True)
        old_s = self.now_s - DAY_S - 2 * MINUTE_S
        old = self._connection.execute("DELETE FROM spending_minutes WHERE minute < ?", (old_s // MINUTE_S,))
        if old.rowcount:  # once a minute at most
            self._connection.execute(
                "DELETE FROM reservations WHERE assumed_minute < ?", (old_s // MINUTE_S,)
            )
            self._connection.execute(
                "DELETE FROM spending_totals WHERE scope = 'request' AND at_s < ?", (old_s,)
            )

    def _book(self, spent: Amount, request: str, session: str, minute: int, *, assumed: bool = False) -> None:
        if not spent:
            return
        values = {"minute": minute, "nanousd": spent.nanousd, "gpu_ms": spent.gpu_ms}
        held = spent if assumed else NOTHING
        values |= {"assumed_nanousd": held.nanousd, "assumed_gpu_ms": held.gpu_ms}
        self._connection.execute(_BOOK_MINUTE, values)
        for scope, name in (("request", request), ("session", session)):
            if name:
                total = (scope, name, self.now_s, spent.nanousd, spent.gpu_ms)
                self._connection.execute(_BOOK_TOTAL, total)

    def _asked(self, request: str, session: str) -> dict[str, Any]:
        # The minute in which the window began counts whole: a window never holds more than its cap.
        starts = {
            f"{scope}_from": int((self.now_s - window_s) // MINUTE_S)
            for scope, window_s in _WINDOWS_S.items()
        }
        return {"request": request, "session": session, **starts}

    def _why_not(self, want: Want, caps: Mapping[str, int | None]) -> Refusal:
        passed: list[Usage] = []
        for use in self.usage(caps, want.request, want.session):
            unit, _, scope = use.name.partition("_per_")
            asked = getattr(want.most, _COLUMNS[unit]) / units_of(use.name)
            if use.left is None or asked == 0 or (scope == "session" and not want.session):
                continue
            if round(use.left * units_of(use.name)) < round(asked * units_of(use.name)):
                passed.append(self._with_room(use, asked))
        return Refusal(tuple(passed))

    def _with_room(self, use: Usage, asked: float) -> Usage:
        """Return the usage with the time until there is room for a call that costs `asked`."""
        must_leave = use.reserved + use.spent + asked - (use.cap or 0.0)
        helps = use.reserved + asked <= (use.cap or 0.0)
        free_in_s = self._free_in_s(use.name, round(must_leave * units_of(use.name))) if helps else None
        return Usage(use.name, use.cap, use.spent, use.reserved, free_in_s)

    def _free_in_s(self, cap: str, units: int) -> float | None:
        """Return when so many units of a window will have left it; None where there are none, or no window."""
        unit, _, scope = cap.partition("_per_")
        if scope not in _WINDOWS_S or units <= 0:
            return None
        query = f"SELECT minute, {_COLUMNS[unit]} FROM spending_minutes WHERE minute >= ? ORDER BY minute"
        for minute, booked in self._connection.execute(query, (self._asked("", "")[f"{scope}_from"],)):
            units -= booked
            if units <= 0:
                return max(0.0, (minute + 1) * MINUTE_S + _WINDOWS_S[scope] - self.now_s)
        return None


def _tick(connection: Any, clocks: Callable[[], Reading]) -> float:
    """Move the ledger's time on and return it. Within the transaction, so that all processes see one order."""
    row = connection.execute("SELECT boot_id, boot_s, wall_s, ledger_s FROM spending_clock").fetchone()
    anchor = advance(Anchor(*row) if row else None, clocks())
    connection.execute(
        "INSERT OR REPLACE INTO spending_clock (id, boot_id, boot_s, wall_s, ledger_s) VALUES (1, ?, ?, ?, ?)",
        anchor,
    )
    return anchor.ledger_s
