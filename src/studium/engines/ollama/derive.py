"""A student as a model of its own in Ollama: base, system prompt and parameters (requirement SES-2).

Deciding is separate from doing: everything here is pure, so that a dry run shows exactly what would be made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from studium.errors import ConfigurationError
from studium.records.models import Student

Parameters = Mapping[str, tuple[str, ...]]


class Outcome(StrEnum):
    """What became of a derived model, or would in a dry run."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    UNCHECKED = "unchecked"
    """A dry run without a server: what would be made is known, whether it is there already is not."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """A derived model: its tag, the Modelfile that describes it, and what was (or would be) done."""

    tag: str
    base: str
    modelfile: str
    outcome: Outcome


def parameters(student: Student) -> dict[str, Any]:
    """Return a student's sampling and context under Ollama's names."""
    sampling = student.sampling
    chosen = {
        "num_ctx": student.model.context_tokens,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "repeat_penalty": sampling.repeat_penalty,
        "seed": sampling.seed,
        "num_predict": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def modelfile(student: Student, base: str) -> str:
    """Return the Modelfile of `student` on `base`: what /api/create will make, for people to read."""
    lines = [f"FROM {base}"]
    for name, value in parameters(student).items():
        for single in value if isinstance(value, list) else [value]:
            lines.append(f"PARAMETER {name} {_quoted(single) if isinstance(single, str) else single}")
    if student.system_prompt:
        lines.append(f"SYSTEM {_quoted(student.system_prompt)}")
    return "\n".join(lines) + "\n"


def create_body(student: Student, base: str) -> dict[str, Any]:
    """Return the body for /api/create."""
    body: dict[str, Any] = {"model": student.model.source, "from": base, "parameters": parameters(student)}
    if student.system_prompt:
        body["system"] = student.system_prompt
    return body


def is_same(student: Student, base: str, shown: Mapping[str, Any], base_shown: Mapping[str, Any]) -> bool:
    """Say whether the model that /api/show describes is already this student on this base.

    A derived model inherits what it does not set, so it must equal the base's own parameters and system
    prompt with the student's laid over them.
    """
    wanted = read_parameters(base_shown.get("parameters")) | _as_text(parameters(student))
    system = student.system_prompt or base_shown.get("system") or ""
    parent = (shown.get("details") or {}).get("parent_model") or ""
    return (
        tagged(parent) == tagged(base)
        and (shown.get("system") or "") == system
        and _numbers(read_parameters(shown.get("parameters"))) == _numbers(wanted)
    )


def tagged(name: str) -> str:
    """Return a model's name with its tag: `mistral` is `mistral:latest`."""
    return name if not name or ":" in name.rpartition("/")[2] else f"{name}:latest"


def check_tag(student: Student, base: str) -> None:
    """Raise ConfigurationError where a student would overwrite its own base."""
    if tagged(student.model.source) == tagged(base):
        raise ConfigurationError(
            f"{student.name}: its model {student.model.source!r} is its base itself",
            expected="a tag of its own",
            try_next=f"give its model a source such as {student.name}:latest",
        )


def read_parameters(text: str | None) -> dict[str, tuple[str, ...]]:
    """Return the parameters that /api/show writes as one "name value" pair per line; stop may repeat."""
    found: dict[str, tuple[str, ...]] = {}
    for line in (text or "").splitlines():
        name, _, value = line.strip().partition(" ")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] == '"':
            value = value[1:-1]
        if name:
            found[name] = (*found.get(name, ()), value)
    return found


def _as_text(chosen: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(map(str, value)) if isinstance(value, list) else (str(value),)
        for name, value in chosen.items()
    }


def _numbers(parameters: Parameters) -> dict[str, tuple[float | str, ...]]:
    """Compare 1, 1.0 and 1e0 as equal: Ollama writes numbers its own way."""
    return {name: tuple(_number(value) for value in values) for name, values in parameters.items()}


def _number(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def _quoted(text: str) -> str:
    return f'"""{text}"""' if "\n" in text or '"' in text else f'"{text}"'
