"""How each protocol speaks: an answer whole, or in pieces as it comes. Bytes out, nothing sent from here.

A `Voice` serves one request. In a stream its parts come in this order: opening, deltas, then closing or
failure; notes (heartbeats) and progress anywhere after the opening. Progress is a comment where the protocol has
them, for people who read the stream, and a piece without text that carries it under `studium`, for programs.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import orjson

from studium.engines import ollama_wire, openai_wire
from studium.engines.ollama_wire import Timing
from studium.engines.openai_wire import Stamp
from studium.errors import StudiumError
from studium.records.answers import Answer, Delta, MoveKind, Progress
from studium.records.messages import TokenLogprob
from studium.serve.report import report, step, whole
from studium.web.failures import Dialect, error_json
from studium.web.openai_requests import Wish

Json = dict[str, Any]
EVENT_STREAM = "text/event-stream"
NDJSON = "application/x-ndjson"


class Voice(Protocol):
    """One protocol's way to put an answer."""

    content_type: str

    def whole(self, answer: Answer) -> bytes:
        """Return the body of an answer that is not streamed."""
        ...

    def opening(self) -> bytes:
        """Return what a stream begins with; may be empty."""
        ...

    def delta(self, delta: Delta) -> bytes:
        """Return one piece of text."""
        ...

    def note(self, text: str) -> bytes:
        """Return a sign of life that clients do not take for text."""
        ...

    def progress(self, progress: Progress) -> bytes:
        """Return what happened, once for each batch and reply, in a form that ordinary clients pass over."""
        ...

    def closing(self, answer: Answer) -> bytes:
        """Return everything after the last piece."""
        ...

    def failure(self, error: StudiumError) -> bytes:
        """Return how a stream that broke ends."""
        ...


@dataclass
class _EventStream:
    """What OpenAI's two ways of completing have in common; they differ in what a chunk looks like."""

    wish: Wish
    stamp: Stamp
    request_id: str
    content_type: str = EVENT_STREAM
    kind: ClassVar[str]
    completion: ClassVar[Callable[..., Json]]
    chunk: ClassVar[Callable[..., Json]]
    finish: ClassVar[Callable[..., Json]]

    def whole(self, answer: Answer) -> bytes:
        return orjson.dumps(
            self.completion(
                self.stamp,
                answer.text,
                answer.finish.value,
                usage_of(answer),
                logprobs=self._logprobs(answer),
                studium=self._report(answer),
            )
        )

    def delta(self, delta: Delta) -> bytes:
        return openai_wire.sse(self.chunk(self.stamp, delta.text, logprobs=self._logprobs(delta)))

    def note(self, text: str) -> bytes:
        return openai_wire.sse_comment(text)

    def progress(self, progress: Progress) -> bytes:
        chunk = self.chunk(self.stamp, "") | {"studium": {"progress": step(progress)}}
        return self.note(progress.text) + openai_wire.sse(chunk)

    def closing(self, answer: Answer) -> bytes:
        last = self.finish(self.stamp, answer.finish.value, studium=self._report(answer))
        parts = openai_wire.sse(last)
        if self.wish.include_usage:
            parts += openai_wire.sse(openai_wire.usage_chunk(self.stamp, usage_of(answer), kind=self.kind))
        return parts + openai_wire.SSE_DONE

    def failure(self, error: StudiumError) -> bytes:
        return openai_wire.sse(error_json(Dialect.OPENAI, error))

    def _logprobs(self, said: Answer | Delta) -> Sequence[TokenLogprob] | None:
        return None if self.wish.query.top_logprobs is None else said.logprobs

    def _report(self, answer: Answer) -> Json:
        wish = self.wish
        return report(answer, request_id=self.request_id, explain=wish.explain, ignored=wish.ignored)


