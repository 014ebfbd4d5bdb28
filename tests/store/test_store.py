"""The store through its one door, and the promise to other SQLite clients."""

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from studium.errors import StoreUnavailable
from studium.records.hardware import Gpu, HardwareSnapshot
from studium.records.models import MemoryEstimate
from studium.records.profiles import ModelProfile, Quantity, Spread
from studium.records.runs import RequestRecord, StudentRun
from studium.store import open_store, schema
from studium.store.database import open_database

RUN = StudentRun(
    "alpha", "alpha|x", started_at=1_700_000_000.0, seconds=2.0, success=True, memory_bytes=50_000_000
)


def request(number: int) -> RequestRecord:
    return RequestRecord(f"r{number}", 1.0, "/v1/chat/completions", "auto", 200, 0.1)


def test_a_user_who_knows_only_the_promised_tables_can_query_them(tmp_path: Path):
    store = open_store(tmp_path / "state.db")
    store.record_run(RUN)
    store.record_snapshot(
        HardwareSnapshot(1.7e9, 8_000_000, 4_000_000, 3_000_000, 12.5, (Gpu("g", 9, 4, 5),))
    )
    assert store.close()
    with sqlite3.connect(tmp_path / "state.db") as client:
        rows = client.execute(
            "SELECT student, AVG(time_seconds), AVG(vram_mb) FROM student_runs GROUP BY student"
        ).fetchall()
        hardware = client.execute(
            "SELECT vram_used, vram_total, ram_used, cpu_percent FROM hardware_snapshots"
        )
        assert rows == [("alpha", 2.0, 50.0)]
        assert hardware.fetchall() == [(4e-6, 9e-6, 3.0, 12.5)]


def test_rows_from_many_threads_all_arrive(tmp_path: Path):
    store = open_store(tmp_path / "state.db")
    threads = [
        threading.Thread(target=lambda base=base: [store.log_request(request(base + i)) for i in range(500)])
        for base in (0, 500, 1000, 1500)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.flush()
    names = {row["request_id"] for row in store.read(select(schema.requests.c.request_id))}
    assert names == {f"r{i}" for i in range(2000)}
    store.close()


def test_a_profile_is_replaced_and_survives_a_restart(tmp_path: Path):
    store = open_store(tmp_path / "state.db")
    store.save_profile(ModelProfile("m", runs=1))
    profile = ModelProfile(
        "m",
        name="alpha",
        engine="llamacpp",
        device="gpu",
        runs=2,
        failures=1,
        loads=1,
        peak_bytes=7,
        estimate=MemoryEstimate(4, 2, 1, "Q8_0"),
        spreads={Quantity.LOAD_SECONDS: Spread(2, 1.95, -0.7, 0.02, -1)},
        recent_failures=0.95,
        recent_successes=1.0,
    )
    store.save_profile(profile)
    store.close()
    again = open_store(tmp_path / "state.db")
    assert again.profiles() == {"m": profile}
    again.close()


def test_what_a_profile_counts_never_goes_back_to_what_another_process_knew(tmp_path: Path):
    store = open_store(tmp_path / "state.db")
    store.save_profile(ModelProfile("m", runs=150, loads=9, failures=2))
    assert store.flush()
    store.save_profile(ModelProfile("m", runs=110, loads=10, failures=1))
    assert store.flush()
    found = store.profiles()["m"]
    assert (found.runs, found.loads, found.failures) == (150, 10, 2)
    store.close()


def test_profiles_of_the_first_schema_keep_their_counts_and_peaks(tmp_path: Path):
    with sqlite3.connect(tmp_path / "state.db") as old:
        old.execute("CREATE TABLE schema_version (version INTEGER PRIMARY KEY)")
        old.execute("INSERT INTO schema_version VALUES (1)")
        old.execute(
            "CREATE TABLE model_profiles (model TEXT PRIMARY KEY, runs INTEGER NOT NULL, failures INTEGER NOT NULL,"
            " loads INTEGER NOT NULL, peak_bytes INTEGER, load_seconds FLOAT, unload_seconds FLOAT,"
            " tokens_per_second FLOAT, tokens_per_answer FLOAT)"
        )
        old.execute("INSERT INTO model_profiles VALUES ('m', 5, 1, 2, 77, 0.5, 0.1, 20.0, 9.0)")
    store = open_store(tmp_path / "state.db")
    assert store.profiles() == {"m": ModelProfile("m", runs=5, failures=1, loads=2, peak_bytes=77)}
    store.save_profile(ModelProfile("m", runs=6, failures=1, loads=2, peak_bytes=78))
    assert store.flush()
    assert store.profiles()["m"].peak_bytes == 78
    store.close()


def test_statistics_that_cannot_be_read_are_learned_anew(tmp_path: Path):
    store = open_store(tmp_path / "state.db")
    store.save_profile(ModelProfile("m", runs=2, spreads={Quantity.LOAD_SECONDS: Spread(2, 1.9, 0.1, 0.2)}))
    assert store.flush()
    with sqlite3.connect(tmp_path / "state.db") as other:
        other.execute('UPDATE model_profiles SET statistics = \'{"spreads": {"moon": [1]}}\'')
    assert store.profiles() == {"m": ModelProfile("m", runs=2)}
    store.close()


def test_a_full_disk_keeps_rows_says_so_and_writes_them_when_there_is_room(tmp_path: Path):
    store = open_store(tmp_path / "state.db")
    database = store._database  # the limit must be set on the writer's own connection
    with database.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    for number in range(3000):
        store.log_request(request(number))
    assert not store.flush(timeout_s=1.0)
    assert "full" in store.trouble
    with database.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    assert store.flush(timeout_s=10.0)
    assert store.trouble == ""
    assert len(store.read(select(schema.requests.c.id))) == 3000
    store.close()


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="--workspace"):
        open_store(tmp_path / "file" / "state.db")


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path):
    (tmp_path / "state.db").write_bytes(b"this is not SQLite" * 100)
    with pytest.raises(StoreUnavailable, match=r"state\.db cannot be opened"):
        open_store(tmp_path / "state.db")


def test_a_store_of_a_newer_studium_is_refused(tmp_path: Path):
    database = open_database(tmp_path / "state.db")
    with database.begin() as connection:
        connection.execute(insert(schema.schema_version).values(version=99))
    database.dispose()
    with pytest.raises(StoreUnavailable, match="schema version 99"):
        open_store(tmp_path / "state.db")
