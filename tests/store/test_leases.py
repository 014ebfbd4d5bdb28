"""Leases: one owner at a time, tokens that only grow, and a stale one that never writes."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from tests.store.clocks import Clocks

from studium.errors import LeaseLost, StoreUnavailable
from studium.store.database import open_database
from studium.store.durable import durably
from studium.store.leases import Leases


@pytest.fixture
def database(tmp_path):
    opened = open_database(tmp_path / "state.db")
    yield opened
    opened.dispose()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    opened = open_database(tmp_path_factory.mktemp("leases") / "state.db")
    yield opened
    opened.dispose()


def holds(database, leases, token):
    """Say whether a write under the token is let through."""
    try:
        with durably(database, "it") as connection:
            leases.require(connection, "routes", token)
    except LeaseLost:
        return False
    return True


def test_a_lease_that_is_held_is_not_given_to_another_until_it_is_released(database):
    leases = Leases(database, Clocks())
    first = leases.take("routes", "one", 5)
    assert first == 1 and leases.holder("routes") == "one"
    assert leases.take("routes", "two", 5) is None
    assert leases.take("others", "two", 5) == 1
    assert leases.release("routes", first) and leases.holder("routes") == ""
    assert leases.take("routes", "two", 5) == 2


def test_an_owner_that_slept_is_refused_once_its_time_is_over_and_ever_after(database):
    clocks = Clocks()
    leases = Leases(database, clocks)
    stale = leases.take("routes", "sleeper", 5)
    clocks.passes(6)
    assert not holds(database, leases, stale)
    taken = leases.take("routes", "heir", 5)
    assert taken > stale and holds(database, leases, taken)
    assert not holds(database, leases, stale)
    assert not leases.renew("routes", stale, 5) and not leases.release("routes", stale)
    assert holds(database, leases, taken)


def test_renewing_keeps_a_lease_and_setting_the_clock_does_not_end_it(database):
    clocks = Clocks()
    leases = Leases(database, clocks)
    token = leases.take("routes", "one", 5)
    for _ in range(5):
        clocks.passes(4)
        clocks.is_set(10_000)
        assert leases.renew("routes", token, 5)
    assert leases.take("routes", "two", 5) is None and holds(database, leases, token)


def test_after_a_reboot_a_lease_is_free_whatever_it_said(database):
    clocks = Clocks()
    leases = Leases(database, clocks)
    token = leases.take("routes", "one", 1e9)
    clocks.reboots(1)
    assert not holds(database, leases, token)
    assert leases.take("routes", "two", 5) == token + 1


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("take", "renew", "release", "write", "pass", "reboot")), st.integers(0, 2)
        ),
        max_size=20,
    )
)
def test_whatever_happens_only_the_newest_token_writes_and_tokens_only_grow(shared, events):
    database = shared
    with database.begin() as connection:
        connection.execute(text("DELETE FROM leases"))
    clocks = Clocks()
    leases = Leases(database, clocks)
    tokens, newest = {}, 0
    for event, who in events:
        token = tokens.get(who, 0)
        match event:
            case "take":
                if (taken := leases.take("routes", str(who), 5)) is not None:
                    assert taken > newest
                    tokens[who] = newest = taken
            case "renew":
                assert not leases.renew("routes", token, 5) or token == newest
            case "release":
                assert not leases.release("routes", token) or token == newest
            case "write":
                assert not holds(database, leases, token) or token == newest
            case "pass":
                clocks.passes(3)
            case _:
                clocks.reboots(1)


def test_of_many_who_take_at_once_one_gets_it(database):
    leases = Leases(database)
    gate, found = threading.Barrier(8), []

    def take(name):
        gate.wait()
        found.append(leases.take("routes", name, 60))

    threads = [threading.Thread(target=take, args=(str(number),)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert sorted(found, key=str) == [1, *[None] * 7]


def test_a_durable_transaction_is_rolled_back_by_an_error_and_leaves_the_connection_as_it_was(database):
    with pytest.raises(ZeroDivisionError):
        with durably(database, "it") as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
            connection.execute(text("INSERT INTO cache_switch (id, enabled, at, by) VALUES (1, 1, 0, '')"))
            raise ZeroDivisionError
    with database.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        assert connection.execute(text("SELECT count(*) FROM cache_switch")).scalar() == 0


def test_what_cannot_be_written_is_said_in_three_parts(database):
    with pytest.raises(StoreUnavailable) as refused:
        with durably(database, "the thing") as connection:
            connection.execute(text("INSERT INTO no_such_table VALUES (1)"))
    assert "the thing cannot be written" in str(refused.value) and refused.value.try_next
