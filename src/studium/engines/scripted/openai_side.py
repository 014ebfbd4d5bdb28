"""OpenAI's endpoints of the scripted server."""

import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from studium.engines import openai_wire
from studium.engines.openai_wire import Stamp
from studium.engines.scripted.delivery import Delivery, json_response
from studium.engines.scripted.faults import Faults
from studium.engines.scripted.forms import OpenAIForm
from studium.engines.scripted.script import ModelScript, Script
from studium.engines.scripted.speech import count_tokens, embedding, speak
from studium.errors import BadRequest, UnknownModel, Unsupported
from studium.records.messages import Ask, Message, Sampling

Handler = Callable[[web.BaseRequest, dict[str, Any]], Awaitable[web.StreamResponse]]


class OpenAISide:
    """Models are always there; loading belongs to the other side."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._faults = Faults()
        self._numbers = itertools.count(1)

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return the handlers by method and path under /v1."""
        return {
            ("POST", "/chat/completions"): self._chat,
            ("POST", "/completions"): self._complete,
            ("POST", "/embeddings"): self._embed,
            ("GET", "/models"): self._models,
            **{("GET", f"/models/{name}"): self._model for name in self._script.models},
        }

    async def _chat(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        top = (whole(body, "top_logprobs") or 0) if body.get("logprobs") else None
        ask = Ask(
            messages=messages_of(body),
            sampling=_sampling(body),
            top_logprobs=top,
            json_schema=_schema(body.get("response_format")),
        )
        return await self._answer(request, body, ask, chat=True)

    async def _complete(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        prompt = body.get("prompt")
        if not isinstance(prompt, str):
            raise BadRequest("prompt is missing", expected="one text")
        ask = Ask(prompt=prompt, sampling=_sampling(body), top_logprobs=whole(body, "logprobs"))
        return await self._answer(request, body, ask, chat=False)

    async def _answer(
        self, request: web.BaseRequest, body: dict[str, Any], ask: Ask, *, chat: bool
    ) -> web.StreamResponse:
        name, script = self._named(body)
        speech = speak(script, ask, context_tokens=script.context_tokens)
        form = OpenAIForm(
            stamp=Stamp(f"chatcmpl-{next(self._numbers)}", int(time.time()), name),
            chat=chat,
            logprobs=ask.top_logprobs is not None,
            include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        )
        delivery = Delivery(request, form, script, speech, self._faults.strike(name, script))
        return await (delivery.streamed() if body.get("stream") else delivery.whole())

    async def _embed(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        name, script = self._named(body)
        texts = texts_of(body.get("input"))
        vectors = vectors_of(name, script, texts)
        tokens = sum(count_tokens(Ask(prompt=text)) for text in texts)
        return json_response(openai_wire.embedding_list(name, vectors, tokens))

    async def _models(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        return json_response(openai_wire.model_list(list(self._script.models), created=0, owned_by="script"))

    async def _model(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        name = request.path.removeprefix("/v1/models/")
        return json_response(openai_wire.model_entry(name, created=0, owned_by="script"))

    def _named(self, body: dict[str, Any]) -> tuple[str, ModelScript]:
        name = body.get("model")
        if not isinstance(name, str) or name not in self._script.models:
            raise UnknownModel(f"no model {name!r}", expected="one of " + ", ".join(self._script.models))
        return name, self._script.models[name]


def messages_of(body: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the messages of a chat body of either protocol. Raises BadRequest."""
    given = body.get("messages")
    if not isinstance(given, list):
        raise BadRequest("messages is missing", expected="a list of messages")
    return tuple(_message(entry) for entry in given)


def texts_of(given: object) -> list[str]:
    """Return the texts to embed: one, or a list. Raises BadRequest."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRequest("input is no text", expected="a text, or a list of texts")
    return texts


def vectors_of(name: str, script: ModelScript, texts: list[str]) -> list[tuple[float, ...]]:
    """Return the embeddings of texts. Raises Unsupported where the script gives none."""
    if not script.embedding_size:
        raise Unsupported(f"{name} gives no embeddings")
    return [embedding(script, text) for text in texts]


def whole(body: Mapping[str, Any], name: str) -> int | None:
    """Return a field that holds a whole number, or None where it is left out. Raises BadRequest."""
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise BadRequest(f"{name} is {value!r}", expected="a whole number")
    return value


def stops_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the stop strings: one, or a list. Raises BadRequest."""
    stop = body.get("stop") or []
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(text, str) for text in stops):
        raise BadRequest(f"stop is {stop!r}", expected="a text, or a list of texts")
    return tuple(stops)


def _message(entry: object) -> Message:
    content = entry.get("content") if isinstance(entry, dict) else None
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
    if not isinstance(entry, dict) or not isinstance(content, str):
        raise BadRequest("a message has no text", expected="an object with role and content")
    return Message(str(entry.get("role", "user")), content)


def _sampling(body: Mapping[str, Any]) -> Sampling:
    return Sampling(
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        seed=whole(body, "seed"),
        max_tokens=whole(body, "max_tokens") or whole(body, "max_completion_tokens"),
        stop=stops_of(body),
    )


def _schema(response_format: Any) -> Mapping[str, Any] | None:
    if not isinstance(response_format, dict) or response_format.get("type") == "text":
        return None
    if response_format.get("type") == "json_object":
        return {"type": "object"}
    return (response_format.get("json_schema") or {}).get("schema") or {}
