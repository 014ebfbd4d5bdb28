"""Read a script from YAML, and say exactly what is wrong with a broken one.

    models:
      alpha:
        rules:
          - {contains: "2 + 2", answer: "4"}
          - {matches: "(\\d+) apples", answer: ["\\1 apples", "some apples"]}
        default: "I do not know."
        token_s: 0.02
        fault: {kind: crash, after_tokens: 3, times: 1}

All keys of a model are the fields of `ModelScript`, those of a fault the fields of `Fault`.
"""

import difflib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from studium.engines.scripted.script import Fault, FaultKind, ModelScript, Rule, Script
from studium.errors import ConfigurationError, UnknownModel

_NUMBERS = {"first_token_s", "token_s", "load_s", "part_s", "seconds"}
_INTEGERS = {
    "tokens",
    "context_tokens",
    "resident_bytes",
    "peak_bytes",
    "promised_bytes",
    "embedding_size",
    "after_tokens",
    "times",
}


def read_script(path: Path) -> Script:
    """Return the script in a YAML file. Raises UnknownModel where there is none, ConfigurationError if broken."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as cause:
        raise UnknownModel(f"no script at {path}", expected="a YAML file of scripted models") from cause
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigurationError(f"the script {path} cannot be read: {cause}") from cause
    return parse_script(text, where=str(path))


def parse_script(text: str, *, where: str = "script") -> Script:
    """Return the script in YAML text; `where` names it in errors."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as cause:
        raise ConfigurationError(f"{where} is no YAML: {cause}") from cause
    table = _table(data, ("models", "registry"), where)
    if not (table.get("models") or table.get("registry")):
        raise ConfigurationError(f"{where} declares no models", expected="models: {NAME: {default: ANSWER}}")
    return Script(*(_models(table.get(key) or {}, f"{where}: {key}") for key in ("models", "registry")))


def _models(data: object, where: str) -> dict[str, ModelScript]:
    table = _typed(data, dict, where, "{NAME: {default: ANSWER}}")
    return {str(name): _model(entry, f"{where}.{name}") for name, entry in table.items()}


def _model(data: object, where: str) -> ModelScript:
    table = _table({} if data is None else data, _names(ModelScript), where)
    values: dict[str, Any] = _scalars(table, where)
    if "rules" in table:
        values["rules"] = tuple(
            _rule(entry, f"{where}.rules") for entry in _list(table["rules"], f"{where}.rules")
        )
    if "default" in table:
        values["default"] = _answers(table["default"], f"{where}.default")
    if "json_answer" in table:
        values["json_answer"] = _typed(table["json_answer"], str, f"{where}.json_answer", "JSON in quotes")
    if "obeys" in table:
        values["obeys"] = _typed(table["obeys"], bool, f"{where}.obeys", "true or false")
    if "embeddings" in table:
        values["embeddings"] = _vectors(table["embeddings"], f"{where}.embeddings")
    for key in table.keys() & {"fault", "pull_fault"}:
        values[key] = _fault(table[key], f"{where}.{key}")
    return ModelScript(**values)


def _rule(data: object, where: str) -> Rule:
    table = _table(data, ("contains", "matches", "answer"), where)
    conditions = {key: _typed(table[key], str, f"{where}.{key}", "text") for key in table if key != "answer"}
    return Rule(answers=_answers(table.get("answer"), f"{where}.answer"), **conditions)


def _fault(data: object, where: str) -> Fault:
    table = _table(data, _names(Fault), where)
    kinds = [kind.value for kind in FaultKind]
    if table.get("kind") not in kinds:
        raise ConfigurationError(
            f"{where}.kind is {table.get('kind')!r}", expected="one of " + ", ".join(kinds)
        )
    return Fault(kind=FaultKind(table["kind"]), **_scalars(table, where))


def _answers(data: object, where: str) -> tuple[str, ...]:
    answers = data if isinstance(data, list) else [data]
    return tuple(_typed(answer, str, where, "text in quotes, or a list of it") for answer in answers)


def _vectors(data: object, where: str) -> dict[str, tuple[float, ...]]:
    table = _typed(data, dict, where, "text: [numbers]")
    return {
        str(text): tuple(float(_number(value, where)) for value in _list(vector, where))
        for text, vector in table.items()
    }


def _scalars(table: dict[str, Any], where: str) -> dict[str, Any]:
    numbers = {key: _number(table[key], f"{where}.{key}") for key in table.keys() & _NUMBERS}
    integers = {
        key: _typed(table[key], int, f"{where}.{key}", "a whole number") for key in table.keys() & _INTEGERS
    }
    return numbers | integers


def _table(data: object, allowed: Iterable[str], where: str) -> dict[str, Any]:
    allowed = sorted(allowed)
    table = _typed(data, dict, where, "keys and values")
    for key in table:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, 1)
            hint = f"did you mean {near[0]}?" if near else ""
            raise ConfigurationError(
                f"{where}: unknown key {key!r}", expected="one of " + ", ".join(allowed), try_next=hint
            )
    return table


def _number(value: object, where: str) -> float:
    return float(_typed(value, (int, float), where, "a number"))


def _list(value: object, where: str) -> list[Any]:
    return _typed(value, list, where, "a list")


def _typed(value: object, kind: type | tuple[type, ...], where: str, expected: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigurationError(f"{where} is {value!r}", expected=expected)
    return value


def _names(kind: type) -> list[str]:
    return [entry.name for entry in fields(kind)]
