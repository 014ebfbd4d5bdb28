"""The ledger of spending: no order of events, no death, no clock passes a cap."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.store.clocks import Clocks

from studium.errors import StoreUnavailable
from studium.records.spending import CAPS, Amount, Refusal, Want
from studium.store.database import open_database
from studium.store.spending import DAY_S, HOUR_S, SLACK_S, Spending

NO_CAPS: dict[str, int | None] = dict.fromkeys(CAPS)


@contextmanager
def ledger(path: Path, clocks: Clocks | None = None) -> Iterator[Spending]:
    database = open_database(path)
    spending = Spending(database, clocks) if clocks else Spending(database)
    try:
        yield spending
    finally:
        spending.close()
        database.dispose()


def want(
    nanousd: int = 0, *, gpu_ms: int = 0, request: str = "r", session: str = "", limit_s: float = 30.0
) -> Want:
    return Want("paid", request, session, Amount(nanousd, gpu_ms), limit_s)


def reserve(spending: Spending, wanted: Want, **caps: int) -> int | Refusal:
    with spending.turn() as turn:
        return turn.reserve(wanted, NO_CAPS | caps)


def settle(spending: Spending, number: int | Refusal, nanousd: int = 0) -> None:
    assert isinstance(number, int)
    with spending.turn() as turn:
        turn.settle(number, Amount(nanousd))


def look(spending: Spending) -> None:
    """Read the clocks while they are right, as a Studium does when it starts."""
    with spending.turn():
        pass


@dataclass
class World:
    """Calls as they are really made and charged, beside the ledger that lets them."""

    spending: Spending
    clocks: Clocks
    cap: dict[str, int]
    charged: list[tuple[float, int]] = field(default_factory=list)
    open: list[tuple[int, float, Want]] = field(default_factory=list)

    def calls(self, nanousd: int, limit_s: float) -> None:
        wanted = want(nanousd, limit_s=limit_s)
        answer = reserve(self.spending, wanted, **self.cap)
        if isinstance(answer, int):
            self.open.append((answer, self.clocks.true_s, wanted))

    def ends(self, share: float, *, died: bool) -> None:
        """The oldest call ends: charged when it ended, or, its owner dead, when the server was done with it."""
        if not self.open:
            return
        number, began_s, wanted = self.open.pop(0)
        spent = wanted.most.nanousd if died else int(wanted.most.nanousd * share)
        latest_s = began_s + wanted.limit_s
        self.charged.append((latest_s if died else min(self.clocks.true_s, latest_s), spent))
        if not died:
            settle(self.spending, number, spent)

    def most_in(self, window_s: float) -> int:
        """The most that any window of that length holds; the worst begins with a charge."""
        return max(
            (
                sum(n for at, n in self.charged if start <= at <= start + window_s)
                for start, _ in self.charged
            ),
            default=0,
        )


calls = st.tuples(st.just("calls"), st.sampled_from([20, 50, 100]), st.sampled_from([5.0, 300.0]))
ends = st.tuples(st.just("ends"), st.sampled_from([0.0, 0.5, 1.0]), st.booleans())
passes = st.tuples(st.just("passes"), st.sampled_from([1.0, 59.0, 400.0, 3_590.0, 40_000.0]))
is_set = st.tuples(st.just("is_set"), st.sampled_from([-1e6, -3_600.0, 3_600.0, 1e6]))
reboots = st.tuples(st.just("reboots"), st.sampled_from([30.0, 3_000.0]))
happenings = st.lists(
    st.one_of(calls, calls, calls, ends, ends, passes, passes, is_set, reboots), min_size=25, max_size=50
)


ALMOST_AN_HOUR = [
    ("passes", 59.0),
    ("calls", 100, 5.0),
    ("ends", 1.0, False),
    ("passes", 3_590.0),
    ("calls", 100, 5.0),
    ("ends", 1.0, False),
]


@given(happenings)
@example(ALMOST_AN_HOUR)
@settings(max_examples=100, deadline=None)
def test_whatever_happens_no_hour_and_no_day_holds_more_than_its_cap(events):
    clocks = Clocks()
    with tempfile.TemporaryDirectory() as folder, ledger(Path(folder) / "state.db", clocks) as spending:
        world = World(spending, clocks, {"usd_per_hour": 100, "usd_per_day": 250})
        look(spending)
        for name, *values in events:
            if name == "calls":
                world.calls(*values)
            elif name == "ends":
                world.ends(values[0], died=values[1])
            else:
                getattr(clocks, name)(*values)
            if name == "reboots":  # the one moment at which the wall clock is believed
                look(spending)
        while world.open:
            world.ends(1.0, died=True)
        assert world.most_in(HOUR_S) <= 100
        assert world.most_in(DAY_S) <= 250


def test_a_cap_is_met_exactly_and_not_passed_by_one(tmp_path):
    with ledger(tmp_path / "state.db") as spending:
        assert isinstance(reserve(spending, want(60), usd_per_day=100), int)
        assert isinstance(reserve(spending, want(41), usd_per_day=100), Refusal)
        assert isinstance(reserve(spending, want(40), usd_per_day=100), int)


def test_settling_gives_back_what_was_not_spent(tmp_path):
    with ledger(tmp_path / "state.db") as spending:
        number = reserve(spending, want(100), usd_per_day=100)
        settle(spending, number, 30)
        assert isinstance(reserve(spending, want(71), usd_per_day=100), Refusal)
        assert isinstance(reserve(spending, want(70), usd_per_day=100), int)


def test_requests_and_sessions_are_counted_apart_and_without_end(tmp_path):
    clocks = Clocks()
    with ledger(tmp_path / "state.db", clocks) as spending:
        settle(
            spending, reserve(spending, want(60, session="s"), usd_per_session=100, usd_per_request=60), 60
        )
        assert isinstance(reserve(spending, want(1), usd_per_request=60), Refusal)
        assert isinstance(reserve(spending, want(60, request="other"), usd_per_request=60), int)
        clocks.passes(30 * DAY_S)
        assert isinstance(reserve(spending, want(41, session="s"), usd_per_session=100), Refusal)
        assert isinstance(reserve(spending, want(41, session="t"), usd_per_session=100), int)
        assert isinstance(reserve(spending, want(41), usd_per_session=100), int)  # in no session


def test_money_and_gpu_time_have_caps_of_their_own(tmp_path):
    with ledger(tmp_path / "state.db") as spending:
        reserve(spending, want(100), usd_per_day=100, gpu_s_per_day=5_000)
        assert isinstance(reserve(spending, want(gpu_ms=5_000), usd_per_day=100, gpu_s_per_day=5_000), int)
        refusal = reserve(spending, want(gpu_ms=1), usd_per_day=0, gpu_s_per_day=5_000)
        assert isinstance(refusal, Refusal) and [use.name for use in refusal.caps] == ["gpu_s_per_day"]


def test_a_refusal_says_what_is_spent_what_is_held_and_when_there_is_room(tmp_path):
    clocks = Clocks()
    with ledger(tmp_path / "state.db", clocks) as spending:
        settle(spending, reserve(spending, want(70)), 70)
        clocks.passes(600)
        reserve(spending, want(20))
        refusal = reserve(spending, want(30), usd_per_hour=100)
        assert isinstance(refusal, Refusal)
        (use,) = refusal.caps
        assert (use.name, use.spent, use.reserved, use.left) == (
            "usd_per_hour",
            7e-8,
            2e-8,
            pytest.approx(1e-8),
        )
        assert use.free_in_s is not None and 3_000 <= use.free_in_s <= 3_060
        clocks.passes(use.free_in_s)
        assert isinstance(reserve(spending, want(30), usd_per_hour=100), int)


def test_what_nobody_settles_counts_as_spent_in_full_and_leaves_with_its_window(tmp_path):
    clocks = Clocks()
    with ledger(tmp_path / "state.db", clocks) as spending:
        reserve(spending, want(100, limit_s=30), usd_per_hour=100)
        clocks.passes(30 + SLACK_S + 1)
        assert isinstance(reserve(spending, want(1), usd_per_hour=100), Refusal)
        with spending.turn() as turn:
            assert turn.assumed() == Amount(100)
        clocks.passes(HOUR_S + 60)
        assert isinstance(reserve(spending, want(100), usd_per_hour=100), int)


def test_an_owner_that_was_late_and_not_dead_settles_after_all(tmp_path):
    clocks = Clocks()
    with ledger(tmp_path / "state.db", clocks) as spending:
        number = reserve(spending, want(100, session="s", limit_s=30), usd_per_hour=100)
        clocks.passes(30 + SLACK_S + 1)
        with spending.turn() as turn:
            assert turn.assumed() == Amount(100)
        settle(spending, number, 10)
        with spending.turn() as turn:
            assert turn.assumed() == Amount(0)
            assert turn.sessions() == [("s", Amount(10))]
        assert isinstance(reserve(spending, want(90), usd_per_hour=100), int)


def test_a_restart_forgets_nothing(tmp_path):
    clocks = Clocks()
    with ledger(tmp_path / "state.db", clocks) as spending:
        settle(spending, reserve(spending, want(50)), 50)
        reserve(spending, want(30))
    with ledger(tmp_path / "state.db", clocks) as spending:
        assert isinstance(reserve(spending, want(21), usd_per_day=100), Refusal)
        assert isinstance(reserve(spending, want(20), usd_per_day=100), int)


def test_threads_on_several_connections_meet_the_cap_exactly(tmp_path):
    def spend() -> None:
        with ledger(tmp_path / "state.db") as spending:
            answers = [reserve(spending, want(1), usd_per_day=50) for _ in range(20)]
            granted.extend(answer for answer in answers if isinstance(answer, int))

    open_database(tmp_path / "state.db").dispose()
    granted: list[int] = []
    threads = [threading.Thread(target=spend) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(granted) == len(set(granted)) == 50


SPENDER = """
import os, sys
from pathlib import Path
from studium.records.spending import CAPS, Amount, Want
from studium.store.database import open_database
from studium.store.spending import Spending

