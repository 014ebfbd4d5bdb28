"""A teacher's traces: replies to prompts, kept where the domain verifies them, with log-probabilities where wanted.

A teacher is any model that can be loaded, or one that is served (an OpenAI-shaped endpoint: text only). In a file of
JSON lines a trace is a row (see `data`) with "teacher", and where log-probabilities were kept "tokens", the reply's
ids, and "top", for each of them the likeliest ids with their log-probabilities, [[[id, logprob], ...], ...].

Axes: B rows, T targets, K likeliest tokens.
"""

from asyncio import Semaphore, gather
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import orjson

from studium.config.kinds import Number, Whole, YesNo
from studium.config.schema import Count
from studium.domains.catalogue import domain
from studium.errors import BadRequest, ConfigurationError
from studium.train.config import Source
from studium.train.data import lines_of
from studium.train.models import Loaded, backend
from studium.train.rl.rollouts import text_of
from studium.train.rl.samplers import ModelSampler
from studium.train.rows import Row, completion_ids, prompt_ids

SERVED = ("http://", "https://")
_ROWS_AT_ONCE = 64
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """How traces are drawn: `each` replies to a prompt, of which at most `keep` different ones are kept.

    `verified`: only those the domain gives full marks, where there is a domain; temperature 0 gives one reply.
    """

    each: Annotated[int, Whole(1, 1000)] = 4
    keep: Count = 1
    temperature: Annotated[float, Number(0, 10)] = 0.7
    most_tokens: Count = 200
    verified: Annotated[bool, YesNo()] = True


class Top(NamedTuple):
    """The likeliest tokens at one place and their natural log-probabilities, likeliest first."""

    ids: Sequence[int]
    logprobs: Sequence[float]


class Trace(NamedTuple):
    """A teacher's reply, the completion of `row`; `top` has one entry per token of it, or none at all."""

    row: Row
    teacher: str
    tokens: Sequence[int] = ()
    top: Sequence[Top] = ()


class Teacher(Protocol):
    name: str

    def replies(self, rows: Sequence[Row], drawn: Drawn, seed: int) -> list[list[str]]:
        """Return finished replies to each row's prompt, `drawn.each` at most; blocks."""
        ...


class ModelTeacher:
    """A model in memory."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.name = loaded.name

    def replies(self, rows: Sequence[Row], drawn: Drawn, seed: int) -> list[list[str]]:
        tokenizer = self.loaded.tokenizer
        sampler = ModelSampler(self.loaded.model, tokenizer)
        groups = sampler.draw(
            [prompt_ids(tokenizer, row) for row in rows],
            most_tokens=drawn.most_tokens,
            each=drawn.each if drawn.temperature else 1,
            temperature=drawn.temperature,
            seed=seed,
        )
        return [[text_of(tokenizer, draw) for draw in draws if draw.ended] for draws in groups]


class ServedTeacher:
    """A model that is served: `ask` sends a conversation and returns the reply, several at a time.

    A question that fails is left out; ConfigurationError where all fail.
    """

    def __init__(
        self, name: str, ask: Callable[[Row, Drawn, int], Awaitable[str]], *, at_once: int = 8
    ) -> None:
        self.name = name
        self._ask = ask
        self._at_once = at_once

    def replies(self, rows: Sequence[Row], drawn: Drawn, seed: int) -> list[list[str]]:
        from asyncio import run

        return run(self._replies(rows, drawn, seed))

    async def _replies(self, rows: Sequence[Row], drawn: Drawn, seed: int) -> list[list[str]]:
        limit = Semaphore(self._at_once)
        each = drawn.each if drawn.temperature else 1

        async def one(row: Row, at: int) -> str:
            async with limit:
                return await self._ask(row, drawn, seed + at)

        asked = [one(row, at) for row in rows for at in range(each)]
        said = await gather(*asked, return_exceptions=True)
        failed = [one for one in said if isinstance(one, BaseException)]
        if failed and len(failed) == len(said):
            raise ConfigurationError(
                f"the teacher {self.name} gave no reply: {failed[0]}",
                expected="an endpoint that answers /chat/completions",
                try_next="see whether it is up, and what it calls its models",
            ) from failed[0]
        groups = [said[at * each : (at + 1) * each] for at in range(len(rows))]
        return [[one for one in group if isinstance(one, str) and one] for group in groups]


def endpoint_teacher(url: str) -> ServedTeacher:
    """Return a teacher at an OpenAI-shaped endpoint, "http://HOST/v1#MODEL"; a key is read from OPENAI_API_KEY."""
    import os

    import aiohttp

    base, _, model = url.partition("#")
    key = os.environ.get("OPENAI_API_KEY", "")
    headers = {"authorization": f"Bearer {key}"} if key else {}

    async def ask(row: Row, drawn: Drawn, seed: int) -> str:
        body = {
            "model": model,
            "messages": [asdict(one) for one in row.messages],
            "temperature": drawn.temperature,
            "max_tokens": drawn.most_tokens,
            "seed": seed,
        }
        limit = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=limit, headers=headers, raise_for_status=True) as client,
            client.post(f"{base.rstrip('/')}/chat/completions", json=body) as reply,
        ):
            choice = orjson.loads(await reply.read())["choices"][0]
        return choice["message"]["content"] if choice["finish_reason"] == "stop" else ""

    return ServedTeacher(model or base, ask)


def traces_of(teacher: Teacher, rows: Sequence[Row], drawn: Drawn, seed: int) -> list[Trace]:
    """Return the teacher's traces for the prompts of `rows`; blocks while it replies."""
    replies = teacher.replies(rows, drawn, seed)
    return [
        Trace(replace(row, id=f"{row.id}~{at}", completion=text, step=None), teacher.name)
        for row, group in zip(rows, replies, strict=True)
        for at, text in enumerate(_kept(row, group, drawn))
    ]


