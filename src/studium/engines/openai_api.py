"""Anything that is OpenAI-shaped: vLLM, llama-server, a cloud. Its models occupy no memory of ours.

The wire itself is `openai_client`. Here: the key (from an environment variable, never from a file), what a
call costs, which refusals are tried again, and what the standard does not say but a server may understand.
Only what failed before its first piece is tried again, and only where the server cannot have begun to work:
status 429 and 503, and a connection that was refused.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp

from studium.engines.http_errors import HttpRefusal
from studium.engines.openai_client import (
    chat_body,
    completion_body,
    fetch_embeddings,
    fetch_json,
    stream_chat,
)
from studium.errors import (
    BadReply,
    ConfigurationError,
    EngineDied,
    EngineFailure,
    EngineMissing,
    EngineTimeout,
    UnknownModel,
    Unsupported,
)
from studium.records.messages import Ask, Embeddings, Piece, Reply
from studium.records.models import Capabilities, MemoryEstimate, ModelSpec, Residence

_CHECK_S = 10.0
_EMBED_S = 60.0
_SHOWN_MODELS = 8
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_DIALECTS: Mapping[str, Mapping[str, str]] = {
    "openai": {},
    "vllm": {"top_k": "top_k", "repeat_penalty": "repetition_penalty"},
    "llama_server": {"top_k": "top_k", "repeat_penalty": "repeat_penalty"},
}
"""What servers call the two choices that the standard does not have; a model's `options.dialect` picks one."""


