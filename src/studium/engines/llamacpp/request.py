"""An ask in the words of llama-server, whose OpenAI endpoints understand more than the standard."""

from typing import Any, NamedTuple

from studium.engines.openai_client import chat_body, completion_body
from studium.errors import BadRequest, Unsupported
from studium.records.messages import Ask
from studium.records.models import ModelSpec


class Request(NamedTuple):
    """Where to post what."""

    path: str
    body: dict[str, Any]


def request_for(model: ModelSpec, ask: Ask) -> Request:
    """Return the request that carries an ask. Raises BadRequest or Unsupported."""
    _check(model, ask)
    path, make_body = (
        ("/v1/chat/completions", chat_body) if ask.prompt is None else ("/v1/completions", completion_body)
    )
    body = make_body(model.name, ask)
    if ask.top_logprobs is not None:
        # The server takes 0 for "none at all"; the alternatives are left out again on their way back.
        body["logprobs" if ask.prompt is not None else "top_logprobs"] = max(1, ask.top_logprobs)
    own = {
        "top_k": ask.sampling.top_k,
        "repeat_penalty": ask.sampling.repeat_penalty,
        "json_schema": ask.json_schema,
        "grammar": ask.grammar,
    }
    body |= {name: value for name, value in own.items() if value is not None}
    # A kept prefix changes the batches and with them the last bits of the logits: who gives a seed
    # wants the same answer again more than a quicker one.
    body["cache_prompt"] = ask.sampling.seed is None
    return Request(path, body)


def _check(model: ModelSpec, ask: Ask) -> None:
    if model.embeddings:
        raise Unsupported(
            f"{model.name} is loaded for embeddings", try_next="declare it a second time without embeddings"
        )
    if bool(ask.messages) == bool(ask.prompt):
        raise BadRequest(
            f"{model.name} was asked {'two things' if ask.prompt else 'nothing'}",
            expected="either messages or a prompt",
        )
    if ask.json_schema is not None and ask.grammar is not None:
        raise BadRequest(f"{model.name} was given a JSON schema and a grammar", expected="one of them")
