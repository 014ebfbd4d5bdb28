"""The book of adapters: a route and its history change together, under a token that holds, and are only added to."""

from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError, DBAPIError

from studium.errors import LeaseLost
from studium.records.adapters import (
    ROUTES_LEASE,
    Action,
    Adapter,
    AdapterKind,
    Evidence,
    Phase,
    Route,
    Verdict,
    content_sha256,
)
from studium.store import open_store
from studium.store.database import open_database, sqlite_module

ADAPTER = Adapter(
    id="ab" * 32,
    role="sprout",
    name="first",
    kind=AdapterKind.ADAPTER,
    base="sprout",
    base_sha256="cd" * 32,
    folder="adapters/sprout/first",
    serving_file="adapter.gguf",
    files={"adapter.gguf": "ef" * 32},
    lineage={"run": "r", "scores": {"chains": 0.5}, "seconds": 1e-05},
    registered_at=12.5,
)


@pytest.fixture
def store(tmp_path):
    opened = open_store(tmp_path / "state.db")
    yield opened
    opened.close()


def changed(store, after, action=Action.PROMOTE, **told):
    token = store.leases.take(ROUTES_LEASE, "test", 60)
    try:
        with store.adapters.turn(token) as turn:
            told = {"adapter": after.champion, "actor": "me", "at": 1.5, "token": token, **told}
            return turn.write(turn.drafted(after, action, **told))
    finally:
        store.leases.release(ROUTES_LEASE, token)


def test_what_was_registered_comes_back_as_it_was(store):
    token = store.leases.take(ROUTES_LEASE, "test", 60)
    with store.adapters.turn(token) as turn:
        turn.add_adapter(ADAPTER)
    with store.adapters.look() as look:
        assert look.adapters() == look.adapters("sprout") == [ADAPTER]
        assert look.adapters("other") == []


def test_a_change_moves_the_route_and_adds_a_row_chained_to_the_one_before(store):
    first = changed(store, Route("sprout", "a" * 64))
    second = changed(store, Route("other", "", "b" * 64, Phase.SHIFT, 0.25), Action.SHIFT, reason="why")
    third = changed(store, Route("sprout"), Action.ROLL_BACK, adapter="a" * 64)
    with store.adapters.look() as look:
        assert look.changes() == [first, second, third] and look.changes("other") == [second]
        assert look.route("sprout") == Route("sprout", number=3)
        assert look.routes()["other"] == Route("other", "", "b" * 64, Phase.SHIFT, 0.25, 2)
        assert look.route("never changed") == Route("never changed")
    assert first.previous_sha256 == "" and third.before["champion"] == "a" * 64
    assert (second.previous_sha256, third.previous_sha256) == (first.sha256, second.sha256)
    for row in store.adapters.raw("route_changes"):
        assert (
            content_sha256({name: value for name, value in row.items() if name != "sha256"}) == row["sha256"]
        )


def test_a_stale_token_changes_nothing(store):
    stale = store.leases.take(ROUTES_LEASE, "sleeper", 60)
    store.leases.release(ROUTES_LEASE, stale)
    changed(store, Route("sprout", "a" * 64))
    with pytest.raises(LeaseLost, match=f"not held with the token {stale}; the newest is {stale + 1}"):
        with store.adapters.turn(stale):
            raise AssertionError("a stale token was let in")


def test_an_error_within_a_turn_leaves_route_and_history_as_they_were(store):
    changed(store, Route("sprout", "a" * 64))
    token = store.leases.take(ROUTES_LEASE, "test", 60)
    with pytest.raises(ZeroDivisionError):
        with store.adapters.turn(token) as turn:
            turn.add_adapter(ADAPTER)
            after = replace(turn.route("sprout"), champion="b" * 64)
            turn.write(
                turn.drafted(
                    after, Action.FORCE, adapter="b" * 64, actor="me", at=2.0, token=token, reason="x"
                )
            )
            raise ZeroDivisionError
    with store.adapters.look() as look:
        assert look.route("sprout") == Route("sprout", "a" * 64, number=1)
        assert len(look.changes()) == 1 and look.adapters() == []


def test_evidence_is_kept_once_and_found_by_the_beginning_of_its_id(store):
    body = {"pairs": [[0, 1], [1, 1]], "rate": 1e-05}
    evidence = Evidence(content_sha256(body), 3.0, "sprout", "", "a" * 64, Verdict.HOLD, body)
    store.adapters.add_evidence(evidence)
    store.adapters.add_evidence(evidence)
    with store.adapters.look() as look:
        assert look.evidence(evidence.id) == evidence
        assert look.evidence_like(evidence.id[:8]) == [evidence]
        assert look.evidence_like(evidence.id[:7]) == [] == look.evidence_like("%" * 8)
        assert look.evidence("nothing") is None


@pytest.mark.parametrize("statement", ["UPDATE route_changes SET reason = 'x'", "DELETE FROM route_changes"])
def test_history_is_only_added_to(store, tmp_path, statement):
    changed(store, Route("sprout", "a" * 64))
    database = open_database(tmp_path / "state.db")
    with pytest.raises((DatabaseError, DBAPIError), match="only ever added to"):
        with database.begin() as connection:
            connection.execute(text(statement))
    database.dispose()


def test_a_store_from_before_gains_the_tables(tmp_path):
    """The tables came with one migration; a store of the version before it is brought up to it."""
    open_database(tmp_path / "state.db").dispose()
    before = 7  # the registry came with the eighth
    connection = sqlite_module().connect(str(tmp_path / "state.db"))
    for table in ("adapters", "routes", "route_changes", "gate_evidence", "leases"):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("DELETE FROM schema_version WHERE version > ?", (before,))
    connection.commit()
    connection.close()
    store = open_store(tmp_path / "state.db")
    changed(store, Route("sprout", "a" * 64))
    with store.adapters.look() as look:
        assert look.route("sprout").champion == "a" * 64
    store.close()
