"""Ollama's endpoints of the scripted server: the same models, with loading, derived models and pulls.

Like Ollama it loads a model at its first request, keeps it for `keep_alive`, and cuts a prompt that is too long
unless the request says `truncate: false`.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from studium.engines import ollama_wire
from studium.engines.ollama_wire import ListedModel, Timing
from studium.engines.scripted.delivery import FOREVER_S, Delivery, json_response
from studium.engines.scripted.faults import LOAD_FAULTS, UNLOAD_FAULTS, Faults
from studium.engines.scripted.forms import OllamaForm
from studium.engines.scripted.openai_side import messages_of, stops_of, texts_of, vectors_of, whole
from studium.engines.scripted.pulls import Pulls
from studium.engines.scripted.script import FaultKind, ModelScript, Script
from studium.engines.scripted.speech import Speech, count_tokens, speak
from studium.errors import BadRequest, DoesNotFit, ModelBroken, PromptTooLong, UnknownModel
from studium.records.messages import Ask, Message, Sampling

Handler = Callable[[web.BaseRequest, dict[str, Any]], Awaitable[web.StreamResponse]]

VERSION = "0.12.11"
"""The first version that gives log-probabilities and can be told not to cut prompts."""
_LAYERS, _KV_HEADS, _HEADS, _WIDTH = 2, 1, 4, 64


@dataclass(frozen=True, slots=True)
class _Stored:
    """A model that could be loaded. `system` and `parameters` are what a derived model adds."""

    script: ModelScript
    modified_unix_s: float
    parent: str = ""
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def listed(self, name: str) -> ListedModel:
        identity = repr((name, self.parent, self.system, sorted(self.parameters.items())))
        digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()
        size = self.script.resident_bytes
        return ListedModel(name, size, digest, self.modified_unix_s, family="llama", parent=self.parent)


class OllamaSide:
    """The state of an Ollama server: what is stored, and what is loaded until when (Unix seconds)."""

    def __init__(self, script: Script, version: str = VERSION) -> None:
        now = time.time()
        self._stored = {tagged(name): _Stored(model, now) for name, model in script.models.items()}
        self._version_text = version
        self._expires: dict[str, float] = {}
        self._context: dict[str, int] = {}
        self._faults = Faults()
        self._pulls = Pulls(script.registry)

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """Return the handlers by method and path under /api."""
        return {
            ("POST", "/chat"): self._chat,
            ("POST", "/generate"): self._generate,
            ("POST", "/embed"): self._embed,
            ("GET", "/tags"): self._tags,
            ("GET", "/ps"): self._ps,
            ("POST", "/show"): self._show,
            ("GET", "/version"): self._version,
            ("POST", "/create"): self._create,
            ("POST", "/pull"): self._pull,
            ("DELETE", "/delete"): self._delete,
        }

    async def _chat(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        return await self._answer(request, body, messages_of(body | {"messages": body.get("messages") or []}))

    async def _generate(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        prompt = body.get("prompt") or ""
        if not isinstance(prompt, str):
            raise BadRequest("prompt is no text")
        if body.get("raw"):
            return await self._answer(request, body, prompt)
        system = [Message("system", body["system"])] if body.get("system") else []
        return await self._answer(request, body, (*system, Message("user", prompt)) if prompt else ())

    async def _answer(
        self, request: web.BaseRequest, body: dict[str, Any], said: tuple[Message, ...] | str
    ) -> web.StreamResponse:
        name, stored = self._named(body)
        chat, now = request.path.endswith("/chat"), time.time()
        keep_s = ollama_wire.keep_alive_s(body.get("keep_alive"))
        if not said and keep_s == 0:
            self._unload(name, stored)
            return json_response(_final(chat)(name, now, "unload"))
        options = {**stored.parameters, **(body.get("options") or {})}
        context_tokens = whole(options, "num_ctx") or stored.script.context_tokens
        await self._load(name, stored, context_tokens, keep_s)
        if not said:
            return json_response(_final(chat)(name, now, "load"))
        speech = _speech(stored, body, options, said, context_tokens)
        form = OllamaForm(name, now, chat)
        delivery = Delivery(request, form, stored.script, speech, self._faults.strike(name, stored.script))
        try:
            return await (delivery.whole() if body.get("stream") is False else delivery.streamed())
        finally:
            self._expires[name] = time.time() + keep_s

    async def _embed(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        name, stored = self._named(body)
        texts = texts_of(body.get("input"))
        await self._load(
            name, stored, stored.script.context_tokens, ollama_wire.keep_alive_s(body.get("keep_alive"))
        )
        vectors = vectors_of(name, stored.script, texts)
        tokens = sum(count_tokens(Ask(prompt=text)) for text in texts)
        return json_response(ollama_wire.embed(name, vectors, Timing(prompt_tokens=tokens)))

    async def _tags(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        listed = [stored.listed(name) for name, stored in self._stored.items()]
        return json_response(ollama_wire.tags(listed))

    async def _ps(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        now = time.time()
        self._expires = {name: until for name, until in self._expires.items() if until > now}
        return json_response(
            ollama_wire.ps([self._ps_entry(name, until) for name, until in self._expires.items()])
        )

    def _ps_entry(self, name: str, until: float) -> dict[str, Any]:
        stored = self._stored[name]
        resident = stored.script.resident_bytes
        return ollama_wire.ps_entry(
            stored.listed(name),
            resident_bytes=resident,
            vram_bytes=resident,
            expires_unix_s=until,
            context_tokens=self._context[name],
        )

    async def _show(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        name, stored = self._named(body)
        parameters = "\n".join(_parameter_lines(stored.parameters))
        answer = ollama_wire.show(
            stored.listed(name),
            modelfile=f"# Modelfile generated by the scripted server\nFROM {stored.parent or name}\n",
            parameters=parameters,
            system=stored.system,
            model_info=_model_info(stored.script),
            capabilities=("completion", "embedding") if stored.script.embedding_size else ("completion",),
        )
        return json_response(answer)

    async def _version(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        return json_response(ollama_wire.version(self._version_text))

    async def _create(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        base_name, base = self._named({"model": body.get("from")})
        parameters = {**base.parameters, **(body.get("parameters") or {})}
        self._stored[_name_of(body)] = replace(
            base,
            parent=base_name,
            system=body.get("system") or base.system,
            parameters=parameters,
            modified_unix_s=time.time(),
        )
        return _progress_answer(body, (ollama_wire.progress(f"using existing layer {base_name}"),))

    async def _pull(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        name = _name_of(body)
        stored = self._stored.get(name)
        script = self._pulls.find(name) if stored is None else stored.script
        streamed = body.get("stream") is not False
        if script is None:
            return await self._pulls.refuse(request, streamed=streamed)
        pulled = stored or _Stored(script, time.time())
        sent = await self._pulls.send(request, pulled.listed(name), script, streamed=streamed)
        if sent.whole:
            self._stored.setdefault(name, pulled)
        return sent.response

    async def _delete(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        name, stored = self._named(body)
        self._unload(name, stored)
        del self._stored[name]
        self._expires.pop(name, None)
        self._pulls.forget(name)
        return web.Response()

    async def _load(self, name: str, stored: _Stored, context_tokens: int, keep_s: float) -> None:
        if self._expires.get(name, -math.inf) <= time.time():
            fault = self._faults.strike(name, stored.script, LOAD_FAULTS)
            hangs = fault is not None and fault.kind is FaultKind.HANG_AT_LOAD
            if hangs or stored.script.load_s:
                await asyncio.sleep(FOREVER_S if hangs else stored.script.load_s)
            if fault is not None:
                raise _load_error(fault.kind, stored.script)
        self._context[name] = context_tokens
        self._expires[name] = time.time() + keep_s

    def _unload(self, name: str, stored: _Stored) -> None:
        if name in self._expires and not self._faults.strike(name, stored.script, UNLOAD_FAULTS):
            del self._expires[name]

    def _named(self, body: Mapping[str, Any]) -> tuple[str, _Stored]:
        name = _name_of(body)
        if name not in self._stored:
            raise UnknownModel(f"model '{body.get('model') or body.get('name')}' not found")
        return name, self._stored[name]


def tagged(name: str) -> str:
    """Return a model's name with its tag, as Ollama lists it."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _name_of(body: Mapping[str, Any]) -> str:
    name = body.get("model") or body.get("name")
    if not isinstance(name, str):
        raise BadRequest("model is required")
    return tagged(name)


