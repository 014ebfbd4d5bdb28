"""Sessions of scripted students: cycles, folders, memory, failures, stopping and resuming."""

import asyncio
import json
import sqlite3
import time
from dataclasses import replace

import pytest
from sqlalchemy import event
from tests.serve.sessions.house import House, house, roomy, says, student

from studium.engines.scripted import Fault, FaultKind, ModelScript
from studium.errors import (
    BadRequest,
    ConfigurationError,
    DoesNotFit,
    EngineFailure,
    OperatorError,
    StoreUnavailable,
    UnknownModel,
)
from studium.records.sessions import SessionRun, SessionState
from studium.serve.sessions.folder import SessionFolder
from studium.serve.sessions.ledger import open_ledger, read_ledger
from studium.serve.sessions.ownership import owned, owner_of
from studium.serve.sessions.refusals import why_slow

MIB = 2**20


def recorded(h: House, name: str = "s1") -> list[SessionRun]:
    ledger = read_ledger(h.folder(name).database)
    try:
        return ledger.runs()
    finally:
        ledger.close()


def skips(h: House, cycle: int, name: str = "s1") -> dict[str, str]:
    report = json.loads(h.folder(name).cycle_report(cycle).read_text())
    return {skip["student"]: skip["reason"] for skip in report["skipped"]}


