"""Ollama's request bodies into queries. `stream` defaults to true, sampling lives in `options`, and a body
without a question loads its model, or with `keep_alive` 0 unloads it. Our own choices travel in a
`studium` object, as on /v1.
"""

from dataclasses import dataclass
from enum import Enum

from studium.engines import ollama_wire
from studium.records.answers import Query
from studium.records.messages import Message, Sampling
from studium.web import conversation, fields
from studium.web.fields import Json
from studium.web.openai_requests import Wish, choices_of, model_of

_REFUSED_BY_CHAT = {"tools": ([],), "think": (False,)}
_REFUSED_BY_GENERATE = {
    "images": ([],),
    "suffix": ("",),
    "template": ("",),
    "context": ([],),
    "think": (False,),
}
LATEST = ":latest"


class Chore(Enum):
    """What a body without a question asks for."""

    LOAD = "load"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """Bring a student's model into memory or take it out; nobody is asked anything."""

    chore: Chore
    model: str


def chat(body: Json) -> Wish | Housekeeping:
    """Return what an /api/chat body asks for. Raises BadField or Unsupported."""
    conversation.refuse(body, _REFUSED_BY_CHAT)
    if body.get("messages") in (None, []):
        return _housekeeping(body)
    return _wish(body, messages=conversation.messages_of(body))


def generate(body: Json) -> Wish | Housekeeping:
    """Return what an /api/generate body asks for; `raw` continues the prompt as it stands."""
    conversation.refuse(body, _REFUSED_BY_GENERATE)
    prompt = fields.text(body, "prompt")
    if not prompt:
        return _housekeeping(body)
    if fields.flag(body, "raw"):
        return _wish(body, prompt=prompt)
    system = fields.text(body, "system")
    opening = (Message("system", system),) if system else ()
    return _wish(body, messages=(*opening, Message("user", prompt)))


def plain_name(body: Json) -> str:
    """Return the model's name as the roster has it: clients add `:latest` to a name without a tag."""
    name = model_of(body if body.get("model") else {"model": body.get("name")})
    return name.removesuffix(LATEST)


def _housekeeping(body: Json) -> Housekeeping:
    stays_s = ollama_wire.keep_alive_s(body.get("keep_alive"))
    return Housekeeping(Chore.UNLOAD if stays_s == 0 else Chore.LOAD, plain_name(body))


def _wish(body: Json, *, messages: tuple[Message, ...] = (), prompt: str | None = None) -> Wish:
    # keep_alive is checked even where it has no effect: the planner alone decides who stays in memory.
    ollama_wire.keep_alive_s(body.get("keep_alive"))
    alternatives = fields.whole(body, "top_logprobs", 0, 20)
    query = Query(
        messages=messages,
        prompt=prompt,
        model=plain_name(body),
        sampling=_sampling(fields.mapping(body, "options")),
        top_logprobs=(alternatives or 0) if fields.flag(body, "logprobs") else None,
        json_schema=conversation.json_schema_of(body.get("format"), "format"),
    )
    choices = choices_of(fields.mapping(body, "studium"), query)
    return Wish(choices.query, stream=fields.flag(body, "stream", default=True), explain=choices.explain)


def _sampling(options: Json) -> Sampling:
    conversation.refuse(
        options,
        {"frequency_penalty": (0,), "presence_penalty": (0,), "mirostat": (0,)},
        instead="temperature, top_k, top_p, repeat_penalty, seed, num_predict and stop",
    )
    most = fields.whole(options, "num_predict", -2, conversation.MOST_TOKENS)
    return Sampling(
        temperature=fields.number(options, "temperature", 0, 2),
        top_k=fields.whole(options, "top_k", 0, conversation.MOST_TOKENS),
        top_p=fields.number(options, "top_p", 0, 1),
        repeat_penalty=fields.number(options, "repeat_penalty", 0, 10),
        seed=fields.whole(options, "seed", -(2**63), 2**63 - 1),
        max_tokens=most if most is not None and most > 0 else None,
        stop=fields.texts(options, "stop", conversation.MOST_STOPS),
    )
