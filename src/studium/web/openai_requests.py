"""OpenAI's request bodies into queries. Our own choices travel in an extra object:
`"studium": {"complexity", "strategy", "students", "domain", "explain", "timeout_s", "session", "refine", "cache"}`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from studium.errors import Unsupported
from studium.records.answers import Complexity, Query
from studium.records.messages import Sampling
from studium.web import conversation, fields
from studium.web.fields import Json

MOST_EMBEDDED = 2_048
MOST_STUDENTS = 64

# Values that mean "nothing of the kind", which clients send unasked.
_REFUSED_BY_ALL = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
}
_REFUSED_BY_CHAT = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}
_REFUSED_BY_COMPLETIONS = {"best_of": (1,), "echo": (False,), "suffix": ("",)}

# Accepted and without effect on the answer: they concern billing, storage and caching elsewhere.
_WITHOUT_EFFECT = {
    "metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort",
    "safety_identifier", "service_tier", "store", "user", "verbosity",
}  # fmt: skip
_READ = {
    "logprobs", "max_completion_tokens", "max_tokens", "messages", "model", "prompt", "repeat_penalty",
    "response_format", "seed", "stop", "stream", "stream_options", "studium", "temperature", "top_k",
    "top_logprobs", "top_p",
}  # fmt: skip
_KNOWN = _READ | _WITHOUT_EFFECT | {*_REFUSED_BY_ALL, *_REFUSED_BY_CHAT, *_REFUSED_BY_COMPLETIONS}
_REFUSED_CHATS, _REFUSED_COMPLETIONS = (
    _REFUSED_BY_ALL | _REFUSED_BY_CHAT,
    _REFUSED_BY_ALL | _REFUSED_BY_COMPLETIONS,
)


class Choices(NamedTuple):
    """What a caller chose about the ensemble, in the query.

    `explain` adds what each student said to the answer.
    """

    query: Query
    explain: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """A query and how its answer is to be delivered."""

    query: Query
    stream: bool
    include_usage: bool = False
    explain: bool = False
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbeddingWish:
    """Texts to embed. `base64` asks for little-endian float32 in base64, the OpenAI client's habit."""

    model: str
    texts: tuple[str, ...]
    base64: bool


def chat(body: Json, *, request_id: str = "", api_key_name: str = "") -> Wish:
    """Return what a /v1/chat/completions body asks for, and who asks. Raises BadField or Unsupported."""
    conversation.refuse(body, _REFUSED_CHATS)
    alternatives = fields.whole(body, "top_logprobs", 0, 20)
    query = Query(
        messages=conversation.messages_of(body),
        model=model_of(body),
        sampling=sampling_of(body),
        top_logprobs=(alternatives or 0) if fields.flag(body, "logprobs") else None,
        json_schema=_response_format(fields.mapping(body, "response_format")),
        request_id=request_id,
        api_key_name=api_key_name,
    )
    return _wish(body, choices_of(fields.mapping(body, "studium"), query))


def completion(body: Json) -> Wish:
    """Return what a /v1/completions body asks for: raw text to be continued, by one student."""
    conversation.refuse(body, _REFUSED_COMPLETIONS)
    query = Query(
        prompt=conversation.single_text(body, "prompt"),
        model=model_of(body),
        sampling=sampling_of(body),
        top_logprobs=fields.whole(body, "logprobs", 0, 20),
    )
    choices = choices_of(fields.mapping(body, "studium"), query)
    return _wish(body, choices._replace(query=replace(choices.query, strategy=None, domain=None)))


def embedding(body: Json) -> EmbeddingWish:
    """Return what a /v1/embeddings body asks for."""
    conversation.refuse(body, {"dimensions": ()}, instead="vectors have the model's own length")
    encoding = fields.text(body, "encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise fields.wrong("encoding_format", encoding, "float or base64")
    texts = fields.texts(body, "input", MOST_EMBEDDED)
    if not texts or not all(texts):
        raise fields.wrong("input", body.get("input"), "a text or a list of texts, none of them empty")
    return EmbeddingWish(model_of(body), texts, base64=encoding == "base64")


def model_of(body: Json) -> str:
    """Return the name of the model asked for. Raises BadField where there is none."""
    return conversation.require_text(fields.text(body, "model"), "model")


def sampling_of(body: Json) -> Sampling:
    """Return how tokens are to be drawn."""
    most = fields.whole(body, "max_completion_tokens", 1, conversation.MOST_TOKENS)
    return Sampling(
        temperature=fields.number(body, "temperature", 0, 2),
        top_k=fields.whole(body, "top_k", 0, conversation.MOST_TOKENS),
        top_p=fields.number(body, "top_p", 0, 1),
        repeat_penalty=fields.number(body, "repeat_penalty", 0, 10),
        seed=fields.whole(body, "seed", -(2**63), 2**63 - 1),
        max_tokens=most or fields.whole(body, "max_tokens", 1, conversation.MOST_TOKENS),
        stop=fields.texts(body, "stop", conversation.MOST_STOPS),
    )


def choices_of(extra: Json, asked: Query) -> Choices:
    """Return what was asked with the caller's choices about the ensemble, from our own object."""
    if not extra:
        return Choices(asked, explain=False)
    query = replace(
        asked,
        complexity=fields.choice(extra, "complexity", Complexity),
        strategy=fields.text(extra, "strategy") or None,
        students=fields.texts(extra, "students", MOST_STUDENTS),
        domain=fields.text(extra, "domain") or None,
        timeout_s=fields.number(extra, "timeout_s", 0.001, 86_400),
        session=fields.text(extra, "session"),
        refine=fields.wish(extra, "refine"),
        cache=fields.wish(extra, "cache"),
    )
    return Choices(query, fields.flag(extra, "explain"))


def _wish(body: Json, choices: Choices) -> Wish:
    options = fields.mapping(body, "stream_options")
    return Wish(
        query=choices.query,
        stream=fields.flag(body, "stream"),
        include_usage=fields.flag(options, "include_usage"),
        explain=choices.explain,
        ignored=tuple(sorted(body.keys() - _KNOWN)),
    )


def _response_format(wanted: Json) -> Mapping[str, Any] | None:
    kind = wanted.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind == "json_schema":
        schema = fields.mapping(wanted, "json_schema").get("schema")
        if not isinstance(schema, dict):
            raise fields.wrong("response_format.json_schema.schema", schema, "a JSON schema")
        return schema
    raise Unsupported(
        f"response_format {fields.shown(kind)} is not supported",
        expected="text, json_object or json_schema",
    )
