"""Find the file, lay environment and command line over it, read, and check what spans several values.

What wins: the command line, then the environment, then the file, then the default. Overrides are put into
the document before it is read, so a wrong `--port` is refused in the same words as a wrong line.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studium.config.document import Listing, Node, Scalar, Table, read_document
from studium.config.kinds import NAME_PATTERN
from studium.config.reading import Reading, join, key_of
from studium.config.schema import COMPLEXITIES, DeviceConfig, ModelConfig, RoleConfig, Settings, StudentConfig
from studium.errors import ConfigurationError

FILE_NAME = "studium.yaml"
SERVER_FILE = "server.json"
"""In a workspace that is being served: says where, so that other commands find the server."""
WORKSPACE_VARIABLE = "STUDIUM_WORKSPACE"
DEFAULT_WORKSPACE = Path("~/.local/share/studium")
DEFAULT = "default"
EMBEDDED_ROLES = {"implementer": RoleConfig("sprout")}
"""Roles of the embedded students, where the configuration names neither students nor roles."""


@dataclass(frozen=True, slots=True)
class Config(Settings):
    """The resolved configuration.

    `file` is the one that was read, None if there was none. `origins` maps each value's dotted path to
    who set it: "default", "studium.yaml:12", "--port" or "STUDIUM_WORKSPACE".
    """

    file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict[str, str])


def load_config(
    path: Path | None = None,
    *,
    environment: Mapping[str, str],
    overrides: Mapping[str, object | None] | None = None,
    folder: Path | None = None,
) -> Config:
    """Read the configuration; with no file anywhere, the defaults.

    `path` must exist if given; otherwise ./studium.yaml is taken (in `folder`, the current directory
    unless told), else the workspace's own. `overrides` maps dotted paths such as "server.port" to values
    of command-line options; None stands for an option that was not given. Reads at most one file, creates
    nothing. Raises ConfigurationError.
    """
    given = {key: str(value) for key, value in (overrides or {}).items() if value is not None}
    file = path if path is not None else _find(folder or Path(), environment, given)
    document = read_document(file) if file is not None else Table(origin=DEFAULT)
    if environment.get(WORKSPACE_VARIABLE):
        _lay_over(document, "workspace", environment[WORKSPACE_VARIABLE], WORKSPACE_VARIABLE)
    for key, text in given.items():
        _lay_over(document, key, text, "--" + key.rpartition(".")[2].replace("_", "-"))
    reading = Reading()
    settings: Settings = reading.section(Settings, document, "", Settings(workspace=DEFAULT_WORKSPACE))
    _check_together(settings, document, reading.origins)
    if not settings.students and not settings.roles:
        settings = dataclasses.replace(settings, roles=EMBEDDED_ROLES)
    origins = {leaf: reading.origins.get(leaf, DEFAULT) for leaf, _ in leaves(settings)}
    values = {item.name: getattr(settings, item.name) for item in dataclasses.fields(Settings)}
    values["workspace"] = _workspace_path(settings, file, origins["workspace"])
    return Config(**values, file=file, origins=origins)


def leaves(settings: Settings) -> list[tuple[str, object]]:
    """Return every value by its dotted path, in the order of the file's sections.

    Items of lists go by their name, free tables by their key.
    """
    found: list[tuple[str, object]] = []
    for item in dataclasses.fields(Settings):
        _collect(getattr(settings, item.name), key_of(item.name), found)
    return found


def _collect(value: Any, path: str, found: list[tuple[str, object]]) -> None:
    if dataclasses.is_dataclass(value):
        for item in dataclasses.fields(value):
            _collect(getattr(value, item.name), join(path, key_of(item.name)), found)
    elif isinstance(value, Mapping) and value:
        for key, child in value.items():
            _collect(child, join(path, str(key)), found)
    elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        for child in value:
            _collect(child, join(path, child.name), found)
    else:
        found.append((path, value))


def _find(folder: Path, environment: Mapping[str, str], given: Mapping[str, str]) -> Path | None:
    workspace = given.get("workspace") or environment.get(WORKSPACE_VARIABLE) or str(DEFAULT_WORKSPACE)
    candidates = (folder / FILE_NAME, _expanded(workspace) / FILE_NAME)
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _workspace_path(settings: Settings, file: Path | None, origin: str) -> Path:
    """A relative path in the file is relative to the file; elsewhere to the current directory."""
    workspace = _expanded(str(settings.workspace))
    if file is not None and origin.startswith(file.name + ":"):
        return (file.parent / workspace).absolute()
    return workspace.absolute()


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(
            f"the home folder in {path!r} is not known",
            expected="an environment with HOME, or a path without '~'",
            try_next="choose a folder: --workspace ./studium-workspace",
        ) from error


def _lay_over(document: Table, key: str, text: str, origin: str) -> None:
    *sections, last = key.split(".")
    table = document
    for section in sections:
        child = table.entries.get(section)
        if not isinstance(child, Table):
            if child is not None and not (isinstance(child, Scalar) and child.value is None):
                return  # a broken section: reading it names the line
            child = table.entries[section] = Table(origin)
            table.key_origins.setdefault(section, origin)
        table = child
    table.entries[last] = Scalar(int(text) if text.isdecimal() and len(text) < 20 else text, text, origin)
    table.key_origins[last] = origin


def _check_together(settings: Settings, document: Table, origins: Mapping[str, str]) -> None:
    for name in COMPLEXITIES:
        _check_limits(settings, name, origins)
    for name in settings.engines:
        _check_engine_name(name, document)
    _refuse_duplicates("models", settings.models, document.entries.get("models"))
    _refuse_duplicates("students", settings.students, document.entries.get("students"))
    _check_devices(settings, document, origins)
    for student in settings.students:
        _check_model_of(student, settings, origins)
    _check_somebody_speaks(settings, origins)


def _check_limits(settings: Settings, name: str, origins: Mapping[str, str]) -> None:
    limits = settings.ensemble.limits(name)
    if limits.min_models <= limits.max_models:
        return
    path = f"ensemble.{name}"
    origin = origins.get(f"{path}.min_models") or origins.get(f"{path}.max_models", DEFAULT)
    raise ConfigurationError(
        f"{origin}: {path} asks at least {limits.min_models} models and at most {limits.max_models}",
        expected="min_models no larger than max_models",
        try_next=f"set both under {path}",
    )


def _check_engine_name(name: str, document: Table) -> None:
    if NAME_PATTERN.fullmatch(name):
        return
    engines = document.entries.get("engines")
    origin = engines.key_origins[name] if isinstance(engines, Table) else DEFAULT
    raise ConfigurationError(
        f"{origin}: {name[:80]!r} cannot be the name of an engine",
        expected="a name of a-z, 0-9, '.', '_', '-', at most 64 characters",
        try_next="choose another name, and use it where models say 'engine:'",
    )


def _check_devices(settings: Settings, document: Table, origins: Mapping[str, str]) -> None:
    fleet = document.entries.get("fleet")
    listing = fleet.entries.get("devices") if isinstance(fleet, Table) else None
    _refuse_duplicates("fleet.devices", settings.fleet.devices, listing)
    if settings.fleet.devices and settings.fleet.memory_budget_bytes is not None:
        raise ConfigurationError(
            f"{origins['fleet.memory_budget']}: fleet.memory_budget and fleet.devices are both given",
            expected="one budget, or the memory of each device",
            try_next="remove one of the two",
        )


def _refuse_duplicates(
    section: str,
    items: tuple[ModelConfig, ...] | tuple[StudentConfig, ...] | tuple[DeviceConfig, ...],
    listing: Node | None,
) -> None:
    first: dict[str, str] = {}
    for number, item in enumerate(items):
        origin = listing.items[number].origin if isinstance(listing, Listing) else DEFAULT
        if item.name in first:
            raise ConfigurationError(
                f"{origin}: the name {item.name!r} is already used in {section} at {first[item.name]}",
                expected=f"each name once in {section}",
                try_next="rename one of the two",
            )
        first[item.name] = origin


def _check_somebody_speaks(settings: Settings, origins: Mapping[str, str]) -> None:
    """Models without any student would be passed over, and the embedded students would answer in their place."""
    speaking = [model.name for model in settings.models if not model.embeddings]
    if settings.students or not speaking:
        return
    name = speaking[0]
    raise ConfigurationError(
        f"{origins[f'models.{name}.name']}: the model {name!r} is declared, but no student speaks with it",
        expected="a student for a model that is to answer",
        try_next=f"add 'students:' with '- name: {name}'",
    )


def _check_model_of(student: StudentConfig, settings: Settings, origins: Mapping[str, str]) -> None:
    names = [model.name for model in settings.models]
    if student.model_name in names:
        return
    path = f"students.{student.name}"
    origin = origins.get(f"{path}.model") or origins[f"{path}.name"]
    near = difflib.get_close_matches(student.model_name, names, n=1)
    raise ConfigurationError(
        f"{origin}: student {student.name!r} uses the model {student.model_name!r}, which is not declared",
        expected=f"one of the models declared: {', '.join(names) or 'there are none'}",
        try_next=f"did you mean {near[0]!r}?"
        if near
        else f"add '- name: {student.model_name}' under 'models:'",
    )