def _final(chat: bool) -> Callable[[str, float, str], dict[str, Any]]:
    return ollama_wire.chat_final if chat else ollama_wire.generate_final


def _speech(
    stored: _Stored,
    body: Mapping[str, Any],
    options: Mapping[str, Any],
    said: tuple[Message, ...] | str,
    context_tokens: int,
) -> Speech:
    ask = Ask(
        messages=() if isinstance(said, str) else _with_system(said, stored.system),
        prompt=said if isinstance(said, str) else None,
        sampling=_sampling(options),
        top_logprobs=(whole(body, "top_logprobs") or 0) if body.get("logprobs") else None,
        json_schema={"type": "object"} if body.get("format") == "json" else body.get("format") or None,
    )
    try:
        return speak(stored.script, ask, context_tokens=context_tokens)
    except PromptTooLong:
        if body.get("truncate") is False:
            raise BadRequest("the input length exceeds the context length") from None
        return speak(stored.script, _cut(ask, context_tokens), context_tokens=context_tokens)


def _cut(ask: Ask, context_tokens: int) -> Ask:
    """Keep the end of the last message alone, in half of the context: what matters is that the rest is lost."""
    text = ask.messages[-1].content if ask.prompt is None else ask.prompt
    return replace(ask, messages=(), prompt=" ".join(text.split()[-max(context_tokens // 2, 1) :]))


def _with_system(messages: tuple[Message, ...], system: str) -> tuple[Message, ...]:
    if not system or any(message.role == "system" for message in messages):
        return messages
    return (Message("system", system), *messages)


def _sampling(options: Mapping[str, Any]) -> Sampling:
    limit = whole(options, "num_predict")
    return Sampling(
        seed=whole(options, "seed"),
        max_tokens=limit if limit is not None and limit > 0 else None,
        stop=stops_of(options),
    )


def _load_error(kind: FaultKind, script: ModelScript) -> DoesNotFit | ModelBroken:
    if kind is FaultKind.OUT_OF_MEMORY:
        needed = script.resident_bytes / 2**30
        return DoesNotFit(f"model requires more system memory ({needed:.1f} GiB) than is available (0.1 GiB)")
    return ModelBroken("llama runner process has terminated: exit status 2")


def _parameter_lines(parameters: Mapping[str, Any]) -> Iterator[str]:
    for name, value in parameters.items():
        for single in value if isinstance(value, list | tuple) else [value]:
            yield f"{name:<30} " + (f'"{single}"' if isinstance(single, str) else f"{single}")


def _model_info(script: ModelScript) -> dict[str, Any]:
    return {
        "general.architecture": "llama",
        "general.parameter_count": script.resident_bytes,
        "llama.block_count": _LAYERS,
        "llama.attention.head_count": _HEADS,
        "llama.attention.head_count_kv": _KV_HEADS,
        "llama.embedding_length": _WIDTH,
        "llama.context_length": script.context_tokens,
    }


def _progress_answer(body: Mapping[str, Any], lines: Any) -> web.Response:
    last = ollama_wire.progress("success")
    if body.get("stream") is False:
        return json_response(last)
    content = b"".join(ollama_wire.ndjson(line) for line in (*lines, last))
    return web.Response(body=content, headers={"Content-Type": "application/x-ndjson"})
