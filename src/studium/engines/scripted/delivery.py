"""Send one speech over HTTP: in its time, whole or streamed, and with the misbehaviour its script asks for."""

import asyncio
import socket
import struct
import time
from dataclasses import dataclass
from http import HTTPStatus

import orjson
from aiohttp import web

from studium.engines.ollama_wire import Timing
from studium.engines.scripted.forms import Form
from studium.engines.scripted.script import Fault, FaultKind, ModelScript
from studium.engines.scripted.speech import Break, Pause, Speech, steps
from studium.errors import StudiumBug
from studium.records.messages import Piece

GARBAGE = b"\x00\xff{]garbage"
FOREVER_S = 3600.0
"""How long a hanging model hangs; callers give up sooner, and their disconnecting ends it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One answer on its way."""

    request: web.BaseRequest
    form: Form
    script: ModelScript
    speech: Speech
    fault: Fault | None

    async def whole(self) -> web.StreamResponse:
        """Send it at once, after the time it takes."""
        if self.fault is not None and self.fault.kind is FaultKind.SLOW_DRIP:
            return await self._drip(self.fault.seconds)
        started = time.monotonic()
        for step in steps(self.script, self.speech, self.fault):
            if isinstance(step, Pause):
                await asyncio.sleep(min(step.seconds, FOREVER_S))
            elif isinstance(step, Break):
                return await self._break_whole(step.fault)
        return json_response(self.form.whole(self.speech, self._timing(started)))

    async def streamed(self) -> web.StreamResponse:
        """Send it piece by piece; a script without waiting times is sent in one write, which costs least."""
        started = time.monotonic()
        if self.fault is None and not self.script.first_token_s and not self.script.token_s:
            return web.Response(
                body=self._all_at_once(started), headers={"Content-Type": self.form.stream_type}
            )
        response = web.StreamResponse(headers={"Content-Type": self.form.stream_type})
        for step in steps(self.script, self.speech, self.fault):
            if isinstance(step, Break) and step.fault.kind in _ERRORS:
                return error_answer(step.fault)
            if not response.prepared:
                await response.prepare(self.request)
                await response.write(self.form.opening())
            if isinstance(step, Break):
                return await self._break_stream(response, step.fault)
            await self._step(response, step)
        if not response.prepared:
            await response.prepare(self.request)
        await response.write(self.form.closing(self.speech, self._timing(started)))
        return response

    async def _step(self, response: web.StreamResponse, step: Pause | Piece) -> None:
        if isinstance(step, Pause):
            await asyncio.sleep(min(step.seconds, FOREVER_S))
        else:
            await response.write(self.form.piece(step))

    def _all_at_once(self, started: float) -> bytes:
        pieces = [
            self.form.piece(Piece(token, self.speech.logprobs[index : index + 1]))
            for index, token in enumerate(self.speech.tokens)
        ]
        return self.form.opening() + b"".join(pieces) + self.form.closing(self.speech, self._timing(started))

    def _timing(self, started: float) -> Timing:
        total_s = time.monotonic() - started
        return Timing(
            total_s=total_s,
            prompt_tokens=self.speech.prompt_tokens,
            prompt_s=min(self.script.first_token_s, total_s),
            completion_tokens=len(self.speech.tokens),
            completion_s=max(total_s - self.script.first_token_s, 0.0),
        )

    async def _drip(self, seconds: float) -> web.StreamResponse:
        body = orjson.dumps(self.form.whole(self.speech, self._timing(time.monotonic())))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(body)
        await response.prepare(self.request)
        for byte in body:
            await response.write(bytes((byte,)))
            await asyncio.sleep(seconds)
        return response

    async def _break_whole(self, fault: Fault) -> web.StreamResponse:
        if fault.kind in _ERRORS:
            return error_answer(fault)
        if fault.kind is FaultKind.GARBAGE:
            return web.Response(body=GARBAGE, content_type="application/json")
        body = orjson.dumps(self.form.whole(self.speech, Timing()))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(body)
        if fault.kind is FaultKind.HALF_STREAM:
            await response.prepare(self.request)
            await response.write(body[: len(body) // 2])
        cut(self.request, reset=fault.kind is FaultKind.CRASH)
        return response

    async def _break_stream(self, response: web.StreamResponse, fault: Fault) -> web.StreamResponse:
        match fault.kind:
            case FaultKind.GARBAGE:
                await response.write(self.form.frame(GARBAGE))
            case FaultKind.CRASH:
                # A reset throws away what the other side has not read yet: only where nothing was said.
                cut(self.request, reset=fault.after_tokens == 0)
            case FaultKind.HALF_STREAM:
                pass
            case _:
                raise StudiumBug(f"{fault.kind} does not break a stream")
        return response


_ERRORS = {FaultKind.REFUSE: HTTPStatus.INTERNAL_SERVER_ERROR, FaultKind.BUSY: HTTPStatus.TOO_MANY_REQUESTS}


def error_answer(fault: Fault) -> web.Response:
    """Return status 500, or 429 with Retry-After. The body is understood by clients of either protocol."""
    status = _ERRORS[fault.kind]
    message = "scripted refusal" if fault.kind is FaultKind.REFUSE else "scripted: too many requests"
    response = json_response({"error": {"message": message, "type": "server_error"}}, status=status)
    if fault.kind is FaultKind.BUSY:
        response.headers["Retry-After"] = f"{fault.seconds:g}"
    return response


def json_response(body: object, *, status: int = 200) -> web.Response:
    """Return a body of JSON."""
    return web.Response(body=orjson.dumps(body), status=status, headers={"Content-Type": "application/json"})


def cut(request: web.BaseRequest, *, reset: bool) -> None:
    """End the connection without another word, with a TCP reset if asked."""
    if (transport := request.transport) is None:
        return
    if reset:
        linger_not = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)
    transport.abort()
