"""Pulls on the scripted server: what its registry holds, how far each pull came, and how they break.

Like Ollama it sends its first line before it knows whether the model exists, keeps the parts it has fetched when
nobody listens any more, and goes on from them. Besides the script's registry a pull brings any built-in script.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from aiohttp import web

from studium.engines import ollama_wire
from studium.engines.ollama_wire import ListedModel
from studium.engines.scripted.delivery import FOREVER_S, GARBAGE, cut, error_answer, json_response
from studium.engines.scripted.faults import PULL_FAULTS, Faults
from studium.engines.scripted.script import BUILT_IN, Fault, FaultKind, ModelScript

PARTS = 4
_MANIFEST = ollama_wire.progress("pulling manifest")
_SUCCESS = ollama_wire.progress("success")
_UNKNOWN = ollama_wire.error_body("pull model manifest: file does not exist")
_REFUSAL = ollama_wire.error_body("max retries exceeded: unexpected EOF")


class Sent(NamedTuple):
    """The answer to a pull, and whether the model is there now."""

    response: web.StreamResponse
    whole: bool


class Pulls:
    """Remembers how many parts of each model were fetched."""

    def __init__(self, registry: Mapping[str, ModelScript]) -> None:
        self._registry = registry
        self._fetched: dict[str, int] = {}
        self._faults = Faults()

    def find(self, name: str) -> ModelScript | None:
        """Return the script that a pull of `name` (with its tag) would bring."""
        bare = name.removesuffix(":latest")
        return self._registry.get(name) or self._registry.get(bare) or BUILT_IN.get(name.partition(":")[0])

    def forget(self, name: str) -> None:
        """Begin again at the next pull of `name`: it was deleted."""
        self._fetched.pop(name, None)

    async def refuse(self, request: web.BaseRequest, *, streamed: bool) -> web.StreamResponse:
        """Say that the registry has no such model: in a stream after its first line."""
        if not streamed:
            return json_response(_UNKNOWN, status=500)
        response = await _begin(request)
        await response.write(ollama_wire.ndjson(_UNKNOWN))
        return response

    async def send(
        self, request: web.BaseRequest, model: ListedModel, script: ModelScript, *, streamed: bool
    ) -> Sent:
        """Fetch the missing parts of `model` in their time, and say so line by line."""
        fault = self._faults.strike(model.name, replace(script, fault=script.pull_fault), PULL_FAULTS)
        fetched = self._fetched.get(model.name, 0)
        if not streamed:
            await asyncio.sleep((PARTS - fetched) * script.part_s)
            return (
                Sent(error_answer(Fault(FaultKind.REFUSE)), False)
                if fault
                else Sent(json_response(_SUCCESS), True)
            )
        response = await _begin(request)
        for part in range(fetched, PARTS + 1):
            self._fetched[model.name] = part
            line = _line(model, part)
            await response.write(line)
            if fault is not None and part >= fault.after_tokens:
                await _break(request, response, fault, line)
                return Sent(response, False)
            if part < PARTS:
                await asyncio.sleep(script.part_s)
        for last in (ollama_wire.progress("verifying sha256 digest"), _SUCCESS):
            await response.write(ollama_wire.ndjson(last))
        return Sent(response, True)


async def _begin(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    await response.write(ollama_wire.ndjson(_MANIFEST))
    return response


def _line(model: ListedModel, part: int) -> bytes:
    digest, done = f"sha256:{model.digest}", model.size_bytes * part // PARTS
    return ollama_wire.ndjson(
        ollama_wire.progress(
            f"pulling {model.digest[:12]}", digest=digest, total_bytes=model.size_bytes, completed_bytes=done
        )
    )


async def _break(request: web.BaseRequest, response: web.StreamResponse, fault: Fault, line: bytes) -> None:
    match fault.kind:
        case FaultKind.REFUSE:
            await response.write(ollama_wire.ndjson(_REFUSAL))
        case FaultKind.GARBAGE:
            await response.write(GARBAGE + b"\n")
        case FaultKind.CRASH:
            cut(request, reset=False)
        case FaultKind.HANG:
            await asyncio.sleep(FOREVER_S)
        case FaultKind.STALL:
            for _ in range(int(FOREVER_S / max(fault.seconds, 0.01))):
                await asyncio.sleep(fault.seconds)
                await response.write(line)
        case _:
            pass  # half a stream: it ends here
