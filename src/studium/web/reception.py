"""What all endpoints share: the Studium behind them, the limits before them, and what is known of each visit."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from studium.records.answers import Answer
from studium.records.runs import RequestRecord
from studium.telemetry import Metrics
from studium.web.access import Crowd, Gate

if TYPE_CHECKING:
    from studium.app import Studium


class Meters:
    """What Prometheus is told of the endpoint."""

    def __init__(self, metrics: Metrics) -> None:
        self.requests = metrics.counter(
            "studium_requests_total", "Requests by route and status.", ("route", "status")
        )
        self.seconds = metrics.histogram(
            "studium_request_seconds",
            "Seconds from a request's headers to the end of its response.",
            ("route",),
        )
        self.answer_seconds = metrics.histogram(
            "studium_answer_seconds", "Seconds that the ensemble took.", ("complexity", "strategy")
        )
        self.answers = metrics.counter(
            "studium_answers_total",
            "Answers by complexity, strategy and status.",
            ("complexity", "strategy", "status"),
        )
        self.members = metrics.counter(
            "studium_members_total",
            "Students' parts in answers, by what became of them.",
            ("student", "fate"),
        )
        self.tokens = metrics.counter("studium_tokens_total", "Tokens of whole committees.", ("kind",))
        self.errors = metrics.counter(
            "studium_errors_total", "Requests that failed, by error code.", ("code",)
        )
        self.cache = metrics.counter(
            "studium_cache_total",
            "Questions whose answer could be kept: given again (exact, meaning), or made (miss).",
            ("result",),
        )
        self.open = metrics.gauge("studium_requests_open", "Requests being answered now.")
        self.connections = metrics.gauge("studium_connections_open", "Connections open now.")
        self.resident_bytes = metrics.gauge(
            "studium_model_resident_bytes", "Memory that a loaded model holds.", ("model",)
        )
        self.held_back = metrics.gauge(
            "studium_model_held_back", "1 where a model is held back after errors, else 0.", ("model",)
        )
        self.model_errors = metrics.gauge(
            "studium_model_errors", "Errors of a model since this process began.", ("model",)
        )
        self.degraded = metrics.gauge(
            "studium_model_degraded",
            "1 where a model gets fewer known problems right than it did.",
            ("model",),
        )
        self.rows_dropped = metrics.gauge(
            "studium_store_rows_dropped",
            "Rows given up since this process began: the disk refused them for too long.",
        )
        self.process_bytes = metrics.gauge(
            "process_resident_memory_bytes", "Memory of this process, without its workers."
        )

    def count(self, answer: Answer) -> None:
        """Count one answer and everybody's part in it."""
        if looked_up := answer.notes.get("cache"):
            self.cache.add(looked_up["hit"] or "miss")
            if looked_up["hit"]:  # nobody was asked: it says nothing of strategies and students
                return
        labels = (answer.complexity.value, answer.strategy)
        self.answers.add(*labels, answer.status.value)
        self.answer_seconds.observe(answer.seconds, *labels)
        for member in answer.members:
            self.members.add(member.student, member.fate.value)
        self.tokens.add("prompt", amount=answer.prompt_tokens)
        self.tokens.add("completion", amount=answer.completion_tokens)


@dataclass(slots=True)
class Visit:
    """What is known of one request while it is served; the request log is written from it."""

    request_id: str
    path: str
    began_at: float = field(default_factory=time.time)
    began: float = field(default_factory=time.monotonic)
    key_name: str = ""
    model: str = ""
    answer: Answer | None = None
    error_code: str = ""

    @property
    def actor(self) -> str:
        """Whose changes these are: the key's name, "local" where none is needed."""
        return self.key_name or "local"

    def record(self, status: int) -> RequestRecord:
        """Return the line for the request log."""
        return RequestRecord(
            request_id=self.request_id,
            at=self.began_at,
            path=self.path,
            model=self.model,
            status=status,
            seconds=time.monotonic() - self.began,
            api_key_name=self.key_name,
            error_code=self.error_code,
            **({} if self.answer is None else _told(self.answer)),
        )


def _told(answer: Answer) -> dict[str, Any]:
    return {
        "strategy": answer.strategy,
        "complexity": answer.complexity.value,
        "answer_status": answer.status.value,
        "chosen_model": answer.chosen_model,
        "students_asked": len(answer.members),
        "students_answered": sum(member.answer is not None for member in answer.members),
        "agreement": answer.agreement,
        "confidence": answer.confidence,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "cost_usd": answer.cost_usd,
    }


class Reception:
    """Holds what every endpoint needs, and knows whether the server is about to go."""

    def __init__(self, studium: "Studium", gate: Gate, metrics: Metrics) -> None:
        self.studium = studium
        self.server = studium.config.server
        self.gate = gate
        self.crowd = Crowd(self.server.concurrent_requests_per_key)
        self.metrics = metrics
        self.meters = Meters(metrics)
        self.started_at = int(time.time())
        self.draining = False
        self.ending = False
        self._open: set[asyncio.Task[object]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self, task: "asyncio.Task[object]") -> None:
        """Note a request being answered by `task`."""
        self._open.add(task)
        self._idle.clear()
        self.meters.open.set(len(self._open))

    def leave(self, task: "asyncio.Task[object]") -> None:
        """Note that the request is done."""
        self._open.discard(task)
        self.meters.open.set(len(self._open))
        if not self._open:
            self._idle.set()

    async def drain(self, timeout_s: float) -> bool:
        """Turn new requests away and wait for those that are open; False where some are left."""
        self.draining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def end(self) -> None:
        """Cancel every open request; each of them still tells its client why."""
        self.draining = self.ending = True
        for task in self._open:
            task.cancel()


RECEPTION: web.AppKey[Reception] = web.AppKey("reception", Reception)
VISIT: web.RequestKey[Visit] = web.RequestKey("visit", Visit)
