"""Sessions of scripted students: cycles, folders, memory, stopping and resuming."""

import json
import sqlite3

from tests.serve.sessions.house import house, says

from studium.records.sessions import SessionState


async def test_a_session_leaves_exactly_the_promised_files(tmp_path):
    async with house(tmp_path, {"alpha": says(), "beta": says("nothing")}) as h:
        summary = await h.run(h.plan("rh_main", max_cycles=2))
    assert (summary.state, summary.cycles, summary.runs, summary.useful) == (SessionState.FINISHED, 2, 4, 2)
    root = tmp_path / "sessions" / "rh_main"
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    runs = {f"scheduler_history/cycle_{n}_{s}.json" for n in (1, 2) for s in ("alpha", "beta")}
    proposals = {f"wd_proposals/{s}/cycle_00{n}.md" for n in (1, 2) for s in ("alpha", "beta")}
    reports = {"cycle_reports/cycle_001.json", "cycle_reports/cycle_002.json"}
    database = {"scheduler_history/student_profiles.db"}
    assert files - {name for name in files if "student_profiles.db-" in name} == (
        runs | proposals | reports | database | {"owner.lock"}
    )
    run = json.loads((root / "scheduler_history/cycle_2_beta.json").read_text())
    assert {"student", "vram_used_mb", "time_seconds", "tokens_generated", "cycle", "timestamp"} <= set(run)
    assert (run["student"], run["cycle"], run["tokens_generated"]) == ("beta", 2, 1)


async def test_the_promised_query_works_in_any_sqlite_client(tmp_path):
    async with house(tmp_path, {"alpha": says(mib=40)}) as h:
        await h.run()
    with sqlite3.connect(h.folder().database) as client:
        rows = client.execute(
            "SELECT student, avg(time_seconds), avg(vram_mb) FROM student_runs GROUP BY student"
        ).fetchall()
        hardware = client.execute("SELECT ram_total, cpu_percent FROM hardware_snapshots").fetchall()
    assert [(row[0], row[2]) for row in rows] == [("alpha", 40 * 2**20 / 1e6)]
    assert rows[0][1] > 0
    assert hardware == [(64 * 2**30 / 1e6, 10.0)]
