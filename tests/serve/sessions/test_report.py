"""What is made from a session's record: the page for people, and the trace for the simulator."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from tests.serve.sessions.house import house, says

from studium.errors import BadRequest
from studium.evals.charts import Bar, bar_chart, line_under_limit
from studium.fleet.simulate import POLICIES, parse_trace, simulate
from studium.records.runs import StudentRun
from studium.records.scheduling import Priority
from studium.records.sessions import (
    CyclePlan,
    CycleSummary,
    SessionPlan,
    SessionRun,
    SessionState,
    SessionSummary,
    Turn,
)
from studium.serve.sessions.ledger import read_ledger
from studium.serve.sessions.report import held_at_once, report_page, write_report
from studium.serve.sessions.trace import trace_lines

MB = 10**6


def ran(student: str, *, at: float = 0.0, seconds: float = 1.0, **more: object) -> SessionRun:
    run = StudentRun(student, f"{student}|x", at, seconds, True, cycle=1, memory_bytes=40 * MB)
    own = {name: more.pop(name) for name in ("cycle", "model", "memory_bytes") if name in more}
    return SessionRun(replace(run, **own), at, "session", 0.0, seconds, 64, "s", "p", **more)  # type: ignore[arg-type]


def cycle(number: int, *students: str) -> CycleSummary:
    plan = CyclePlan(number, tuple(Turn(student, 64, 9.0, "") for student in students))
    return CycleSummary(number, 2.0, True, len(students), 0, 1, 10, plan)


SUMMARY = SessionSummary(
    SessionPlan("s", "words", ("a",), 60.0), SessionState.FINISHED, "done", "wd", "T", 0.0, 2.0, 1, 1, 0, 1, 9
)


def test_what_a_model_wrote_cannot_act_in_the_page():
    evil = '<script src="https://x.example/y.js"></script><img onerror=alert(1)>'
    run = ran("a", reply=evil, useful=True, reason=evil)
    page = report_page(replace(SUMMARY, title=evil), [cycle(1, "a")], [run], {1: 100 * MB})
    assert "<script" not in page and "<img" not in page
    assert "&lt;script" in page


def test_the_page_needs_nothing_from_outside():
    page = report_page(SUMMARY, [cycle(1, "a")], [ran("a", useful=True)], {1: 100 * MB})
    assert not re.search(r"(?:src|href|url)\s*[=(]", page)
    assert page.count("<svg") == 3


async def test_a_session_s_report_holds_its_figures(tmp_path):
    async with house(tmp_path, {"good": says(), "idle": says("nothing")}) as h:
        await h.run(h.plan(max_cycles=2))
    ledger = read_ledger(h.folder().database)
    write_report(h.folder(), ledger)
    ledger.close()
    page = h.folder().report.read_text()
    assert "<b>2 useful proposals</b>" in page and "4 runs (0 failed)" in page
    assert "a good one" in page and "it is good" in page
    assert "<td>nothing</td>" not in page, "only what was useful is listed"


def test_memory_counts_what_is_held_at_the_same_time_and_a_shared_model_once():
    together = [ran("a", at=0.0, seconds=2.0), ran("b", at=1.0, seconds=2.0)]
    assert held_at_once(together) == 80 * MB
    assert held_at_once([ran("a", at=0.0), ran("b", at=1.0)]) == 40 * MB
    assert held_at_once([ran("a", model="m|x"), ran("b", model="m|x")]) == 40 * MB
    assert held_at_once([ran("a", memory_bytes=None)]) == 0


@pytest.mark.parametrize("values", [[], [0.0], [0.003], [7.2, 1e6]])
def test_charts_hold_every_value_inside_the_drawing(values):
    drawn = bar_chart([Bar(f"<{n}>", value) for n, value in enumerate(values)], "s")
    drawn += line_under_limit([str(n) for n in range(len(values))], values, values, "MB")
    heights = [float(number) for number in re.findall(r'(?:y|height|cy)="([\d.-]+)"', drawn)]
    assert all(0 <= number <= 220 for number in heights)
    for one in re.findall(r"<svg.*?</svg>", drawn, re.DOTALL):
        ElementTree.fromstring(one)  # raises where it is not well formed
    assert "<0>" not in drawn


def test_many_cycles_are_drawn_in_groups():
    cycles = [cycle(number, "a") for number in range(1, 301)]
    page = report_page(SUMMARY, cycles, [ran("a")], dict.fromkeys(range(1, 301), MB))
    assert page.count("<rect") <= 60 + 2


def test_a_trace_holds_the_work_of_the_session_cycle_after_cycle():
    runs = [ran("a", cycle=1), ran("b", cycle=1), ran("a", cycle=2), ran("late", cycle=2, seconds=0.0)]
    lines = trace_lines("s", [cycle(1, "b", "a"), cycle(2, "a", "late")], runs, {1: 50 * MB, 2: 60 * MB})
    trace = parse_trace(lines, name="s")
    assert [(ask.model, ask.after) for ask in trace.asks] == [("b", ()), ("a", ()), ("a", (1, 2))]
    assert {ask.priority for ask in trace.asks} == {Priority.SESSION}
    assert trace.devices[0].budget_bytes == 60 * MB
    assert simulate(trace, POLICIES["studium"]).makespan_s >= 2.0


def test_a_session_without_runs_has_no_trace():
    with pytest.raises(BadRequest, match="no run to replay"):
        trace_lines("s", [], [], {})
