"""The engines a configuration names, each imported only where it is wanted."""

from collections.abc import Mapping

from studium.config import Config, EngineConfig
from studium.engines.protocol import Engine
from studium.errors import ConfigurationError
from studium.registry import ENGINES_OF_FILES, LLAMACPP, Roster

OLLAMA_URL = "http://127.0.0.1:11434"
ENGINE_KINDS = ("llamacpp", "openai_api", "ollama", "scripted")


def build_engines(config: Config, roster: Roster) -> dict[str, Engine]:
    """Return the engines the roster's models name. Raises ConfigurationError for one nobody declared."""
    engines: dict[str, Engine] = {}
    for model in roster.models.values():
        if model.engine not in engines:
            engines[model.engine] = _engine(model.engine, config.engines.get(model.engine))
    return engines


def with_engine_of_files(engines: Mapping[str, Engine], config: Config) -> dict[str, Engine]:
    """Return the engines with one that runs files: what is trained here becomes one, whoever ran its base."""
    there = dict(engines)
    if not there.keys() & set(ENGINES_OF_FILES):
        there[LLAMACPP] = _engine(LLAMACPP, config.engines.get(LLAMACPP))
    return there


def _engine(name: str, declared: EngineConfig | None) -> Engine:
    kind = declared.kind if declared else name
    match kind:
        case "llamacpp":
            from studium.engines.llamacpp.engine import LlamaCppEngine

            return LlamaCppEngine()
        case "openai_api":
            return _openai_api(name, declared)
        case "ollama":
            from studium.engines.ollama import OllamaEngine

            return OllamaEngine((declared and declared.url) or OLLAMA_URL, name=name)
        case "scripted":
            from studium.engines.scripted import ScriptedEngine

            return ScriptedEngine(name=name)
        case _:
            raise ConfigurationError(
                f"the engine {name!r} is of kind {kind!r}",
                expected=f"one of {', '.join(ENGINE_KINDS)}",
                try_next="correct `engines` or the model's `engine` in studium.yaml",
            )


def _openai_api(name: str, declared: EngineConfig | None) -> Engine:
    from studium.engines.openai_api import OpenAIApiEngine, Price

    if declared is None or declared.url is None:
        raise ConfigurationError(
            f"the engine {name!r} has no url",
            expected="the address of an OpenAI-shaped server, usually ending in /v1",
            try_next=f"write under `engines`: {name}: {{kind: openai_api, url: http://127.0.0.1:8000/v1}}",
        )
    prices = {
        model: Price(price.prompt_usd_per_million, price.completion_usd_per_million)
        for model, price in declared.prices.items()
    }
    return OpenAIApiEngine(declared.url, name=name, api_key_env=declared.api_key_env, prices=prices)
