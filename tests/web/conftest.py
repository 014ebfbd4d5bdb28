"""A house of fakes behind the real endpoint on a real socket."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest

from studium.config.schema import ServerConfig
from studium.errors import Unsupported
from studium.records.answers import (
    Answer,
    AnswerEvent,
    AnswerStatus,
    Complexity,
    Delta,
    Fate,
    MemberReply,
    Query,
)
from studium.records.hardware import DeviceKind, DeviceUse
from studium.records.messages import Embeddings
from studium.records.models import ModelSpec, Residence, Student
from studium.records.runs import RequestRecord
from studium.web.server import serve

Step = AnswerEvent | Exception | asyncio.Event


def answer_of(text: str) -> Answer:
    """An answer by a committee of two, one of whom failed."""
    return Answer(
        text=text,
        status=AnswerStatus.ANSWERED,
        strategy="committee",
        complexity=Complexity.MEDIUM,
        chosen_model="adder",
        agreement=1.0,
        confidence=0.9,
        members=(
            MemberReply("adder", Fate.ANSWERED, text=text, answer=text, prompt_tokens=7, completion_tokens=3),
            MemberReply("sorter", Fate.FAILED, error="it died", error_code="engine_died"),
        ),
        seconds=0.25,
        prompt_tokens=7,
        completion_tokens=3,
    )


class FakeEnsemble:
    """Plays `steps` for every query: events are yielded, errors raised, asyncio events waited for."""

    def __init__(self) -> None:
        self.queries: list[Query] = []
        self.asked = asyncio.Event()
        self.ended = asyncio.Event()
        self._count = asyncio.Condition()
        self.vectors: Sequence[Sequence[float]] | None = None
        self.says("The answer", " is 105.")

    def says(self, *pieces: str) -> None:
        self.steps: list[Step] = [*(Delta(piece) for piece in pieces), answer_of("".join(pieces))]

    def plays(self, *steps: Step) -> None:
        self.steps = list(steps)

    async def has_been_asked(self, times: int) -> None:
        async with asyncio.timeout(60), self._count:
            await self._count.wait_for(lambda: len(self.queries) >= times)

    async def stream(self, query: Query) -> AsyncGenerator[AnswerEvent, None]:
        self.queries.append(query)
        self.asked.set()
        async with self._count:
            self._count.notify_all()
        try:
            for step in self.steps:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.ended.set()

    async def answer(self, query: Query) -> Answer:
        async for event in self.stream(query):
            if isinstance(event, Answer):
                return event
        raise AssertionError("the steps hold no answer")

    async def embed(self, model: str, texts: Sequence[str]) -> Embeddings:
        if self.vectors is None:
            raise Unsupported("no model of the roster gives embeddings")
        return Embeddings(self.vectors, 4)


@dataclass
class FakeFleet:
    loaded: list[str] = field(default_factory=list)
    busy: bool = False

    async def load(self, student: Student, *, timeout_s: float = 60.0) -> None:
        self.loaded.append(student.model.name)

    async def unload(self, model: ModelSpec) -> bool:
        if not self.busy:
            self.loaded.remove(model.name)
        return not self.busy

    async def residences(self) -> list[Residence]:
        return [Residence(name, 10_000_000, 12_000_000) for name in self.loaded]

    def devices(self) -> list[DeviceUse]:
        return [
            DeviceUse("memory", DeviceKind.CPU, 100_000_000, "declared", 10_000_000 * len(self.loaded), 0)
        ]


@dataclass
class FakeRoster:
    students: dict[str, Student]

    @property
    def named(self) -> dict[str, Student]:
        return self.students


@dataclass
class FakeLog:
    trouble: str = ""
    rows_dropped: int = 0
    records: list[RequestRecord] = field(default_factory=list)
    logged: asyncio.Event = field(default_factory=asyncio.Event)

    def log_request(self, record: RequestRecord) -> None:
        self.records.append(record)
        self.logged.set()


@dataclass
class FakeConfig:
    server: ServerConfig


@dataclass
class FakeHouse:
    config: FakeConfig
    ensemble: FakeEnsemble
    roster: FakeRoster
    fleet: FakeFleet
    store: FakeLog

    def health(self) -> dict[str, dict[str, Any]]:
        return {"adder": {"state": "open", "errors": 3, "degraded": None}}

    def limit(self, **changes: Any) -> None:
        """Change the server's configuration before it is served."""
        self.config.server = replace(self.config.server, **changes)


@pytest.fixture
def house() -> FakeHouse:
    students = {
        name: Student(name, ModelSpec(f"{name}-model", "scripted", "none.gguf"), speciality=f"{name} things")
        for name in ("adder", "sorter")
    }
    return FakeHouse(
        FakeConfig(ServerConfig(port=0)), FakeEnsemble(), FakeRoster(students), FakeFleet(), FakeLog()
    )


@dataclass
class Caller:
    """An HTTP client that knows where the server is."""

    url: str
    session: aiohttp.ClientSession

    def get(self, path: str, **options: Any) -> Any:
        return self.session.get(self.url + path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        if body is not None:
            options["json"] = body
        return self.session.post(self.url + path, **options)

    async def chat(self, text: str = "What is 47 + 58?", **more: Any) -> Any:
        body = {"model": "auto", "messages": [{"role": "user", "content": text}], **more}
        async with self.post("/v1/chat/completions", body) as response:
            return response.status, await response.json()


Serving = Callable[..., AbstractAsyncContextManager[Caller]]


@pytest.fixture
def serving() -> Serving:
    """Serve a house on a free port of this machine for the length of a block."""

    @asynccontextmanager
    async def open_server(house: FakeHouse, **options: Any) -> AsyncIterator[Caller]:
        async with (
            serve(house, **({"drain_s": 0.0} | options)) as url,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
        ):
            yield Caller(url, session)

    return open_server


@pytest.fixture
async def caller(house: FakeHouse, serving: Serving) -> AsyncIterator[Caller]:
    async with serving(house) as caller:
        yield caller
