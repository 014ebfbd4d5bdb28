"""Feedback over a real socket, to a real Studium whose students follow a script."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from tests.cli.roster import write_roster

from studium.app import Studium, open_studium
from studium.config import load_config
from studium.web.server import serve

KEYS = {"one": "a-key-of-mine", "other": "a-key-of-yours"}


@asynccontextmanager
async def running(folder: Path, more: str = "") -> AsyncIterator[tuple[str, Studium]]:
    config = write_roster(folder)
    config.write_text(config.read_text() + more)
    loaded = load_config(config, environment={}, overrides={"server.port": 0})
    async with open_studium(loaded) as studium, serve(studium, drain_s=0.0) as url:
        yield url, studium


async def post(url: str, path: str, body: object, key: str = "", request_id: str = "") -> tuple[int, dict]:
    headers = ({"Authorization": f"Bearer {key}"} if key else {}) | (
        {"X-Request-Id": request_id} if request_id else {}
    )
    async with aiohttp.ClientSession() as session:
        async with session.post(url + path, json=body, headers=headers) as response:
            return response.status, await response.json()


async def ask(url: str, key: str = "", request_id: str = "", **more: object) -> str:
    _, answer = await post(url, "/api/ask", {"question": "What is 47 + 58?", **more}, key, request_id)
    return answer["request_id"]


async def test_good_bad_and_corrections_reach_the_students(tmp_path):
    async with running(tmp_path) as (url, studium):
        name = await ask(url, students=["alpha"], domain="arithmetic")
        assert await post(
            url, "/api/feedback", {"request_id": name, "rating": "good", "note": "so it is"}
        ) == (
            200,
            {
                "id": 1,
                "request_id": name,
                "rating": "good",
                "kind": "arithmetic",
                "grades": {"alpha": 1.0},
                "comparable": True,
            },
        )
        trusted = studium.history.known(studium.roster.students["alpha"], "arithmetic").reliability
        status, told = await post(url, "/api/feedback", {"request_id": name, "correction": "Answer: 106"})
        assert (status, told["rating"], told["grades"]) == (200, "corrected", {"alpha": 0.0})
        assert studium.history.known(studium.roster.students["alpha"], "arithmetic").reliability < trusted
        assert [row["rating"] for row in studium.store.read(feedback_rows())] == ["good", "corrected"]


def feedback_rows():
    from sqlalchemy import select

    from studium.store.schema import feedback

    return select(feedback).order_by(feedback.c.id)


async def test_a_key_rates_what_it_was_answered_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_KEYS", ",".join(KEYS.values()))
    async with running(tmp_path, "server: {api_keys_env: TEST_KEYS}\n") as (url, _):
        mine = await ask(url, KEYS["one"])
        # An id that somebody else chose for an answer of theirs opens nothing of ours.
        assert await ask(url, KEYS["other"], request_id="chosen") == "chosen"
        for request_id, key in [(mine, KEYS["other"]), ("chosen", KEYS["one"])]:
            status, told = await post(url, "/api/feedback", {"request_id": request_id, "rating": "bad"}, key)
            assert (status, request_id in told["error"]) == (404, True)
        status, _told = await post(url, "/api/feedback", {"request_id": mine, "rating": "bad"}, KEYS["one"])
        assert status == 200
        assert (await post(url, "/api/feedback", {"request_id": mine, "rating": "bad"}))[0] == 401


async def test_an_unknown_answer_is_told_in_three_parts(tmp_path):
    async with running(tmp_path) as (url, _):
        status, told = await post(url, "/api/feedback", {"request_id": "nobody", "rating": "good"})
    assert status == 404
    happened, expected, try_next = told["error"].split("; ", 2)
    assert "nobody" in happened and "request_id" in expected and "studium ask" in try_next


@pytest.mark.parametrize(
    "body",
    [
        {"rating": "good"},
        {"request_id": "", "rating": "good"},
        {"request_id": "x"},
        {"request_id": "x", "rating": "splendid"},
        {"request_id": "x", "rating": 5},
        {"request_id": ["x"], "rating": "good"},
        {"request_id": "x", "rating": "bad", "correction": 7},
        {"request_id": "x", "rating": "good", "note": "n" * 100_001},
        {"request_id": "x", "rating": "corrected"},
        [],
    ],
)
async def test_feedback_that_makes_no_sense_is_refused_as_such(tmp_path, body):
    async with running(tmp_path) as (url, _):
        status, told = await post(url, "/api/feedback", body)
    assert status in (400, 404) and told["error"]


async def test_where_no_questions_are_kept_feedback_is_refused_with_the_reason(tmp_path):
    async with running(tmp_path, "store: {keep_questions: false}\n") as (url, studium):
        name = await ask(url)
        status, told = await post(url, "/api/feedback", {"request_id": name, "rating": "good"})
        await studium.history.catch_up()
    assert status == 400 and "keep_questions" in told["error"]
    assert b"47 + 58" not in (tmp_path / "state" / "state.db").read_bytes()


async def test_why_names_the_kind_and_orders_the_students(tmp_path):
    async with running(tmp_path) as (url, _):
        status, told = await post(url, "/api/why", {"question": "What is 47 + 58?"})
        assert (await post(url, "/api/why", {"question": " "}))[0] == 400
    assert (status, told["kind"], told["recognised"]) == (200, "arithmetic", True)
    assert {one["student"] for one in told["students"]} == {"alpha", "beta"}
    assert all(0 < one["low"] < one["reliability"] < one["high"] < 1 for one in told["students"])