def with_logprobs(traces: Sequence[Trace], loaded: Loaded, likeliest: int) -> list[Trace]:
    """Return the traces with the teacher's `likeliest` tokens and log-probabilities at each token of the reply."""
    import torch

    found: list[Trace] = []
    tokenizer, pad = loaded.tokenizer, int(loaded.tokenizer.pad_token_id or 0)  # pyright: ignore[reportArgumentType]
    model: Any = loaded.model.eval()
    for first in range(0, len(traces), _ROWS_AT_ONCE):
        part = traces[first : first + _ROWS_AT_ONCE]
        prompts = [prompt_ids(tokenizer, one.row) for one in part]
        said = [completion_ids(tokenizer, one.row.completion, ends=one.row.ends) for one in part]
        most = max(len(one) + len(other) for one, other in zip(prompts, said, strict=True))
        whole = [
            [*one, *other, *[pad] * (most - len(one) - len(other))]
            for one, other in zip(prompts, said, strict=True)
        ]
        seen = [
            [1] * (len(one) + len(other)) + [0] * (most - len(one) - len(other))
            for one, other in zip(prompts, said, strict=True)
        ]
        with torch.inference_mode():
            logits_BTV = model(input_ids=torch.tensor(whole), attention_mask=torch.tensor(seen)).logits
        for at, trace in enumerate(part):
            start = len(prompts[at]) - 1
            place = slice(start, start + len(said[at]))
            best = logits_BTV[at, place].float().log_softmax(-1).topk(likeliest)
            top = [Top(*one) for one in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
            found.append(trace._replace(tokens=said[at], top=top))
    return found


def same_tokens(one: Loaded, other: Loaded) -> bool:
    """Say whether two models read and write the same tokens, so that one can learn the other's log-probabilities."""
    return backend(one.tokenizer).get_vocab() == backend(other.tokenizer).get_vocab()


def read_traces(sources: Sequence[Source]) -> list[Trace]:
    """Return the traces of files. Raises BadRequest naming file and line."""
    return [_trace(*one) for source in sources for one in lines_of(source)]


def write_traces(traces: Iterable[Trace], path: Path) -> None:
    """Write traces as JSON lines, all or nothing."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as out:
        for trace in traces:
            out.write(orjson.dumps(_line(trace)) + b"\n")
    part.replace(path)


def _kept(row: Row, replies: Sequence[str], drawn: Drawn) -> list[str]:
    different = list(dict.fromkeys(replies))
    if drawn.verified and row.problem is not None:
        verify, problem = domain(row.problem.domain).verify, row.problem
        different = [text for text in different if verify(problem, row.prefix + text) == 1.0]
    return different[: drawn.keep]


def _line(trace: Trace) -> dict[str, Any]:
    row = trace.row
    line: dict[str, Any] = {
        "id": row.id,
        "messages": [asdict(one) for one in row.messages],
        "completion": row.completion,
        "teacher": trace.teacher,
        "licence": row.licence,
        "source": row.source,
    }
    line |= {"prefix": row.prefix} if row.prefix else {}
    line |= {"problem": asdict(row.problem)} if row.problem else {}
    if trace.top:
        line |= {
            "tokens": list(trace.tokens),
            "top": [
                [[token, round(value, 6)] for token, value in zip(*one, strict=True)] for one in trace.top
            ],
        }
    return line


def _trace(place: str, row: Row, line: Any) -> Trace:
    try:
        top = [
            Top([int(token) for token, _ in one], [float(value) for _, value in one])
            for one in line.get("top", ())
        ]
        tokens = [int(one) for one in line.get("tokens", ())]
    except (TypeError, ValueError) as error:
        raise BadRequest(
            f"{place}: {error}", expected="'top' as [[[id, logprob], ...] for each of 'tokens']"
        ) from error
    if len(top) != len(tokens):
        raise BadRequest(
            f"{place}: {len(tokens)} tokens but 'top' for {len(top)}", expected="one entry of 'top' per token"
        )
    return Trace(row, str(line.get("teacher", "")), tokens, top)
