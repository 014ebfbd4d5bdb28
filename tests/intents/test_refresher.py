"""One channel's asks: never two at once, only about the newest, and no failure takes the last intent away."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.web.conftest import answer_of

from studium.errors import EngineDied
from studium.intents.layout import Frame
from studium.intents.refresher import Refresher, dressed, intent_in
from studium.intents.ring import created
from studium.intents.settings import Settings
from studium.records.answers import Answer, AnswerStatus, Query

QUICK = Settings(question="{observation}", hz=4.0, horizon_s=60.0, fallback="stay")


class Students:
    """Answers each question by echoing it, when let; or plays the errors it was given first."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let = asyncio.Event()
        self.let.set()
        self.errors: list[Exception] = []
        self.at_once = self.most_at_once = 0

    async def answer(self, query: Query) -> Answer:
        self.asked.append(query.question)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.let.wait()
            if self.errors:
                raise self.errors.pop(0)
            return answer_of(f"do {query.question}")
        finally:
            self.at_once -= 1


@asynccontextmanager
async def refreshing(
    folder: Path, students: Students, settings: Settings = QUICK
) -> AsyncIterator[Refresher]:
    intents, observations = created(folder / "npc.intent"), created(folder / "npc.observation")
    intents.publish(dressed(Frame("", empty=True), settings))
    refresher = Refresher(settings, intents, observations, students.answer)
    task = asyncio.create_task(refresher.run())
    try:
        yield refresher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(claim, what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not claim():
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"waited 15 s until {what}")


def now(refresher: Refresher) -> str:
    frame = refresher.intents.newest()
    assert frame is not None
    return frame.text


async def test_only_the_newest_of_what_came_in_meanwhile_is_asked_about(tmp_path):
    students = Students()
    students.let.clear()
    async with refreshing(tmp_path, students) as refresher:
        refresher.observe("one")
        await until(lambda: students.asked == ["one"], "the first is asked about")
        for text in ("two", "three", "four"):
            refresher.observe(text)
        students.let.set()
        await until(lambda: now(refresher) == "do four", "the last is answered")
    assert students.asked == ["one", "four"]
    assert students.most_at_once == 1
    assert refresher.tally.dropped == 2


async def test_of_shared_memory_and_http_the_later_observation_counts(tmp_path):
    students = Students()
    students.let.clear()
    async with refreshing(tmp_path, students) as refresher:
        refresher.observe("first")
        await until(lambda: students.asked == ["first"], "the first is asked about")
        refresher.observe("by http")
        for text in ("one", "two", "by memory"):
            refresher.observations.publish(Frame(text, observed_ns=time.monotonic_ns()))
        students.let.set()
        refresher.glance()
        await until(lambda: now(refresher) == "do by memory", "shared memory is answered")
        refresher.observe("by http again")
        await until(lambda: now(refresher) == "do by http again", "HTTP is answered")
    assert students.asked == ["first", "by memory", "by http again"]
    assert refresher.tally.dropped == 3


async def test_asks_begin_no_more_often_than_the_channel_says(tmp_path):
    students = Students()
    async with refreshing(tmp_path, students) as refresher:
        began = time.monotonic()
        for number in range(3):
            refresher.observe(str(number))
            await until(lambda number=number: now(refresher) == f"do {number}", "it is answered")
        assert time.monotonic() - began >= 2 / QUICK.hz


async def test_a_failure_is_told_waited_out_and_leaves_the_last_intent(tmp_path):
    students = Students()
    async with refreshing(tmp_path, students) as refresher:
        refresher.observe("one")
        await until(lambda: now(refresher) == "do one", "the first is answered")
        students.errors = [EngineDied("the worker went away"), ValueError("a bug")]
        refresher.observe("two")
        await until(lambda: refresher.tally.failed == 1, "the second fails")
        assert (now(refresher), refresher.tally.error) == ("do one", "the worker went away")
        first_wait_s = refresher.tally.retry_s
        refresher.observe("three")
        await until(lambda: refresher.tally.failed == 2, "the third fails")
        assert "ValueError" in refresher.tally.error
        assert refresher.tally.retry_s == 2 * first_wait_s
        refresher.observe("four")
        await until(lambda: now(refresher) == "do four", "it goes on")
    assert (refresher.tally.error, refresher.tally.retry_s) == ("", 0.0)


async def test_an_answer_after_its_horizon_is_not_published(tmp_path):
    students = Students()
    students.let.clear()
    settings = Settings(question="{observation}", hz=4.0, horizon_s=0.5, fallback="stay")
    async with refreshing(tmp_path, students, settings) as refresher:
        refresher.observe("one")
        await until(lambda: students.asked == ["one"], "it is asked about")
        await asyncio.sleep(0.6)
        students.let.set()
        await until(lambda: refresher.tally.late == 1, "it is late")
        assert (now(refresher), refresher.tally.published) == ("", 0)
        assert "horizon" in refresher.tally.error


async def test_an_observation_older_than_the_horizon_is_not_asked_about(tmp_path):
    students = Students()
    async with refreshing(tmp_path, students) as refresher:
        old_ns = time.monotonic_ns() + 1
        refresher.settings = Settings(question="{observation}", hz=4.0, horizon_s=0.5)
        await asyncio.sleep(0.55)
        refresher.observations.publish(Frame("old", observed_ns=old_ns))
        refresher.glance()
        await until(lambda: refresher.tally.dropped == 1, "it is dropped")
        refresher.observe("new")
        await until(lambda: now(refresher) == "do new", "a new one is answered")
    assert students.asked == ["new"]


@pytest.mark.parametrize(
    ("text", "status", "settings", "told"),
    [
        ("I cannot", AnswerStatus.UNABLE, QUICK, "I cannot"),
        ("  ", AnswerStatus.ANSWERED, QUICK, "said nothing"),
        ("x" * 4097, AnswerStatus.ANSWERED, QUICK, "4,097"),
        ('{"steps": [', AnswerStatus.ANSWERED, Settings(plan=True), "no JSON"),
    ],
)
def test_what_is_no_intent_is_not_published(text, status, settings, told):
    from dataclasses import replace

    from studium.errors import BadReply

    with pytest.raises(BadReply, match=told):
        intent_in(replace(answer_of(text), status=status), settings)