spending = Spending(open_database(Path(sys.argv[1])))
caps = dict.fromkeys(CAPS) | {"usd_per_day": 1_000}
charges = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
print("ready", flush=True)
while True:
    with spending.turn() as turn:
        number = turn.reserve(Want("paid", "r", "", Amount(7), 30.0), caps)
    if not isinstance(number, int):
        print("full", flush=True)
        sys.exit()
    os.write(charges, b"x" * 7)  # the call: charged whatever becomes of us
    with spending.turn(durable=False) as turn:
        turn.settle(number, Amount(7))
"""


def test_processes_killed_in_mid_call_leave_no_room_for_what_they_may_have_spent(tmp_path):
    store, charges = tmp_path / "state.db", tmp_path / "charges"
    open_database(store).dispose()
    command = [sys.executable, "-c", SPENDER, str(store), str(charges)]
    for round_number in range(3):
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        before = charges.stat().st_size if charges.exists() else 0
        while (charges.stat().st_size if charges.exists() else 0) < min(before + 7 * (5 + round_number), 990):
            if all(process.poll() is not None for process in processes):
                break  # on a busy machine they may fill the cap before we look
        assert all(process.poll() in (None, 0) for process in processes)
        for process in processes:
            process.kill()
            process.communicate()
    with ledger(store) as spending, spending.turn() as turn:
        day = next(use for use in turn.usage(NO_CAPS) if use.name == "usd_per_day")
        counted = round((day.spent + day.reserved) * 1e9)
    assert charges.stat().st_size <= counted <= 1_000
    end = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True)
    assert end.stdout.split() == [b"ready", b"full"]
    assert 1_000 - 7 * 7 < charges.stat().st_size <= 1_000


def test_where_the_disk_refuses_nothing_is_promised(tmp_path):
    with ledger(tmp_path / "state.db") as spending:
        reserve(spending, want(1))
        with spending._database.connect() as connection:
            connection.exec_driver_sql("DROP TABLE reservations")
            connection.commit()
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            reserve(spending, want(1))


def test_settings_and_who_changed_them_are_kept(tmp_path):
    with ledger(tmp_path / "state.db") as spending, spending.turn() as turn:
        turn.change("usd_per_day", "2.0", by="ada", at=1.0)
        turn.change("usd_per_day", "3.0", by="ben", at=2.0)
        turn.change("usd_per_day", None, by="ada", at=3.0)
        turn.change("refinement", "false", by="ada", at=4.0)
    with ledger(tmp_path / "state.db") as spending:
        assert spending.overrides() == {"refinement": "false"}
        told = [(one.by, one.name, one.old, one.new) for one in spending.changes()]
    assert told == [
        ("ada", "refinement", None, "false"),
        ("ada", "usd_per_day", "3.0", None),
        ("ben", "usd_per_day", "2.0", "3.0"),
        ("ada", "usd_per_day", None, "2.0"),
    ]


def test_old_minutes_and_requests_are_forgotten_and_sessions_are_not(tmp_path):
    clocks = Clocks()
    with ledger(tmp_path / "state.db", clocks) as spending:
        settle(spending, reserve(spending, want(5, session="s")), 5)
        clocks.passes(2 * DAY_S)
        settle(spending, reserve(spending, want(5, request="new", session="s")), 5)
        with spending._database.connect() as connection:
            minutes = connection.exec_driver_sql("SELECT COUNT(*) FROM spending_minutes").scalar()
            totals = connection.exec_driver_sql("SELECT scope, name, nanousd FROM spending_totals").all()
    assert minutes == 1
    assert sorted(map(tuple, totals)) == [("request", "new", 5), ("session", "s", 10)]
