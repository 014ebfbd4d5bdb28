"""Kept answers on disk: expiry, sizes, damage, the switch."""

import pytest
from sqlalchemy import text, update

from studium.config.schema import CacheConfig
from studium.errors import StoreUnavailable
from studium.store import schema
from studium.store.cache import AnswerShelf, Entry
from studium.store.database import open_database


@pytest.fixture
def database(tmp_path):
    database = open_database(tmp_path / "state.db")
    yield database
    database.dispose()


def shelf(database, **limits) -> AnswerShelf:
    return AnswerShelf(database, CacheConfig(**({"expiry_s": 100.0} | limits)))


def entry(
    key: str, at: float = 0.0, body: bytes = b"x", owner: str = "", vector: bytes | None = None
) -> Entry:
    return Entry(key, "scope", "guard", owner, f"request-{key}", at, body, vector)


def keys(database) -> set[str]:
    with database.connect() as connection:
        return set(connection.scalars(text("SELECT key FROM cached_answers")))


def test_what_is_put_is_found_until_it_expires(database):
    kept = shelf(database)
    assert kept.put(entry("a", at=10.0), 10.0)
    assert kept.look("a", 109.0) == entry("a", at=10.0)
    assert kept.look("b", 10.0) is None
    assert kept.look("a", 110.0) is None
    assert keys(database) == set()


def test_an_answer_from_the_future_is_not_trusted(database):
    kept = shelf(database)
    kept.put(entry("a", at=50.0), 50.0)
    assert kept.look("a", 40.0) is None


def test_the_least_recently_used_go_first_by_number(database):
    kept = shelf(database, max_entries=2)
    kept.put(entry("a"), 1.0)
    kept.put(entry("b"), 2.0)
    kept.used("a", 3.0)
    kept.put(entry("c"), 4.0)
    assert keys(database) == {"a", "c"}


def test_the_least_recently_used_go_first_by_bytes(database):
    kept = shelf(database, max_size_bytes=4_000)
    for at, key in enumerate("abcdefghijkl"):
        kept.put(entry(key, body=b"x" * 400), float(at))
    assert kept.figures(11.0)["bytes"] <= 4_000
    assert keys(database) == set("defghijkl")


def test_one_answer_may_not_push_all_others_out(database):
    kept = shelf(database, max_size_bytes=4_000)
    assert not kept.put(entry("a", body=b"x" * 3_000), 0.0)
    assert keys(database) == set()


def test_a_damaged_body_is_a_miss_and_is_removed(database):
    kept = shelf(database)
    kept.put(entry("a"), 0.0)
    with database.begin() as connection:
        connection.execute(update(schema.cached_answers).values(body=b"y"))
    assert kept.look("a", 1.0) is None
    assert keys(database) == set()


def test_neighbours_share_scope_and_guard_and_have_a_vector(database):
    kept = shelf(database)
    kept.put(entry("a", at=1.0, vector=b"1234"), 1.0)
    kept.put(entry("b", at=2.0, vector=b"5678"), 2.0)
    kept.put(entry("c", at=3.0), 3.0)
    assert kept.near("scope", "guard", 5.0, 10) == [("b", b"5678"), ("a", b"1234")]
    assert kept.near("scope", "guard", 5.0, 1) == [("b", b"5678")]
    assert not kept.near("scope", "another", 5.0, 10)


def test_each_key_clears_its_own_and_a_rated_answer_is_forgotten(database):
    kept = shelf(database)
    for key, owner in (("a", "key-1"), ("b", "key-2"), ("c", "key-2")):
        kept.put(entry(key, owner=owner), 0.0)
    assert kept.clear("key-1") == 1
    assert kept.forget("request-b") == 1
    assert keys(database) == {"c"}
    assert kept.figures(1.0, "key-1")["entries"] == 0
    assert kept.clear() == 1


def test_the_switch_is_seen_by_everybody_who_looks(database):
    one, other = shelf(database), shelf(database)
    assert one.switched() is None
    one.switch(False, by="me", at=1.0)
    assert other.switched() is False
    other.switch(True, by="me", at=2.0)
    assert one.switched() is True


def test_a_disk_that_refuses_is_a_miss_but_clearing_says_so(database):
    kept = shelf(database)
    with database.begin() as connection:
        connection.execute(text("DROP TABLE cached_answers"))
        connection.execute(text("DROP TABLE cache_switch"))
    assert kept.look("a", 0.0) is None
    assert not kept.put(entry("a"), 0.0)
    assert kept.near("scope", "guard", 0.0, 1) == ()
    assert kept.switched() is None
    with pytest.raises(StoreUnavailable):
        kept.clear()