async def until(condition) -> None:
    for _ in range(12_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen within a minute")


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
    assert list(run)[:7] == [
        "student",
        "vram_used_mb",
        "time_seconds",
        "tokens_generated",
        "tokens_per_second",
        "cycle",
        "timestamp",
    ]
    assert (run["student"], run["cycle"], run["tokens_generated"]) == ("beta", 2, 1)
    proposal = (root / "wd_proposals/alpha/cycle_001.md").read_text()
    assert proposal.endswith("\na good one\n") and 'reason: "it is good"' in proposal


async def test_the_promised_query_works_in_any_sqlite_client(tmp_path):
    async with house(tmp_path, {"alpha": says(mib=40)}) as h:
        await h.run()
    with sqlite3.connect(h.folder().database) as client:
        rows = client.execute(
            "SELECT student, avg(time_seconds), avg(vram_mb) FROM student_runs GROUP BY student"
        ).fetchall()
        hardware = client.execute("SELECT ram_total, cpu_percent FROM hardware_snapshots").fetchall()
    assert [(row[0], row[2]) for row in rows] == [("alpha", 40 * MIB / 1e6)]
    assert rows[0][1] > 0
    assert hardware == [(64 * 2**30 / 1e6, 10.0)]


async def test_as_many_run_at_once_as_memory_allows_and_never_more(tmp_path):
    slow = {name: says(mib=40, first_token_s=0.05) for name in "abcd"}
    async with house(tmp_path, slow, budget_mib=90) as h:
        most = 0

        def count(_line: str) -> None:
            nonlocal most
            most = max(most, len(h.fleet.residency.resident()))

        h.told = type("Told", (list,), {"append": lambda self, line: count(line)})()
        await h.run()
        assert most == 2
        assert max(event.occupied_bytes for event in h.engine.events) == 80 * MIB
    assert {run.run.student for run in recorded(h)} == set("abcd")


async def test_one_at_a_time_where_memory_allows_one(tmp_path):
    async with house(tmp_path, {name: says(mib=60) for name in "abc"}, budget_mib=100) as h:
        await h.run()
        assert max(event.occupied_bytes for event in h.engine.events) == 60 * MIB
    assert len(recorded(h)) == 3


async def test_a_run_records_what_a_replay_needs(tmp_path):
    async with house(tmp_path, {"a": says(load_s=0.03, first_token_s=0.02)}) as h:
        await h.run()
    run = recorded(h)[0]
    assert run.priority == "session"
    assert run.run.load_seconds >= 0.03 and run.run_seconds >= 0.02 and run.queue_seconds >= 0
    assert run.run.memory_bytes == 40 * MIB
    assert run.run.model.startswith("a|scripted|")


async def test_the_same_claim_counts_once_though_made_at_the_same_time(tmp_path):
    async with house(tmp_path, {name: says(mib=10) for name in "abcd"}) as h:
        h.topic.same = True
        summary = await h.run(h.plan(max_cycles=2))
    assert (summary.runs, summary.useful) == (8, 1)


async def test_from_the_third_cycle_the_useless_wait_and_the_reason_is_recorded(tmp_path):
    async with house(
        tmp_path,
        {"good": says(mib=60), "idle": says("nothing", mib=60, first_token_s=0.3)},
    ) as h:
        await h.run(h.plan(max_cycles=3))
    assert [r.run.cycle for r in recorded(h) if r.run.student == "idle"] == [1, 2]
    assert skips(h, 3)["idle"].startswith("gives too little")


async def test_a_failing_student_is_recorded_and_harms_nobody(tmp_path):
    crash = ModelScript(
        default=("half a proposal",),
        resident_bytes=MIB,
        fault=Fault(FaultKind.GARBAGE, after_tokens=2),
    )
    async with house(tmp_path, {"a": says(), "bad": crash}) as h:
        summary = await h.run()
    assert (summary.runs, summary.failed, summary.useful) == (2, 1, 1)
    bad = next(run for run in recorded(h) if run.run.student == "bad")
    assert not bad.run.success and bad.reply == "half a" and "no answer" in bad.error
    assert not h.folder().proposal_file("wd", 1, "bad").exists()
    with sqlite3.connect(h.folder().database) as client:
        assert client.execute("SELECT success FROM student_runs WHERE student='bad'").fetchall() == [(0,)]


async def test_a_process_that_died_while_it_idled_is_loaded_anew_once(tmp_path):
    dying = says(fault=Fault(FaultKind.CRASH, after_tokens=0, times=1))
    async with house(tmp_path, {"a": dying}) as h:
        summary = await h.run()
    assert (summary.failed, summary.useful) == (0, 1)


async def test_a_hanging_student_is_cut_off_and_the_others_go_on(tmp_path):
    hang = says(mib=60, fault=Fault(FaultKind.HANG))
    async with house(tmp_path, {"hangs": hang, "good": says(mib=60)}, budget_mib=100) as h:
        summary = await h.run(h.plan(duration_s=20.0), shortest_ask_s=0.1, longest_ask_s=1.0)
    assert (summary.runs, summary.failed, summary.useful) == (2, 1, 1)
    hung = next(run for run in recorded(h) if run.run.student == "hangs")
    assert hung.run.error_code == "timeout"


async def test_when_the_time_is_up_a_run_at_work_is_withdrawn_and_the_reason_recorded(tmp_path):
    async with house(tmp_path, {"quick": says(), "slow": says(first_token_s=30.0)}) as h:
        summary = await h.run(h.plan(duration_s=1.5, max_cycles=None))
    assert summary.state is SessionState.FINISHED and summary.reason == "the time is up"
    assert [run.run.student for run in recorded(h)] == ["quick"]
    assert skips(h, 1) == {"slow": "the time was up while it worked"}
    assert summary.active_seconds >= 1.5


async def test_a_token_budget_is_never_passed_and_ends_the_session(tmp_path):
    wordy = says("good " + "word " * 100)
    async with house(tmp_path, {"a": wordy, "b": wordy}) as h:
        summary = await h.run(h.plan(max_cycles=50, token_budget=600))
    assert summary.tokens <= 600
    assert summary.reason == "the token budget is used up"
    assert any(run.finish == "length" for run in recorded(h)), "limits shrank"


async def test_a_session_that_is_stopped_goes_on_with_the_same_cycle_and_nothing_twice(tmp_path):
    models = {name: says(mib=60, first_token_s=0.05) for name in "abc"}
    async with house(tmp_path, models, budget_mib=100) as h:
        running = asyncio.create_task(h.run(h.plan(max_cycles=2)))
        await until(lambda: sum("useful" in line for line in h.told) >= 1)
        assert h.session is not None
        h.session.stop()
        stopped = await running
        assert stopped.state is SessionState.STOPPED
        assert 1 <= stopped.runs < 3
        ended = await h.resume()
    assert ended.state is SessionState.FINISHED
    done = [(run.run.cycle, run.run.student) for run in recorded(h)]
    assert sorted(done) == [(cycle, name) for cycle in (1, 2) for name in "abc"]


async def test_stopping_lets_the_run_at_work_end(tmp_path):
    async with house(tmp_path, {"a": says(first_token_s=0.3)}) as h:
        running = asyncio.create_task(h.run(h.plan(max_cycles=9)))
        await until(lambda: any(event.what == "ask" for event in h.engine.events))
        h.session.stop()  # type: ignore[union-attr]
        summary = await running
    assert (summary.runs, summary.useful) == (1, 1)


async def test_cancelling_withdraws_the_run_at_work_and_the_session_can_be_resumed(tmp_path):
    async with house(tmp_path, {"a": says(first_token_s=0.5)}) as h:
        running = asyncio.create_task(h.run())
        await until(lambda: any(event.what == "ask" for event in h.engine.events))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert recorded(h) == []
        assert (await h.resume()).runs == 1


async def test_only_time_that_ran_counts(tmp_path):
    async with house(tmp_path, {"a": says()}) as h:
        began = time.monotonic()
        await h.run(h.plan(max_cycles=1))
        await asyncio.sleep(0.5)
        second = await h.resume(more_cycles=1)
        lasted_s = time.monotonic() - began
    assert second.cycles == 2
    assert 0 < second.active_seconds <= lasted_s - 0.5


async def test_an_ended_cycle_keeps_its_time(tmp_path):
    """Found by reading: the clock of the next cycle could be written to the one before."""
    async with house(tmp_path, {"a": says()}) as h:
        await h.run()
    ledger = open_ledger(h.folder().database)
    before = ledger.cycles()[-1].seconds
    ledger.tick(9.0, 1, 0.001)
    assert (ledger.cycles()[-1].seconds, ledger.summary().active_seconds) == (before, 9.0)
    ledger.close()


async def test_files_that_went_missing_are_written_again_and_half_ones_removed(tmp_path):
    async with house(tmp_path, {"a": says(), "b": says()}) as h:
        await h.run(h.plan(max_cycles=2))
        folder = h.folder()
        lost = [
            folder.run_file(1, "a"),
            folder.proposal_file("wd", 2, "b"),
            folder.cycle_report(1),
        ]
        before = [path.read_text() for path in lost]
        for path in lost:
            path.unlink()
        lost.append(folder.proposal_file("wd", 1, "b"))
        before.append(lost[-1].read_text())
        lost[-1].write_text("")  # as a power cut may leave it
        half = folder.run_file(1, "b").with_name("cycle_1_b.json.part")
        half.write_text('{"student": ')
        await h.resume(more_cycles=1)
    assert [path.read_text() for path in lost] == before
    assert not half.exists()


async def test_a_file_stop_in_the_folder_stops_it(tmp_path):
    async with house(tmp_path, {"a": says(first_token_s=0.02)}) as h:
        running = asyncio.create_task(h.run(h.plan(max_cycles=None)))
        await until(lambda: any("useful" in line for line in h.told))
        h.folder().stop.write_text("stop")
        summary = await asyncio.wait_for(running, 60)
    assert (summary.state, summary.reason) == (SessionState.STOPPED, "stopped")
    assert not h.folder().stop.exists()


@pytest.mark.slow
async def test_the_status_tells_who_runs_and_who_waits(tmp_path):
    models = {"a": says(mib=60, first_token_s=1.2), "b": says(mib=60)}
    async with house(tmp_path, models, budget_mib=100) as h:
        running = asyncio.create_task(h.run())
        await until(
            lambda: h.folder().status.exists() and json.loads(h.folder().status.read_text())["running"]
        )
        status = json.loads(h.folder().status.read_text())
        await running
    assert status["running"][0]["student"] == "a"
    assert [one["student"] for one in status["queue"]] == ["b"]
    assert status["budget_bytes"] == 100 * MIB
    assert not h.folder().status.exists()


async def test_nothing_fits_tells_what_would_and_who_holds_the_memory(tmp_path):
    async with house(tmp_path, {"a": says(mib=200), "b": says(mib=300)}) as h:
        with pytest.raises(DoesNotFit) as refused:
            await h.run()
    told = str(refused.value)
    assert "the smallest, a, needs 200 MiB, and 100 MiB is free" in told
    assert "held by" in told and "fleet.memory_budget to 200MiB" in told


async def test_memory_taken_by_others_counts_and_no_margin_is_taken_from_a_declared_budget(tmp_path):
    tight = replace(roomy(), ram_available_bytes=50 * MIB)
    async with house(tmp_path, {"a": says(mib=40), "b": says(mib=60)}) as h:
        await h.run(hardware=tight)
    assert skips(h, 1) == {"b": "needs 60 MiB, 50 MiB is free for models"}
    assert [run.run.student for run in recorded(h)] == ["a"]


async def test_a_model_that_is_not_there_is_told_with_what_to_do_and_the_others_run(tmp_path):
    async with house(tmp_path, {"a": says()}) as h:
        h.students["ghost"] = student("ghost")
        summary = await h.run(h.plan(students=("a", "ghost")))
        assert summary.runs == 1
        assert sum("ghost's model 'ghost' is not there" in line for line in h.told) == 1
        with pytest.raises(UnknownModel, match="ghost"):
            await h.run(h.plan("s2", students=("ghost",)))


async def test_a_slow_generation_is_explained_once_with_likely_causes_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("studium.serve.sessions.turns.SLOW_SECONDS", 0.01)
    async with house(tmp_path, {"a": says(first_token_s=0.05), "b": says(first_token_s=0.05)}) as h:
        await h.run(h.plan(max_cycles=2))
    told = [line for line in h.told if line.startswith("slow:")]
    assert len(told) == 1
    assert "likely causes, in order: 1. " in told[0] and "studium doctor" in told[0]


def test_causes_with_evidence_come_first():
    busy = replace(roomy(), cpu_percent=99.0, ram_available_bytes=1 << 30)
    told = why_slow(student("a"), 70.0, 90.0, 20, busy).expected
    parts = [
        "1. its model had to be loaded first",
        "2. main memory is nearly full",
        "3. the processor is 99 %",
    ]
    assert [part in told for part in parts] == [True] * 3
    assert "4. the model is large" in told and "long" not in told


async def test_nobody_answering_for_three_cycles_ends_it(tmp_path):
    broken = says(fault=Fault(FaultKind.REFUSE))
    async with house(tmp_path, {"a": broken}) as h:
        with pytest.raises(EngineFailure, match="3 cycles in a row"):
            await h.run(h.plan(max_cycles=50))
    assert len(recorded(h)) == 3


async def test_a_judge_that_raises_costs_a_verdict_not_the_proposal(tmp_path):
    async with house(tmp_path, {"a": says()}) as h:
        h.topic.judge = lambda *_: 1 / 0  # type: ignore[method-assign]
        summary = await h.run()
    run = recorded(h)[0]
    assert summary.failed == 0 and run.score is None and run.reply == "a good one"
    assert "judging went wrong" in run.reason


async def test_a_name_is_used_once_and_the_way_on_is_told(tmp_path):
    async with house(tmp_path, {"a": says()}) as h:
        await h.run()
        with pytest.raises(BadRequest) as refused:
            await h.run()
        assert "studium session resume s1" in refused.value.try_next
        with pytest.raises(BadRequest, match="has ended"):
            await h.resume()


@pytest.mark.parametrize("name", ["../x", "", "A", "a/b", ".", "a" * 65, "x\n", "a b"])
def test_a_name_that_is_no_plain_name_is_refused(tmp_path, name):
    with pytest.raises(BadRequest):
        SessionFolder(tmp_path, name)


@pytest.mark.parametrize(
    "wrong", [{"duration_s": 0.0}, {"duration_s": float("nan")}, {"max_cycles": 0}, {"token_budget": -1}]
)
async def test_a_plan_that_makes_no_sense_is_refused(tmp_path, wrong):
    async with house(tmp_path, {"a": says()}) as h:
        with pytest.raises(BadRequest):
            await h.run(h.plan(**wrong))


async def test_students_that_left_the_roster_are_told_and_none_left_is_an_error(tmp_path):
    async with house(tmp_path, {"a": says(), "b": says()}) as h:
        await h.run()
        del h.students["b"]
        summary = await h.resume(more_cycles=1)
        assert summary.runs == 3
        del h.students["a"]
        with pytest.raises(ConfigurationError, match="none of the session's students"):
            await h.resume(more_cycles=1)


def test_a_workspace_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "sessions").write_text("a file where a folder should be")
    with pytest.raises(OperatorError, match="cannot be written"):
        with owned(SessionFolder(tmp_path, "s1").lock, "s1"):
            pass