class Price(NamedTuple):
    """What a model costs, in US dollars per million tokens."""

    prompt_usd_per_million: float
    completion_usd_per_million: float


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently a busy server is asked again.

    A Retry-After longer than `longest_wait_s` is not waited for: the caller has other models.
    """

    attempts: int = 3
    first_wait_s: float = 0.5
    longest_wait_s: float = 10.0


class OpenAIApiEngine:
    """Speaks to one server. `url` is the base, usually ending in /v1.

    `api_key_env` names the variable of `environment` that holds the key. `prices` is keyed by a model's
    source; a reply of a model without price has cost None.
    """

    capabilities = Capabilities(manages_memory=False, logprobs=True, json_schema=True, embeddings=True)

    def __init__(
        self,
        url: str,
        *,
        name: str = "openai_api",
        api_key_env: str | None = None,
        prices: Mapping[str, Price] | None = None,
        retries: Retries | None = None,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._url = url.rstrip("/")
        self._api_key_env = api_key_env
        self._prices = prices or {}
        self._retries = retries or Retries()
        self._environment = environment
        self._clock = clock
        self._sleep = sleep
        self._loaded: dict[str, Residence] = {}
        self._open_session: aiohttp.ClientSession | None = None

    async def estimate(self, model: ModelSpec) -> MemoryEstimate:
        """Return nothing: the model's memory is its server's."""
        await self._check(model, _CHECK_S)
        return MemoryEstimate(0, 0, 0)

    async def load(self, model: ModelSpec, *, timeout_s: float) -> Residence:
        """Check that the server has the model; one small request, free of charge."""
        if model.adapters:
            raise Unsupported(
                f"{model.name}: adapters cannot be sent to {self._url}",
                try_next="give the server the adapter, and name it as the model's source",
            )
        _dialect(model)
        if model.name not in self._loaded:
            started = self._clock()
            await self._check(model, timeout_s)
            seconds = self._clock() - started
            self._loaded[model.name] = Residence(model.name, None, None, load_seconds=seconds)
        return self._loaded[model.name]

    async def unload(self, model: ModelSpec) -> None:
        self._loaded.pop(model.name, None)

    async def residences(self) -> Sequence[Residence]:
        return list(self._loaded.values())

    async def generate(self, model: ModelSpec, ask: Ask) -> AsyncGenerator[Piece | Reply, None]:
        self._require(model)
        path, body = _request(model, ask)
        started = self._clock()
        for attempt in range(1, self._retries.attempts + 1):
            waited_s, said = self._clock() - started, False
            parts = stream_chat(
                self._session(),
                self._url + path,
                body,
                model=model.name,
                timeout_s=ask.timeout_s - waited_s,
                headers=self._headers(),
                stream=ask.live,
            )
            try:
                async with aclosing(parts):
                    async for part in parts:
                        said = True
                        yield self._closed(model, part, waited_s) if isinstance(part, Reply) else part
                return
            except EngineFailure as error:
                if said:
                    raise
                await self._wait_to_retry(error, attempt, started + ask.timeout_s)

    async def embed(self, model: ModelSpec, texts: Sequence[str]) -> Embeddings:
        self._require(model)
        if not model.embeddings:
            raise Unsupported(
                f"{model.name} is not declared to give embeddings",
                expected="a model with `embeddings: true`",
                try_next="name such a model",
            )
        deadline = self._clock() + _EMBED_S
        attempt = 0
        while True:
            attempt += 1
            try:
                return await fetch_embeddings(
                    self._session(),
                    f"{self._url}/embeddings",
                    texts,
                    model_id=model.source,
                    model=model.name,
                    timeout_s=deadline - self._clock(),
                    headers=self._headers(),
                )
            except EngineFailure as error:
                await self._wait_to_retry(error, attempt, deadline)

    async def models(self) -> Sequence[str]:
        return await self._listed("the server", _CHECK_S)

    async def close(self) -> None:
        self._loaded.clear()
        session, self._open_session = self._open_session, None
        if session is not None:
            await session.close()

    async def _check(self, model: ModelSpec, timeout_s: float) -> None:
        listed = await self._listed(model.name, timeout_s)
        if model.source not in listed:
            raise UnknownModel(
                f"{self._url} has no model {model.source!r}",
                expected="one of " + ", ".join(listed[:_SHOWN_MODELS]) if listed else "a server with models",
                try_next=f"correct the source of {model.name}",
            )

    async def _listed(self, asker: str, timeout_s: float) -> list[str]:
        deadline = self._clock() + timeout_s
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await fetch_json(
                    self._session(),
                    f"{self._url}/models",
                    model=asker,
                    timeout_s=deadline - self._clock(),
                    headers=self._headers(),
                )
                return _ids(answer, self._url)
            except EngineTimeout:
                raise
            except (EngineFailure, UnknownModel) as error:
                if attempt == self._retries.attempts or not _is_busy(error):
                    raise self._missing(error) from error
                await self._wait_to_retry(error, attempt, deadline)

    def _missing(self, error: Exception) -> EngineMissing:
        if isinstance(error, HttpRefusal) and error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            named = f"the key in {self._api_key_env}" if self._api_key_env else "requests without a key"
            return EngineMissing(
                f"{self._url} refuses {named} with status {error.status}",
                expected="a key that the server knows",
                try_next=f"set `api_key_env` of engine {self.name} to the variable that holds it",
            )
        return EngineMissing(
            f"no OpenAI-shaped server answers at {self._url}: {getattr(error, 'happened', error)}",
            expected="a list of models at /models",
            try_next="start the server, or correct the url, which usually ends in /v1",
        )

    async def _wait_to_retry(self, error: Exception, attempt: int, deadline: float) -> None:
        """Sleep before another attempt, or raise `error` where none is worth it."""
        wait_s = self._retries.first_wait_s * 2 ** (attempt - 1)
        if isinstance(error, HttpRefusal) and error.retry_after_s is not None:
            wait_s = error.retry_after_s
        patient = wait_s <= self._retries.longest_wait_s and self._clock() + wait_s < deadline
        if attempt >= self._retries.attempts or not patient or not _is_busy(error):
            raise error
        await self._sleep(wait_s)

    def _closed(self, model: ModelSpec, reply: Reply, waited_s: float) -> Reply:
        """Return the reply with its cost, and with the time that earlier attempts took."""
        first_s = None if reply.first_token_s is None else reply.first_token_s + waited_s
        cost = self._cost_usd(model, reply)
        return replace(reply, seconds=reply.seconds + waited_s, first_token_s=first_s, cost_usd=cost)

    def _cost_usd(self, model: ModelSpec, reply: Reply) -> float | None:
        price = self._prices.get(model.source)
        if price is None or reply.prompt_tokens is None or reply.completion_tokens is None:
            return None
        prompt_usd = reply.prompt_tokens * price.prompt_usd_per_million
        return (prompt_usd + reply.completion_tokens * price.completion_usd_per_million) / 1e6

    def _require(self, model: ModelSpec) -> None:
        if model.name not in self._loaded:
            raise EngineDied(
                f"{model.name} is not loaded", expected="a loaded model", try_next="load it first"
            )

    def _headers(self) -> dict[str, str]:
        if self._api_key_env is None:
            return {}
        key = self._environment.get(self._api_key_env)
        if not key:
            raise ConfigurationError(
                f"the environment variable {self._api_key_env} is not set",
                expected=f"the key of engine {self.name} in it",
                try_next=f"export {self._api_key_env}=...",
            )
        return {"Authorization": f"Bearer {key}"}

    def _session(self) -> aiohttp.ClientSession:
        if self._open_session is None:
            self._open_session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self._open_session


def _request(model: ModelSpec, ask: Ask) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of an ask. Raises Unsupported."""
    if model.embeddings:
        raise Unsupported(f"{model.name} is declared for embeddings", try_next="ask another model")
    if ask.grammar is not None:
        raise Unsupported(
            f"{model.name}: grammars are not in the OpenAI protocol", try_next="give a JSON schema"
        )
    extra = _extra_choices(model, ask)
    if ask.prompt is None:
        return "/chat/completions", chat_body(model.source, ask) | extra | _response_format(ask)
    if ask.json_schema is not None:
        raise Unsupported(
            f"{model.name}: a raw prompt cannot bring a schema", try_next="send it as a message"
        )
    return "/completions", completion_body(model.source, ask) | extra


