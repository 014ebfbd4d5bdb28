"""What `studium models` shows of the learned profiles: forecasts with their intervals. Looks only, changes nothing."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from studium.cli.output import note, write, write_json, write_table
from studium.errors import StoreUnavailable, StudiumError, UnknownModel

if TYPE_CHECKING:
    from studium.config import Config
    from studium.fleet.profiles import Profiles
    from studium.records.models import MemoryEstimate, ModelSpec
    from studium.records.profiles import Forecast, Range
    from studium.registry import Roster

MIB = 2**20
ESTIMATE_TIMEOUT_S = 5.0
UNKNOWN = "unknown"


def show_learned(config: "Config", roster: "Roster", *, json: bool) -> None:
    """Show what was learned of every model of the roster. Raises StoreUnavailable."""
    profiles = _learned_profiles(config)
    estimates = asyncio.run(_estimates(config, roster, roster.models.values()))
    forecasts = [
        one
        for name, model in roster.models.items()
        for one in _forecasts(profiles, model, estimates.get(name))
    ]
    if json:
        write_json(forecasts)
        return
    write_table(
        ("model", "device", "memory MiB", "load s", "tokens/s", "loads", "runs", "failed"),
        [
            (
                one.model,
                one.device or "-",
                _interval(one.memory_bytes, MIB),
                _interval(one.load_seconds),
                _interval(one.tokens_per_second),
                str(one.loads),
                str(one.runs),
                str(one.failures),
            )
            for one in forecasts
        ],
    )
    note("expected (and 90 % of cases) of the next load or answer; one model in detail: studium models NAME")


def show_one(config: "Config", roster: "Roster", name: str, *, json: bool) -> None:
    """Show all that is expected of one model. Raises UnknownModel, StoreUnavailable."""
    model = roster.models.get(name)
    if model is None:
        raise UnknownModel(
            f"there is no model {name!r} in the roster",
            expected=f"one of {', '.join(roster.models) or 'none: the roster is empty'}",
            try_next="studium models",
        )
    estimate = asyncio.run(_estimates(config, roster, [model])).get(name)
    forecasts = _forecasts(_learned_profiles(config), model, estimate)
    if json:
        write_json({"model": model, "estimate": estimate, "forecasts": forecasts})
        return
    for one in forecasts:
        write(_heading(model, estimate, one))
        write_table(("next time", "expected", "in 90 % of cases", "measured"), _lines(one))


def _heading(model: "ModelSpec", estimate: "MemoryEstimate | None", one: "Forecast") -> str:
    parts = [model.engine, estimate.quantisation if estimate else "", f"context {model.context_tokens:,}"]
    parts += [f"{model.slots} slots" if model.slots > 1 else "1 slot", one.device]
    reserve = UNKNOWN if one.reserve_bytes is None else f"{one.reserve_bytes / MIB:,.0f} MiB"
    described = ", ".join(part for part in parts if part)
    return (
        f"{model.name} ({described}): {one.loads} loads, {one.runs} runs, {one.failures} failed; "
        f"set aside when it is loaded: {reserve}\n"
    )


def _lines(one: "Forecast") -> list[Sequence[str]]:
    quantities = [
        ("memory, MiB", one.memory_bytes, float(MIB)),
        ("load, s", one.load_seconds, 1.0),
        ("giving memory back, s", one.unload_seconds, 1.0),
        ("run, s", one.run_seconds, 1.0),
        ("prompt, tokens/s", one.prompt_tokens_per_second, 1.0),
        ("answer, tokens/s", one.tokens_per_second, 1.0),
        ("answer, tokens", one.tokens_per_answer, 1.0),
    ]
    return [*(_line(what, found, unit) for what, found, unit in quantities), _failures(one.failure_rate)]


def _line(what: str, found: "Range | None", unit: float) -> Sequence[str]:
    if found is None:
        return what, UNKNOWN, "", "never"
    return what, _figure(found.median / unit), _span(found, unit), _times(found)


def _failures(found: "Range | None") -> Sequence[str]:
    if found is None:
        return "failures", UNKNOWN, "", "never"
    return "failures", f"{found.median:.1%}", f"{found.low:.1%} to {found.high:.1%}", _times(found)


def _times(found: "Range") -> str:
    return f"{found.observations} times" if found.observations else "never; from its file and its like"


def _interval(found: "Range | None", unit: float = 1.0) -> str:
    return UNKNOWN if found is None else f"{_figure(found.median / unit)} ({_span(found, unit)})"


def _span(found: "Range", unit: float) -> str:
    return f"{_figure(found.low / unit)} to {_figure(found.high / unit)}"


def _figure(value: float) -> str:
    """Three figures that count, and no more decimals than these need."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _forecasts(
    profiles: "Profiles", model: "ModelSpec", estimate: "MemoryEstimate | None"
) -> list["Forecast"]:
    """One forecast for each device the model was on; where it never was loaded, the one of its file."""
    found = [profiles.expect(profile, estimate) for profile in profiles.everywhere(model)]
    return found or [profiles.forecast(model, estimate)]


def _learned_profiles(config: "Config") -> "Profiles":
    """The profiles of the workspace, looked at only; none where nothing ran yet. Raises StoreUnavailable."""
    from sqlalchemy.exc import DBAPIError

    from studium.app import STORE_FILE
    from studium.fleet.profiles import Profiles
    from studium.store.database import open_read_only
    from studium.store.profiles import read_profiles

    path = config.workspace / STORE_FILE
    if not path.exists():
        return Profiles({}, lambda _profile: None)
    try:
        return Profiles(read_profiles(open_read_only(path)), lambda _profile: None)
    except DBAPIError as error:
        raise StoreUnavailable(
            f"what was learned cannot be read from {path}: {error.orig}",
            expected="a store written by this Studium",
            try_next="ask something once, which brings an older store up to date: studium ask 'What is 2 + 2?'",
        ) from error


async def _estimates(
    config: "Config", roster: "Roster", models: "Iterable[ModelSpec]"
) -> "dict[str, MemoryEstimate]":
    """What the engines say of the files; a note for each model of which they cannot say it now."""
    from studium.app.engines import build_engines

    engines = build_engines(config, roster)
    found: dict[str, MemoryEstimate] = {}
    try:
        for model in models:
            try:
                async with asyncio.timeout(ESTIMATE_TIMEOUT_S):
                    found[model.name] = await engines[model.engine].estimate(model)
            except StudiumError as error:
                note(f"{model.name}: no estimate from its file: {error.happened}")
            except TimeoutError:
                note(f"{model.name}: {model.engine} gave no estimate in {ESTIMATE_TIMEOUT_S:.0f} s")
    finally:
        for engine in engines.values():
            await engine.close()
    return found
