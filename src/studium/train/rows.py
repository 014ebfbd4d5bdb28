"""What is trained on, as rows, and how a row becomes tokens: one rendering for training, evaluation and serving.

A prompt is rendered by the chat template that travels with the model, GGUF file included, so what a stage sees is
what the served model sees. Only the completion and its end token are trained on. Prompt, prefix and completion are
encoded apart, as a sampler must: `preflight` refuses rows where that differs from encoding the whole conversation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from studium.domains.protocol import Problem
from studium.records.messages import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that is not trained on, as PyTorch's cross entropy knows it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One reply to learn, or to be drawn: `completion` is empty where it is only a prompt.

    `prefix` is what the reply says already (the steps before a step); it is not trained on. `problem` is there where a
    domain can verify what is said, `step` (from 0) where the completion is one step of its solution. `weight`
    multiplies the row's loss. `rejected` is a reply that is not to be given. `ends` is False where more of the reply
    follows (a step with others after it): no end token is taught there. `licence` is that of the row's source,
    `source` says where it came from, for people.
    """

    id: str
    messages: tuple[Message, ...]
    completion: str = ""
    prefix: str = ""
    problem: Problem | None = None
    step: int | None = None
    weight: float = 1.0
    rejected: bool = False
    ends: bool = True
    licence: str = ""
    source: str = ""


class Encoded(NamedTuple):
    """A row as tokens: `ids` whole, of which the first `num_prompt` are not trained on."""

    row_id: str
    ids: Sequence[int]
    num_prompt: int
    weight: float = 1.0

    @property
    def labels(self) -> Sequence[int]:
        return [IGNORED] * self.num_prompt + list(self.ids[self.num_prompt :])


def asked(prompt: str) -> tuple[Message, ...]:
    """Return a conversation of one question."""
    return (Message("user", prompt),)


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", row: Row) -> list[int]:
    """Return the tokens up to where the reply goes on: conversation, start of the reply, prefix."""
    conversation = [{"role": one.role, "content": one.content} for one in row.messages]
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert isinstance(text, str)
    return [*_plain(tokenizer, text), *(_plain(tokenizer, row.prefix) if row.prefix else ())]


def encode(tokenizer: "PreTrainedTokenizerBase", row: Row) -> Encoded:
    """Return a row with its completion, and the end token where the reply ends with it."""
    prompt = prompt_ids(tokenizer, row)
    completion = completion_ids(tokenizer, row.completion, ends=row.ends)
    return Encoded(row.id, [*prompt, *completion], len(prompt), row.weight)


def completion_ids(tokenizer: "PreTrainedTokenizerBase", completion: str, *, ends: bool = True) -> list[int]:
    """Return what a model is to say, its end token last where the reply ends with it."""
    assert isinstance(tokenizer.eos_token_id, int)
    return [*_plain(tokenizer, completion), *([tokenizer.eos_token_id] if ends else ())]


def whole_ids(tokenizer: "PreTrainedTokenizerBase", row: Row) -> list[int]:
    """Return the tokens of the finished conversation as the template writes it, to compare `encode` with."""
    said = [*row.messages, Message("assistant", row.prefix + row.completion)]
    conversation = [{"role": one.role, "content": one.content} for one in said]
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=False)
    assert isinstance(text, str)
    return _plain(tokenizer, text)


def with_completion(row: Row, completion: str) -> Row:
    return replace(row, completion=completion)


def _plain(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    ids: Any = tokenizer.encode(text, add_special_tokens=False)
    return list(ids)
