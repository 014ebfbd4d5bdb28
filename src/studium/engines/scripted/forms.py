"""The four ways in which the scripted server writes one speech: two protocols, chat and plain text each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from studium.engines import ollama_wire, openai_wire
from studium.engines.ollama_wire import Timing
from studium.engines.scripted.speech import Speech
from studium.records.messages import Piece, TokenLogprob


class Form(Protocol):
    """How a speech is put into bytes, streamed or whole."""

    @property
    def stream_type(self) -> str:
        """The content type of a stream."""
        ...

    def opening(self) -> bytes: ...

    def piece(self, piece: Piece) -> bytes: ...

    def closing(self, speech: Speech, timing: Timing) -> bytes: ...

    def whole(self, speech: Speech, timing: Timing) -> dict[str, Any]: ...

    def frame(self, content: bytes) -> bytes:
        """Return raw bytes as a part of the stream, for garbage."""
        ...


@dataclass(frozen=True, slots=True)
class OpenAIForm:
    """/v1/chat/completions, or with `chat` False /v1/completions."""

    stamp: openai_wire.Stamp
    chat: bool
    logprobs: bool
    include_usage: bool
    stream_type: str = "text/event-stream"

    def opening(self) -> bytes:
        return openai_wire.sse(openai_wire.chat_role_chunk(self.stamp)) if self.chat else b""

    def piece(self, piece: Piece) -> bytes:
        build = openai_wire.chat_chunk if self.chat else openai_wire.text_completion_chunk
        return openai_wire.sse(build(self.stamp, piece.text, logprobs=self._shown(piece.logprobs)))

    def closing(self, speech: Speech, timing: Timing) -> bytes:
        if self.chat:
            last = openai_wire.chat_finish_chunk(self.stamp, speech.finish)
        else:
            last = openai_wire.text_completion_chunk(self.stamp, "", speech.finish)
        return openai_wire.sse(last) + self._usage_event(speech) + openai_wire.SSE_DONE

    def whole(self, speech: Speech, timing: Timing) -> dict[str, Any]:
        build = openai_wire.chat_completion if self.chat else openai_wire.text_completion
        logprobs = self._shown(speech.logprobs)
        return build(self.stamp, speech.text, speech.finish, _usage(speech), logprobs=logprobs)

    def frame(self, content: bytes) -> bytes:
        return openai_wire.sse(content)

    def _usage_event(self, speech: Speech) -> bytes:
        if not self.include_usage:
            return b""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return openai_wire.sse(openai_wire.usage_chunk(self.stamp, _usage(speech), kind=kind))

    def _shown(self, logprobs: Sequence[TokenLogprob]) -> Sequence[TokenLogprob] | None:
        return logprobs if self.logprobs else None


@dataclass(frozen=True, slots=True)
class OllamaForm:
    """/api/chat, or with `chat` False /api/generate."""

    model: str
    created_unix_s: float
    chat: bool
    stream_type: str = "application/x-ndjson"

    def opening(self) -> bytes:
        return b""

    def piece(self, piece: Piece) -> bytes:
        build: Callable[..., dict[str, Any]] = (
            ollama_wire.chat_line if self.chat else ollama_wire.generate_line
        )
        return ollama_wire.ndjson(build(self.model, self.created_unix_s, piece.text) | _shown(piece.logprobs))

    def closing(self, speech: Speech, timing: Timing) -> bytes:
        return ollama_wire.ndjson(self._final(speech, timing, ""))

    def whole(self, speech: Speech, timing: Timing) -> dict[str, Any]:
        return self._final(speech, timing, speech.text) | _shown(speech.logprobs)

    def frame(self, content: bytes) -> bytes:
        return content + b"\n"

    def _final(self, speech: Speech, timing: Timing, text: str) -> dict[str, Any]:
        build = ollama_wire.chat_final if self.chat else ollama_wire.generate_final
        return build(self.model, self.created_unix_s, speech.finish, timing, text=text)


def _usage(speech: Speech) -> dict[str, Any]:
    return openai_wire.usage(speech.prompt_tokens, len(speech.tokens))


def _shown(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {"logprobs": openai_wire.chat_logprobs(logprobs)["content"]} if logprobs else {}
