"""Turns the lines of one streamed answer of Ollama into pieces and a reply."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from studium.errors import BadReply, Unsupported
from studium.records.messages import Ask, Finish, Piece, Reply, TokenLogprob


class Listening:
    """Gathers what is heard. `done` once the final line came."""

    def __init__(self, model: str, ask: Ask, clock: Callable[[], float]) -> None:
        self.done = False
        self._model = model
        self._wants_logprobs = ask.top_logprobs is not None
        self._clock = clock
        self._started = clock()
        self._first_token_s: float | None = None
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    @property
    def heard_chars(self) -> int:
        return sum(map(len, self._texts))

    def hear(self, line: Mapping[str, Any]) -> Iterator[Piece | Reply]:
        """Yield what one line says. Raises BadReply, and Unsupported where log-probabilities are missing."""
        try:
            piece = _piece(line)
        except (KeyError, TypeError, ValueError, AttributeError) as cause:
            raise BadReply(
                f"{self._model}: Ollama sent a line of another shape: {str(line)[:200]}"
            ) from cause
        if piece.text or piece.logprobs:
            yield self._kept(piece)
        if line.get("done"):
            self.done = True
            yield self._reply(line)

    def _kept(self, piece: Piece) -> Piece:
        if self._wants_logprobs and not piece.logprobs:
            raise Unsupported(
                f"{self._model}: this Ollama gives no log-probabilities",
                expected="Ollama 0.12.11 or later",
                try_next="upgrade Ollama, or ask without them",
            )
        if self._first_token_s is None:
            self._first_token_s = self._clock() - self._started
        self._texts.append(piece.text)
        self._logprobs += piece.logprobs
        return piece

    def _reply(self, line: Mapping[str, Any]) -> Reply:
        return Reply(
            text="".join(self._texts),
            finish=Finish.LENGTH if line.get("done_reason") == "length" else Finish.STOP,
            seconds=self._clock() - self._started,
            prompt_tokens=line.get("prompt_eval_count"),
            completion_tokens=line.get("eval_count"),
            first_token_s=self._first_token_s,
            logprobs=tuple(self._logprobs),
        )


def _piece(line: Mapping[str, Any]) -> Piece:
    text = line["message"]["content"] if "message" in line else line["response"]
    if not isinstance(text, str):
        raise TypeError("content is no text")
    return Piece(text, tuple(_logprob(entry) for entry in line.get("logprobs") or ()))


def _logprob(entry: Mapping[str, Any]) -> TokenLogprob:
    top = tuple((other["token"], float(other["logprob"])) for other in entry.get("top_logprobs") or ())
    return TokenLogprob(entry["token"], float(entry["logprob"]), top)
