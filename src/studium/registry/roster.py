"""Which models and students exist: those of the configuration, else the embedded ones that ship.

An embedded student is two files in `embedded/`: NAME.gguf and NAME.json, its card, written when it was
trained. The card tells what it scores on fresh problems; the ensemble orders and weighs students by it.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from studium.config import Config, ModelConfig, StudentConfig
from studium.errors import ConfigurationError, StudiumBug
from studium.records.messages import Sampling
from studium.records.models import ModelSpec, Student, Tier

LLAMACPP = "llamacpp"
ENGINES_OF_FILES = (LLAMACPP, "scripted")
EMBEDDED = Path(str(files("studium") / "embedded"))


@dataclass(frozen=True, slots=True)
class Roster:
    """Who there is. `embedded` says that these are the students that ship with Studium."""

    students: Mapping[str, Student]
    embedded: bool

    @property
    def models(self) -> Mapping[str, ModelSpec]:
        """The models of all students, by name; several students may share one."""
        return {student.model.name: student.model for student in self.students.values()}


def build_roster(config: Config) -> Roster:
    """Return the roster a configuration describes; without students, the embedded ones.

    Raises ConfigurationError where an embedded student's name is taken.
    """
    if not config.students:
        return Roster(embedded_students(), embedded=True)
    models = {model.name: _model(model, config) for model in config.models}
    students = {one.name: _student(one, models[one.model_name]) for one in config.students}
    shipped = embedded_students() if config.embedded_students else {}
    for taken in sorted(shipped.keys() & {*students, *models}):
        raise ConfigurationError(
            f"{taken!r} is the name of an embedded student, which embedded_students keeps in the roster",
            expected="names of your own students and models that differ from theirs",
            try_next=f"rename it, or remove embedded_students from {config.file or 'the configuration'}",
        )
    return Roster(shipped | students, embedded=False)


def ships_with_studium(student: Student) -> bool:
    """Say whether a student is one of the embedded ones."""
    return Path(student.model.source).parent == EMBEDDED


def embedded_students(folder: Path = EMBEDDED) -> dict[str, Student]:
    """Return the students that ship with Studium, by name. Raises StudiumBug where a card is broken."""
    return {card.stem: _embedded(card) for card in sorted(folder.glob("*.json"))}


def _embedded(path: Path) -> Student:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        return Student(
            name=path.stem,
            model=ModelSpec(
                name=path.stem,
                engine=LLAMACPP,
                source=str(path.with_suffix(".gguf")),
                context_tokens=card["context_tokens"],
            ),
            sampling=Sampling(temperature=card.get("sampling", {}).get("temperature", 0.0)),
            speciality=card["speciality"],
            skills=_skills(card["scores"]),
            topics={topic["topic"]: topic["share"] for topic in card.get("topics", ())},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudiumBug(
            f"the card of the embedded student {path.stem} cannot be read: {error!r}",
            expected=f"a card written by training, at {path}",
            try_next="reinstall Studium",
        ) from error


def _skills(scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Share of fresh problems right in each skill, all levels together."""
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for score in scores:
        asked[score["skill"]] += score["asked"]
        right[score["skill"]] += score["right"]
    return {skill: right[skill] / asked[skill] for skill in asked}


def _model(model: ModelConfig, config: Config) -> ModelSpec:
    declared = config.engines.get(model.engine)
    from_files = (declared.kind if declared else model.engine) in ENGINES_OF_FILES
    folder = config.file.parent if config.file and from_files else None
    return ModelSpec(
        name=model.name,
        engine=model.engine,
        source=_beside(folder, model.source),
        context_tokens=model.context_tokens,
        slots=model.slots,
        adapters=tuple(_beside(folder, adapter) for adapter in model.adapters),
        embeddings=model.embeddings,
        threads=model.threads,
        gpu_layers=model.gpu_layers,
        options=model.options,
        family=model.family or _base_of(model.name, config),
    )


def _base_of(model: str, config: Config) -> str:
    """Return what the students that speak through a model say it was derived from, if one does."""
    return next((one.base for one in config.students if one.model_name == model and one.base), "")


def _beside(folder: Path | None, source: str) -> str:
    """Return a source with its file found beside the configuration that names it, if it stands there.

    What follows a `#` names a part of the file.
    """
    file, mark, part = source.partition("#")
    if folder is None or not (folder / file).is_file():
        return source
    return f"{folder / file}{mark}{part}"


def _student(config: StudentConfig, model: ModelSpec) -> Student:
    chosen = config.sampling
    return Student(
        name=config.name,
        model=model,
        system_prompt=config.system_prompt,
        sampling=Sampling(
            temperature=chosen.temperature,
            top_k=chosen.top_k,
            top_p=chosen.top_p,
            repeat_penalty=chosen.repeat_penalty,
            seed=chosen.seed,
            max_tokens=chosen.max_tokens,
            stop=chosen.stop,
        ),
        speciality=config.speciality,
        tier=Tier(config.tier),
        priority=config.priority,
    )
