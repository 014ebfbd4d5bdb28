"""Studium's own route: a question with choices about who answers it, and how the answer came about.

`POST /api/ask` takes `question` (or `messages`) and, all optional: `model`, `complexity`, `strategy`,
`students`, `domain`, `explain`, `timeout_s`, `session`, `refine`, `cache`, `stream`, `temperature`, `max_tokens`,
`seed`, `stop`, `logprobs` (students then say how sure they are).
"""

from aiohttp import web

from studium.records.answers import Query
from studium.records.messages import Message
from studium.web import conversation, fields
from studium.web.bodies import json_body
from studium.web.delivery import deliver
from studium.web.fields import Json
from studium.web.openai_requests import Wish, choices_of, sampling_of
from studium.web.reception import VISIT
from studium.web.voices import AskVoice

_KNOWN = {
    "cache", "complexity", "domain", "explain", "logprobs", "max_completion_tokens", "max_tokens", "messages", "model",
    "question", "refine", "repeat_penalty", "seed", "session", "stop", "strategy", "stream", "students",
    "temperature", "timeout_s", "top_k", "top_p",
}  # fmt: skip
routes = web.RouteTableDef()


@routes.post("/api/ask")
async def ask(request: web.Request) -> web.StreamResponse:
    wish = wish_of(await json_body(request))
    return await deliver(request, wish, AskVoice(wish, request[VISIT].request_id))


def wish_of(body: Json) -> Wish:
    """Return what an /api/ask body asks for. Raises BadField or Unsupported."""
    query = Query(
        messages=_messages(body),
        model=fields.text(body, "model") or "auto",
        sampling=sampling_of(body),
        top_logprobs=0 if fields.flag(body, "logprobs") else None,
    )
    choices = choices_of(body, query)
    return Wish(
        choices.query,
        stream=fields.flag(body, "stream"),
        explain=choices.explain,
        ignored=tuple(sorted(body.keys() - _KNOWN)),
    )


def _messages(body: Json) -> tuple[Message, ...]:
    if body.get("messages") is not None:
        return conversation.messages_of(body)
    question = conversation.require_text(fields.text(body, "question"), "question")
    return (Message("user", question),)
