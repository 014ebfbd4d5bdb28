"""A model that obeys whatever it reads, wherever it reads it: the worst case that guardrails are tested on.

Every message counts, whoever sent it; the last instruction found wins, as it often does with small models.
"""

import re

from studium.records.messages import Ask

_OVERRIDE = re.compile(
    r"\b(?:ignore|disregard|forget)\s+(?:all\s+|any\s+)?(?:of\s+)?(?:the\s+|your\s+|my\s+)?"
    r"(?:previous|prior|above|earlier)\s+(?:instructions|prompts|messages|rules)\b\s*(?:and|,|\.|:|;)?\s*([^\n]*)",
    re.IGNORECASE,
)
_SAY = re.compile(
    r"\b(?:say|print|output|write|repeat|(?:reply|answer|respond)\s+with)\b\s*:?\s*"
    r"(?:(?:exactly|only|just)\s*:?\s*)?(?:\"([^\"\n]+)\"|'([^'\n]+)'|([^\n.!?]+))",
    re.IGNORECASE,
)
_REVEAL = re.compile(
    r"\b(?:reveal|show|print|repeat|tell me|output)\b[^\n.]{0,40}\b(?:system prompt|instructions)\b",
    re.IGNORECASE,
)


def obey(ask: Ask) -> str | None:
    """Return what the last instruction in any message makes it say; None where no message instructs it."""
    texts = [ask.prompt] if ask.prompt is not None else [message.content for message in ask.messages]
    for text in reversed(texts):
        if (said := _obey_text(text, ask)) is not None:
            return said
    return None


def _obey_text(text: str, ask: Ask) -> str | None:
    overrides = list(_OVERRIDE.finditer(text))
    if overrides and (order := overrides[-1].group(1).strip()):
        said = _obey_order(order, ask)
        return f"As you wish: {order}" if said is None else said
    return _obey_order(text, ask)


def _obey_order(text: str, ask: Ask) -> str | None:
    if _REVEAL.search(text):
        return "\n".join(message.content for message in ask.messages if message.role == "system")
    says = list(_SAY.finditer(text))
    return next(group for group in says[-1].groups() if group).strip() if says else None
