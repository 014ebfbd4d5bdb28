"""The governor's settings: what the configuration says, changed at run time by what the store keeps."""

import dataclasses
import difflib
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, get_args, get_type_hints

from studium.config.document import Scalar
from studium.config.kinds import Expected, Kind
from studium.config.schema import GovernorConfig
from studium.errors import BadRequest, StoreUnavailable
from studium.records.spending import CAPS, in_units

SWITCHES = ("refinement", "force_arbiter")
NAMES = (*CAPS, *SWITCHES)
NO_CAP = "none"
_LONGEST_CHARACTERS = 40
_WORDS = {"on": True, "true": True, "off": False, "false": False}


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force. `source` is "configuration" or "changed at run time"."""

    name: str
    value: float | bool | None
    source: str


def text_of(name: str, value: object) -> str:
    """Return a value as the store keeps it, checked: a number, `true`, `false`, or `none` for no cap.

    Takes what JSON or a command line brings. Raises BadRequest.
    """
    known(name)
    text = NO_CAP if value is None else str(value).strip().lower()
    if name in CAPS and text == NO_CAP:
        return NO_CAP
    try:
        read = _read(name, text)
    except Expected as error:
        wanted = "on or off" if name in SWITCHES else f"{error}, or none for no cap"
        raise BadRequest(
            f"{name} cannot be {text[:_LONGEST_CHARACTERS]!r}",
            expected=wanted,
            try_next=f"for example: studium governor set {name}={'on' if name in SWITCHES else '2'}",
        ) from None
    return str(read).lower() if isinstance(read, bool) else repr(read)


def in_force(configured: GovernorConfig, overrides: Mapping[str, str]) -> GovernorConfig:
    """Return the settings with what was changed at run time. Raises StoreUnavailable where that makes no sense."""
    changed: dict[str, Any] = {}
    for name, text in overrides.items():
        try:
            changed[name] = None if text == NO_CAP else _read(name, text)
        except (Expected, KeyError) as error:
            raise StoreUnavailable(
                f"the store holds {name}={text[:_LONGEST_CHARACTERS]!r} for the governor",
                expected=f"one of its settings with a value it knows; nothing is paid for until then ({error})",
                try_next="set it anew: studium governor set NAME=VALUE, with this version of Studium",
            ) from error
    return dataclasses.replace(configured, **changed) if changed else configured


def caps_of(settings: GovernorConfig) -> dict[str, int | None]:
    """Return all caps by name in the ledger's units; None where there is none."""
    values = {name: getattr(settings, name) for name in CAPS}
    return {name: None if value is None else in_units(name, value) for name, value in values.items()}


def listed(configured: GovernorConfig, overrides: Mapping[str, str]) -> list[Setting]:
    """Return every setting that can be changed at run time, with where its value comes from."""
    settings = in_force(configured, overrides)
    return [
        Setting(
            name, getattr(settings, name), "changed at run time" if name in overrides else "configuration"
        )
        for name in NAMES
    ]


def known(name: str) -> str:
    """Return the name of a setting. Raises BadRequest where there is none of that name."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.5)
        raise BadRequest(
            f"the governor has no setting {name[:_LONGEST_CHARACTERS]!r}",
            expected=f"one of {', '.join(NAMES)}",
            try_next=f"did you mean {near[0]!r}?" if near else "see: studium governor",
        )
    return name


def _read(name: str, text: str) -> Any:
    """Return what a text means. Raises Expected."""
    value: object = _WORDS.get(text, text)
    if name in CAPS:
        with suppress(ValueError):
            value = float(text)
    return _kinds()[name].read(Scalar(value, text, ""))


@cache
def _kinds() -> Mapping[str, Kind]:
    hints = get_type_hints(GovernorConfig, include_extras=True)
    return {name: get_args(hint)[1] for name, hint in hints.items()}