def _response_format(ask: Ask) -> dict[str, Any]:
    if ask.json_schema is None:
        return {}
    schema = {"name": "answer", "schema": dict(ask.json_schema), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _extra_choices(model: ModelSpec, ask: Ask) -> dict[str, Any]:
    chosen = {"top_k": ask.sampling.top_k, "repeat_penalty": ask.sampling.repeat_penalty}
    names = _dialect(model)
    missing = [name for name, value in chosen.items() if value is not None and name not in names]
    if missing:
        raise Unsupported(
            f"{model.name}: {missing[0]} is not in the OpenAI protocol",
            expected="temperature, top_p, seed, max_tokens and stop",
            try_next="set the model's options.dialect to vllm or llama_server where the server is one",
        )
    return {names[name]: value for name, value in chosen.items() if value is not None}


def _dialect(model: ModelSpec) -> Mapping[str, str]:
    dialect = model.options.get("dialect", "openai")
    if dialect not in _DIALECTS:
        raise ConfigurationError(
            f"{model.name}: options.dialect is {dialect!r}", expected="one of " + ", ".join(_DIALECTS)
        )
    return _DIALECTS[dialect]


def _is_busy(error: Exception) -> bool:
    if isinstance(error, HttpRefusal):
        return error.status in _BUSY
    return isinstance(error, EngineDied) and isinstance(error.__cause__, aiohttp.ClientConnectorError)


def _ids(answer: Any, url: str) -> list[str]:
    try:
        return [str(entry["id"]) for entry in answer["data"]]
    except (KeyError, TypeError) as cause:
        raise BadReply(
            f"{url}/models lists models in another shape", expected="the OpenAI protocol"
        ) from cause
