"""Feedback on an answer by HTTP, and why students are asked in the order they are.

`POST /api/feedback` {request_id, rating: "good" | "bad", correction?, note?}: a correction alone, or with the rating
bad, says what would have been right. The reply comes when it is on disk. A key may rate only what it was answered.
`POST /api/why` {question}: each student's reliability at this kind of question. Nobody is asked.
"""

import asyncio
import time
from dataclasses import asdict

from aiohttp import web

from studium.records.grades import Feedback, Rating
from studium.serve.choosing.why import why
from studium.serve.history.history import UnknownAnswer
from studium.web import fields
from studium.web.bodies import json_body, json_response
from studium.web.conversation import require_text
from studium.web.failures import BadField, Refused
from studium.web.fields import Json
from studium.web.reception import RECEPTION, VISIT

MOST_CHARACTERS = 100_000
routes = web.RouteTableDef()


@routes.post("/api/feedback")
async def give(request: web.Request) -> web.Response:
    history = request.app[RECEPTION].studium.history
    feedback = feedback_of(await json_body(request), request[VISIT].key_name)
    await history.catch_up()
    try:
        return json_response(await asyncio.to_thread(history.rate, feedback))
    except UnknownAnswer as error:
        raise Refused(
            404, error.code, error.happened, expected=error.expected, try_next=error.try_next
        ) from error


@routes.post("/api/why")
async def explain(request: web.Request) -> web.Response:
    studium = request.app[RECEPTION].studium
    body = await json_body(request)
    question = require_text(fields.text(body, "question"), "question")
    return json_response(
        asdict(why(question, studium.ensemble.team.members(), studium.history, studium.fleet))
    )


def feedback_of(body: Json, api_key_name: str) -> Feedback:
    """Return what a body says. Raises BadField."""
    correction, rating = _short(body, "correction"), fields.choice(body, "rating", Rating)
    if correction and rating in (None, Rating.BAD):
        rating = Rating.CORRECTED
    if rating is None:
        raise fields.wrong("rating", None, '"good" or "bad", or a correction')
    return Feedback(
        request_id=_required(body, "request_id"),
        at=time.time(),
        rating=rating,
        api_key_name=api_key_name,
        correction=correction,
        note=_short(body, "note"),
    )


def _short(body: Json, name: str) -> str:
    text = fields.text(body, name)
    if len(text) > MOST_CHARACTERS:
        raise fields.wrong(name, text, f"at most {MOST_CHARACTERS:,} characters")
    return text


def _required(body: Json, name: str) -> str:
    if text := _short(body, name).strip():
        return text
    raise BadField(name, f"{name} is missing", expected="the answer's x-studium-request-id")
