"""What a scripted model says: a pure function of the script, the messages and the seed.

`speak` decides the whole answer at once; `steps` tells it as pauses, pieces and breaks, for whoever has a clock
and a listener (the engine, the server). Tokens are words with the blanks before them, so that they join to the
text. Log-probabilities and embeddings are made from hashes: meaningless, but always the same, and well formed.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from studium.engines.scripted.obedience import obey
from studium.engines.scripted.schema import mismatch
from studium.engines.scripted.script import Fault, FaultKind, ModelScript
from studium.errors import PromptTooLong, Unsupported
from studium.records.messages import Ask, Finish, Piece, TokenLogprob

_TOKEN = re.compile(r"\s*\S+|\s+")
_VOCABULARY = (" the", " a", " no", " yes", " 0", " 1", " is", ".")
_BREAKS = {FaultKind.CRASH, FaultKind.HALF_STREAM, FaultKind.GARBAGE}


@dataclass(frozen=True, slots=True)
class Speech:
    """A decided answer. `logprobs` is empty, or as long as `tokens`."""

    prompt_tokens: int
    tokens: tuple[str, ...]
    finish: Finish
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        return "".join(self.tokens)


class Pause(NamedTuple):
    """Wait this long, perhaps for ever."""

    seconds: float


class Break(NamedTuple):
    """Stop here in this manner; nothing follows."""

    fault: Fault


def speak(script: ModelScript, ask: Ask, *, context_tokens: int) -> Speech:
    """Return what the model answers. Raises PromptTooLong, and Unsupported where it cannot do what was asked."""
    prompt_tokens = count_tokens(ask)
    if prompt_tokens >= context_tokens:
        raise PromptTooLong(
            f"the prompt has {prompt_tokens:,} tokens",
            expected=f"fewer than {context_tokens:,}",
            try_next="shorten the prompt, or give the model more context_tokens",
        )
    if ask.grammar is not None:
        raise Unsupported("a scripted model follows no grammar", try_next="ask without one")
    text = _until_stop(_answer(script, ask), ask.sampling.stop)
    tokens = tokenise(text, script.tokens)
    room = min(context_tokens - prompt_tokens, ask.sampling.max_tokens or context_tokens)
    said = tokens[:room]
    if ask.json_schema is not None:
        _check_schema("".join(said), ask)
    finish = Finish.LENGTH if len(tokens) > room else Finish.STOP
    return Speech(prompt_tokens, said, finish, _logprobs(said, ask))


def steps(script: ModelScript, speech: Speech, fault: Fault | None) -> Iterator[Pause | Piece | Break]:
    """Yield what happens while `speech` is said, with the fault that befalls it."""
    if fault is not None and fault.kind in (FaultKind.REFUSE, FaultKind.BUSY):
        yield Break(fault)
        return
    if script.first_token_s:
        yield Pause(script.first_token_s)
    for index, token in enumerate(speech.tokens):
        if fault is not None and index == fault.after_tokens:
            yield from _broken(fault)
        if index and script.token_s:
            yield Pause(script.token_s)
        logprobs = speech.logprobs[index : index + 1]
        if fault is not None and fault.kind is FaultKind.SLOW_DRIP:
            yield from _dripping(token, logprobs, fault.seconds)
        else:
            yield Piece(token, logprobs)
    if fault is not None and fault.after_tokens >= len(speech.tokens):
        yield from _broken(fault)


def tokenise(text: str, number: int | None = None) -> tuple[str, ...]:
    """Return the tokens of `text`: its words, or exactly `number` parts, some of them empty."""
    if number is None:
        return tuple(_TOKEN.findall(text))
    edges = [len(text) * index // number for index in range(number + 1)]
    return tuple(text[start:end] for start, end in pairwise(edges))


def count_tokens(ask: Ask) -> int:
    """Return the length of the prompt in tokens."""
    texts = [message.content for message in ask.messages] if ask.prompt is None else [ask.prompt]
    return sum(len(_TOKEN.findall(text)) for text in texts)


def embedding(script: ModelScript, text: str) -> tuple[float, ...]:
    """Return the scripted vector of `text`, or a unit vector in which texts that share words are near."""
    if text in script.embeddings:
        return script.embeddings[text]
    vector = [0.0] * script.embedding_size
    for word in text.lower().split() or [""]:
        digest = hashlib.sha256(word.encode("utf-8", "replace")).digest()
        vector[int.from_bytes(digest[:4], "big") % script.embedding_size] += 1.0 + digest[4] / 256
    length = math.sqrt(sum(value * value for value in vector))
    return tuple(value / length for value in vector)


def _answer(script: ModelScript, ask: Ask) -> str:
    if script.obeys and (obeyed := obey(ask)) is not None:
        return obeyed
    if ask.json_schema is not None and script.json_answer is not None:
        return script.json_answer
    question = _question(ask)
    turn = sum(message.role == "assistant" for message in ask.messages) + (ask.sampling.seed or 0)
    for rule in script.rules:
        match = rule.match(question)
        if match is True:
            return rule.answers[turn % len(rule.answers)]
        if match:
            return match.expand(rule.answers[turn % len(rule.answers)])
    return script.default[turn % len(script.default)]


def _question(ask: Ask) -> str:
    if ask.prompt is not None:
        return ask.prompt
    return next((message.content for message in reversed(ask.messages) if message.role == "user"), "")


def _until_stop(text: str, stops: Sequence[str]) -> str:
    ends = [text.index(stop) for stop in stops if stop and stop in text]
    return text[: min(ends)] if ends else text


def _check_schema(text: str, ask: Ask) -> None:
    if ask.json_schema is not None and (problem := mismatch(text, ask.json_schema)):
        raise Unsupported(
            f"the scripted answer {text[:100]!r} does not follow the JSON schema: {problem}",
            expected="a script whose answer does",
            try_next="change the script, or ask without a schema",
        )


def _logprobs(tokens: Sequence[str], ask: Ask) -> tuple[TokenLogprob, ...]:
    if ask.top_logprobs is None:
        return ()
    seed = ask.sampling.seed or 0
    return tuple(_logprob(token, index, seed, ask.top_logprobs) for index, token in enumerate(tokens))


def _logprob(token: str, index: int, seed: int, top: int) -> TokenLogprob:
    """The token gets more than half of the probability, each alternative half of what is left."""
    digest = hashlib.sha256(f"{seed} {index} {token}".encode("utf-8", "replace")).digest()
    probability = 0.5 + (digest[0] + 1) / 520
    others = [other for other in _VOCABULARY if other != token][: max(top - 1, 0)]
    ranked = [(other, math.log((1 - probability) / 2 ** (rank + 1))) for rank, other in enumerate(others)]
    chosen = (token, math.log(probability))
    return TokenLogprob(token, chosen[1], (chosen, *ranked) if top else ())


def _broken(fault: Fault) -> Iterator[Pause | Break]:
    if fault.kind is FaultKind.HANG:
        yield Pause(math.inf)
    elif fault.kind in _BREAKS:
        yield Break(fault)


def _dripping(token: str, logprobs: tuple[TokenLogprob, ...], seconds: float) -> Iterator[Pause | Piece]:
    for index, character in enumerate(token):
        yield Pause(seconds)
        yield Piece(character, logprobs if index == len(token) - 1 else ())
