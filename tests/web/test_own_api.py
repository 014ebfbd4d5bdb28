"""/api/ask, health, metrics and the request log."""

import json
import logging
from io import StringIO

from studium.errors import EngineDied, StudiumError
from studium.records.answers import Progress
from studium.telemetry import Metrics, configure_logging


async def test_ask_answers_with_the_whole_evidence(caller, house):
    wish = {
        "question": "47 + 58?",
        "complexity": "simple",
        "students": ["adder"],
        "domain": "arithmetic",
        "explain": True,
    }
    async with caller.post("/api/ask", wish) as response:
        body = await response.json()
    query = house.ensemble.queries[0]
    assert (body["text"], body["agreement"], body["usage"]["total_tokens"]) == ("The answer is 105.", 1.0, 10)
    assert body["members"][0]["text"] == "The answer is 105."
    assert (query.question, query.complexity, query.students) == ("47 + 58?", "simple", ("adder",))
    assert (query.model, query.domain) == ("auto", "arithmetic")


async def test_ask_streams_progress_pieces_and_the_answer_as_lines(caller, house):
    house.ensemble.plays(Progress("asking adder"), *house.ensemble.steps)
    async with caller.post("/api/ask", {"question": "x", "stream": True}) as response:
        got = [json.loads(line) async for line in response.content]
    assert [line["kind"] for line in got] == ["progress", "delta", "delta", "answer"]


async def test_ask_without_a_question_is_refused(caller):
    for body in ({}, {"question": "  "}, {"question": 7}, {"question": "x", "complexity": "huge"}):
        async with caller.post("/api/ask", body) as response:
            assert response.status == 400


async def test_every_request_is_logged_once_and_probes_are_not(caller, house):
    await caller.chat()
    house.ensemble.plays(EngineDied("gone"))
    await caller.chat()
    for probe in ("/healthz", "/readyz", "/metrics"):
        async with caller.get(probe) as response:
            assert response.status == 200
    good, bad = house.store.records
    assert (good.path, good.status, good.model, good.strategy) == (
        "/v1/chat/completions",
        200,
        "auto",
        "committee",
    )
    assert (good.students_asked, good.students_answered, good.completion_tokens) == (2, 1, 3)
    assert (bad.status, bad.error_code) == (502, "engine_died")


async def test_metrics_count_requests_answers_members_and_memory(caller, house):
    house.fleet.loaded.append("adder-model")
    house.store.rows_dropped = 3
    await caller.chat()
    async with caller.get("/no/such/path"):
        pass
    async with caller.get("/metrics") as response:
        text = await response.text()
    assert 'studium_requests_total{route="/v1/chat/completions",status="200"} 1.0' in text
    assert 'studium_requests_total{route="other",status="404"} 1.0' in text
    assert 'studium_members_total{student="sorter",fate="failed"} 1.0' in text
    assert "studium_store_rows_dropped 3" in text
    assert 'studium_model_resident_bytes{model="adder-model"} 10000000' in text
    assert 'studium_answer_seconds_bucket{complexity="medium",strategy="committee",le="0.25"} 1' in text


async def test_metrics_come_although_an_engine_cannot_tell_its_memory(caller, house):
    async def fails():
        raise StudiumError("no reading")

    house.fleet.residences = fails
    async with caller.get("/metrics") as response:
        assert response.status == 200


async def test_ready_means_that_there_is_somebody_to_ask(caller, house):
    house.store.trouble = "the disk is full"
    async with caller.get("/readyz") as response:
        assert (response.status, (await response.json())["store_trouble"]) == (200, "the disk is full")
    house.roster.students.clear()
    async with caller.get("/readyz") as response:
        assert response.status == 503
    async with caller.get("/healthz") as response:
        assert response.status == 200


def test_histograms_cumulate_and_labels_are_escaped():
    metrics = Metrics()
    seconds = metrics.histogram("s", "Seconds.", ("who",), bounds=(1.0, 5.0))
    for value in (0.5, 1.0, 3.0, 9.0):
        seconds.observe(value, 'a"b\\c\n')
    lines = metrics.render().decode().splitlines()
    label = 'who="a\\"b\\\\c\\n"'
    assert lines == [
        "# HELP s Seconds.",
        "# TYPE s histogram",
        f's_bucket{{{label},le="1"}} 2',
        f's_bucket{{{label},le="5"}} 3',
        f's_bucket{{{label},le="+Inf"}} 4',
        f"s_sum{{{label}}} 13.5",
        f"s_count{{{label}}} 4",
    ]


def test_a_log_record_is_one_line_of_json_with_its_fields():
    root, stream = logging.getLogger(), StringIO()
    before = root.handlers[:], root.level
    try:
        configure_logging(stream, level="info")
        logging.getLogger("studium.x").info("two\nlines", extra={"fields": {"model": "adder"}})
    finally:
        root.handlers[:], _ = before
        root.setLevel(before[1])
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert (record["message"], record["model"], record["level"]) == ("two\nlines", "adder", "info")
