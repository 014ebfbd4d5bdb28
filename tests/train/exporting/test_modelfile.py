"""The Go template is held to the students' Jinja template by a small reader of Go's text/template."""

import re
import subprocess

import jinja2
import pytest

from studium.errors import ConfigurationError
from studium.train.exporting.modelfile import GO_TEMPLATE, Manner, modelfile, vllm_command, vllm_words
from studium.train.tokenizer import CHAT_TEMPLATE

CONVERSATIONS = [
    [("user", "What is 4 + 5?")],
    [("system", "You are a pirate."), ("user", " a  b\n\n")],
    [("user", "6+2?"), ("assistant", "6+2=8\nAnswer: 8"), ("user", "{{ .Content }} <b>")],
]


def go(template: str, messages: list[tuple[str, str]]) -> str:
    """Render what Ollama's templates are made of: range, if eq, else if eq, end, and fields, as Go documents them."""
    parts = re.split(r"\{\{ (.*?) \}\}", template)
    start = parts.index("range .Messages")
    depth, end = 1, start
    while depth:
        end += 2
        depth += parts[end].startswith(("if ", "range ")) - (parts[end] == "end")
    said = "".join(_body(parts[start + 1 : end], role, content) for role, content in messages)
    return "".join(parts[:start:2]) + said + parts[end + 1]


def _body(parts: list[str], role: str, content: str) -> str:
    said, live, done = parts[0], True, False
    for action, text in zip(parts[1::2], parts[2::2], strict=True):
        if condition := re.fullmatch(r'(?:else )?if eq \.Role "(\w+)"', action):
            live = not done and condition[1] == role
            done = done or live
        elif action == "end":
            live = True
        elif live:
            assert action == ".Content", action
            said += content
        said += text if live else ""
    return said


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_the_go_template_writes_conversations_as_the_students_were_trained(
    messages: list[tuple[str, str]],
) -> None:
    turns = [{"role": role, "content": content} for role, content in messages]
    expected = jinja2.Template(CHAT_TEMPLATE).render(messages=turns, add_generation_prompt=True)
    assert go(GO_TEMPLATE, messages) == expected


def test_a_modelfile_says_how_the_student_is_asked() -> None:
    text = modelfile("base.gguf", "adapter.gguf", Manner(512, 0.0, 'Say "no".'), chat_template=CHAT_TEMPLATE)
    lines = text.splitlines()
    assert lines[:2] == ["FROM ./base.gguf", "ADAPTER ./adapter.gguf"]
    assert 'PARAMETER stop "<|end|>"' in lines and "PARAMETER num_ctx 512" in lines
    assert "PARAMETER temperature 0" in lines and "PARAMETER repeat_penalty 1" in lines
    assert lines[-1] == 'SYSTEM """Say "no"."""'
    assert "ADAPTER" not in modelfile("model.gguf", "", Manner(512), chat_template=CHAT_TEMPLATE)


def test_what_a_modelfile_cannot_hold_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="system prompt"):
        modelfile("m", "", Manner(8, 0.0, 'a """ b'), chat_template=CHAT_TEMPLATE)
    with pytest.raises(ConfigurationError, match="chat template of its own"):
        modelfile("m", "", Manner(8), chat_template="{{ messages }}")


def test_vllm_is_told_the_rank_it_is_built_for() -> None:
    words = vllm_words("change", adapter_rank=12, context_tokens=512)
    assert words[words.index("--max-lora-rank") + 1] == "16"
    assert words[words.index("--lora-modules") + 1] == "change=./adapter"
    assert "--enable-lora" not in vllm_words("change", adapter_rank=None, context_tokens=512)
    with pytest.raises(ConfigurationError, match="rank 900"):
        vllm_words("change", adapter_rank=900, context_tokens=512)


def test_the_command_for_people_is_what_vllm_is_told() -> None:
    words = vllm_words("change", adapter_rank=12, context_tokens=512)
    said = subprocess.run(
        ["sh", "-c", "vllm() { printf '%s\\n' \"$@\"; }\n" + vllm_command(words)],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert said.stdout.splitlines() == words
