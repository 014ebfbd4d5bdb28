"""Messages and sampling as both protocols send them, into records. Text only: images and tools are refused by
name.

A parameter that would change the answer and that we cannot honour is an error, never silently dropped. One
we do not know at all is let through and named in the answer (`studium.ignored_parameters`).
"""

from collections.abc import Collection, Mapping
from typing import Any

from studium.errors import Unsupported
from studium.records.messages import Message
from studium.web import fields
from studium.web.failures import BadField
from studium.web.fields import Json

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
MOST_MESSAGES = 10_000
MOST_TOKENS = 1_000_000
MOST_STOPS = 16


def messages_of(body: Json) -> tuple[Message, ...]:
    """Return the conversation in `messages`, at least one turn long. Raises BadField or Unsupported."""
    value = body.get("messages")
    if not isinstance(value, list) or not value:
        raise fields.wrong("messages", value, "a list of at least one message")
    if len(value) > MOST_MESSAGES:
        raise BadField(
            "messages", f"messages holds {len(value):,} turns", expected=f"at most {MOST_MESSAGES:,}"
        )
    return tuple(_message(item, f"messages[{index}]") for index, item in enumerate(value))


def single_text(body: Json, param: str) -> str:
    """Return one prompt: a string, or a list that holds one. Token ids and several prompts are refused."""
    value = body.get(param)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list):
        raise BadField(
            param,
            f"{param} holds {len(value)} items",
            expected="expected one text, not several or token ids",
            try_next="send one request for each",
        )
    if not isinstance(value, str) or not value:
        raise fields.wrong(param, value, "a text that is not empty")
    return value


def refuse(body: Json, harmless: Mapping[str, Collection[Any]], *, instead: str = "") -> None:
    """Raise Unsupported for a parameter that asks for something. `harmless` holds the values that do not."""
    if harmless.keys().isdisjoint(body):
        return
    for param, values in harmless.items():
        value = body.get(param)
        if value is not None and value not in values:
            raise Unsupported(
                f"{param} = {fields.shown(value)} is not supported",
                expected=instead or "answers are text, one per request",
                try_next=f"leave {param} out",
            )


def json_schema_of(value: object, param: str) -> Mapping[str, Any] | None:
    """Return a schema given as an object; "json" means any object, "" and None no schema."""
    if value is None or value == "":
        return None
    if value == "json":
        return {"type": "object"}
    if not isinstance(value, dict):
        raise fields.wrong(param, value, '"json" or a JSON schema')
    return value


def _message(item: object, where: str) -> Message:
    if not isinstance(item, dict):
        raise fields.wrong(where, item, "an object with role and content")
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise fields.wrong(f"{where}.role", role, "one of " + ", ".join(ROLES))
    for param in ("tool_calls", "function_call", "images", "audio"):
        if item.get(param):
            raise Unsupported(
                f"{where}.{param} is not supported",
                expected="messages of text",
                try_next=f"leave {param} out",
            )
    return Message(ROLES[role], _content(item.get("content"), f"{where}.content"))


def _content(value: object, where: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise fields.wrong(where, value, "text or a list of text parts")
    return "".join(_part(part, f"{where}[{index}]") for index, part in enumerate(value))


def _part(part: object, where: str) -> str:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise fields.wrong(where, part, 'a part such as {"type": "text", "text": "..."}')
    if part["type"] != "text":
        raise Unsupported(
            f"{where} is of type {fields.shown(part['type'])}",
            expected="text parts; no student here reads images, sound or files",
            try_next="send the text alone",
        )
    if not isinstance(part.get("text"), str):
        raise fields.wrong(f"{where}.text", part.get("text"), "a string")
    return part["text"]


def require_text(text: str, param: str) -> str:
    """Return `text` unless there is nothing in it. Raises BadField."""
    if not text.strip():
        raise BadField(param, f"{param} is empty", expected="expected a question")
    return text