def test_two_processes_cannot_run_one_session_and_a_dead_owner_holds_nothing(tmp_path):
    lock = tmp_path / "owner.lock"
    with owned(lock, "s1") as me:
        assert owner_of(lock) == me
        with pytest.raises(OperatorError, match=f"process {me.pid}"), owned(lock, "s1"):
            pass
    assert owner_of(lock) is None
    lock.write_text('{"pid": 1, "started_at": 5.0}')  # what a killed owner leaves, its id used anew
    assert owner_of(lock) is None
    with owned(lock, "s1") as me:
        assert owner_of(lock) == me


@pytest.mark.slow
async def test_a_full_disk_ends_it_in_order_and_what_was_recorded_stays(tmp_path):
    async with house(tmp_path, {"a": says(first_token_s=0.02)}) as h:
        running = asyncio.create_task(h.run(h.plan(max_cycles=None)))
        await until(lambda: any("useful" in line for line in h.told))
        database = h.session._ledger._database  # type: ignore[union-attr]  # the limit belongs to its connections
        with database.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        event.listen(
            database, "checkout", lambda raw, *_: raw.execute(f"PRAGMA max_page_count = {pages + 2}")
        )
        with pytest.raises(StoreUnavailable, match="full") as refused:
            await asyncio.wait_for(running, 60)
        assert "studium session resume s1" in refused.value.try_next
        done = len(recorded(h))
        assert done >= 1
        assert (await h.resume(more_cycles=done)).runs > done


async def test_an_unreadable_database_is_told(tmp_path):
    async with house(tmp_path, {"a": says()}) as h:
        await h.run()
        for file in h.folder().history.glob("student_profiles.db*"):
            file.write_bytes(b"this is no database " * 400)
        with pytest.raises(StoreUnavailable, match="student_profiles.db"):
            read_ledger(h.folder().database)
        with pytest.raises(StoreUnavailable):
            await h.resume(more_cycles=1)
