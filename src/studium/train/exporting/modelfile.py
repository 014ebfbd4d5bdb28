"""The words other programs want: Ollama's Modelfile with the chat template in Go, vLLM's command line. Pure.

Ollama renders a conversation by a Go template over .Messages. Ours is the students' Jinja template once more
(`tokenizer.CHAT_TEMPLATE`); another model's cannot be translated here and is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from studium.errors import ConfigurationError
from studium.train.tokenizer import ASSISTANT, CHAT_TEMPLATE, END, USER

# Without a blank between actions, so that nothing needs trimming. System messages are read and print nothing.
GO_TEMPLATE = (
    "{{ range .Messages }}"
    f'{{{{ if eq .Role "user" }}}}{USER}{{{{ .Content }}}}'
    f'{{{{ else if eq .Role "assistant" }}}}{ASSISTANT}{{{{ .Content }}}}{END}'
    "{{ end }}{{ end }}"
    f"{ASSISTANT}"
)
STOPS = (END, USER)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a student is asked: system prompt, sampling, context in tokens (None: all the model has)."""

    context_tokens: int | None = None
    temperature: float = 0.0
    system_prompt: str = ""


def modelfile(source: str, adapter: str, manner: Manner, *, chat_template: str) -> str:
    """Return a Modelfile for GGUF files beside it; `adapter` is "" for a merged model.

    Raises ConfigurationError for a chat template that has no counterpart in Go here.
    """
    if chat_template != CHAT_TEMPLATE:
        raise ConfigurationError(
            "the model has a chat template of its own, which is not translated to Ollama's Go templates",
            expected="the template of Studium's students",
            try_next="--to gguf: llama.cpp reads the template in the file",
        )
    lines = [f"FROM ./{source}"]
    lines += [f"ADAPTER ./{adapter}"] if adapter else []
    lines += [f'TEMPLATE """{GO_TEMPLATE}"""']
    lines += [f"PARAMETER {name} {value}" for name, value in _parameters(manner)]
    lines += [f'SYSTEM """{_quoted(manner.system_prompt)}"""'] if manner.system_prompt else []
    return "\n".join(lines) + "\n"


def _parameters(manner: Manner) -> Sequence[tuple[str, str]]:
    return [
        *(("stop", f'"{one}"') for one in STOPS),
        ("temperature", f"{manner.temperature:g}"),
        *((("num_ctx", str(manner.context_tokens)),) if manner.context_tokens else ()),
        # Ollama's own defaults would cut and punish what a greedy student says.
        *((("top_k", "1"), ("repeat_penalty", "1")) if manner.temperature == 0 else ()),
    ]


def _quoted(text: str) -> str:
    if '"""' in text:
        raise ConfigurationError(
            'the system prompt holds """, which ends a text in a Modelfile',
            expected='a system prompt without """',
        )
    return text


def vllm_words(name: str, *, adapter_rank: int | None, context_tokens: int) -> list[str]:
    """Return what `vllm` is told to serve a folder from within it; `adapter_rank` None: a merged model."""
    place = "." if adapter_rank is None else "./base"
    words = ["serve", place, "--served-model-name", name if adapter_rank is None else "base"]
    words += ["--chat-template", f"{place}/chat_template.jinja", "--max-model-len", str(context_tokens)]
    if adapter_rank is not None:
        words += ["--enable-lora", "--max-lora-rank", str(_lora_rank(adapter_rank))]
        words += ["--lora-modules", f"{name}=./adapter"]
    return words


def vllm_command(words: Sequence[str]) -> str:
    """Return such words as a command for a shell, an option a line."""
    return "vllm " + " ".join(f"\\\n  {word}" if word.startswith("--") else word for word in words)


def _lora_rank(rank: int) -> int:
    """Return the least rank vLLM is built for that holds an adapter (vllm/config/lora.py)."""
    known = (8, 16, 32, 64, 128, 256, 320, 512)
    fitting = [one for one in known if one >= rank]
    if not fitting:
        raise ConfigurationError(
            f"the adapter has rank {rank}", expected=f"at most {known[-1]}, for vLLM", try_next="--merged"
        )
    return fitting[0]