class ChatVoice(_EventStream):
    """/v1/chat/completions."""

    kind = "chat.completion.chunk"
    completion = staticmethod(openai_wire.chat_completion)
    chunk = staticmethod(openai_wire.chat_chunk)
    finish = staticmethod(openai_wire.chat_finish_chunk)

    def opening(self) -> bytes:
        return openai_wire.sse(openai_wire.chat_role_chunk(self.stamp))


class CompletionVoice(_EventStream):
    """/v1/completions."""

    kind = "text_completion"
    completion = staticmethod(openai_wire.text_completion)
    chunk = staticmethod(openai_wire.text_completion_chunk)

    @staticmethod
    def finish(stamp: Stamp, finish_reason: str, *, studium: Json) -> Json:
        return openai_wire.text_completion_chunk(stamp, "", finish_reason, studium=studium)

    def opening(self) -> bytes:
        return b""


@dataclass(slots=True)
class OllamaVoice:
    """/api/chat and /api/generate, which differ in how a line is built."""

    wish: Wish
    model: str
    request_id: str
    line: Callable[[str, float, str], Json]
    final: Callable[..., Json]
    content_type: str = NDJSON

    def whole(self, answer: Answer) -> bytes:
        return orjson.dumps(self._final(answer, answer.text))

    def opening(self) -> bytes:
        return b""

    def delta(self, delta: Delta) -> bytes:
        return ollama_wire.ndjson(self.line(self.model, time.time(), delta.text))

    def note(self, text: str) -> bytes:
        # NDJSON has no comments: a line that adds no text is the only sign of life every client takes.
        return ollama_wire.ndjson(self.line(self.model, time.time(), ""))

    def progress(self, progress: Progress) -> bytes:
        line = self.line(self.model, time.time(), "")
        return ollama_wire.ndjson(line | {"studium": {"progress": step(progress)}})

    def closing(self, answer: Answer) -> bytes:
        return ollama_wire.ndjson(self._final(answer, ""))

    def failure(self, error: StudiumError) -> bytes:
        return ollama_wire.ndjson(error_json(Dialect.OLLAMA, error))

    def _final(self, answer: Answer, text: str) -> Json:
        extra = report(answer, request_id=self.request_id, explain=self.wish.explain)
        return self.final(
            self.model, time.time(), answer.finish.value, timing_of(answer), text=text, studium=extra
        )


@dataclass(slots=True)
class AskVoice:
    """/api/ask: the report itself, and in a stream one JSON object per line with a `kind`."""

    wish: Wish
    request_id: str
    content_type: str = NDJSON

    def whole(self, answer: Answer) -> bytes:
        return orjson.dumps(self._body(answer))

    def opening(self) -> bytes:
        return b""

    def delta(self, delta: Delta) -> bytes:
        return ollama_wire.ndjson({"kind": "delta", "text": delta.text})

    def note(self, text: str) -> bytes:
        return ollama_wire.ndjson({"kind": "progress", "text": text})

    def progress(self, progress: Progress) -> bytes:
        return ollama_wire.ndjson({"kind": "progress"} | step(progress))

    def closing(self, answer: Answer) -> bytes:
        return ollama_wire.ndjson({"kind": "answer"} | self._body(answer))

    def failure(self, error: StudiumError) -> bytes:
        return ollama_wire.ndjson({"kind": "error", "error": str(error), "code": error.code})

    def _body(self, answer: Answer) -> Json:
        wish = self.wish
        return whole(answer, request_id=self.request_id, explain=wish.explain, ignored=wish.ignored)


def usage_of(answer: Answer) -> Json:
    """Return the tokens of the whole committee."""
    return openai_wire.usage(answer.prompt_tokens, answer.completion_tokens)


def timing_of(answer: Answer) -> Timing:
    """Return the durations Ollama tells; generating is what its students did, one after another or not."""
    return Timing(
        total_s=answer.seconds,
        load_s=sum(move.seconds for move in answer.moves if move.kind is MoveKind.LOAD),
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        completion_s=sum(member.generate_seconds for member in answer.members),
    )
