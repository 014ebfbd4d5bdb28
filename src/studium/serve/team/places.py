"""A role's place: who holds it by the roster, and the students that speak there now.

Pure, but for a look whether an adapter's file is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studium.errors import ModelBroken
from studium.records.adapters import Adapter, AdapterKind, Route
from studium.records.models import ModelSpec, Student
from studium.registry import ENGINES_OF_FILES, LLAMACPP


@dataclass(frozen=True, slots=True)
class Place:
    """`champion` answers; `challenger` answers a share, or unseen; `former` answered before: the first backup."""

    role: str
    holder: Student
    champion: Student
    route: Route
    challenger: Student | None = None
    former: Student | None = None

    def speaker(self, *, exposed: bool) -> Student:
        """Return who answers a conversation that is, or is not, in the challenger's share."""
        return self.challenger if exposed and self.challenger is not None else self.champion

    def stand_ins(self, *, exposed: bool) -> tuple[Student, ...]:
        """Return who answers here when the speaker is lost: the champion, who was it before, the roster's student."""
        order = (self.speaker(exposed=exposed), self.champion, self.former, self.holder)
        return tuple({one.model.name: one for one in order if one is not None}.values())[1:]


def own_place(role: str, holder: Student) -> Place:
    """Return a role's place as the roster has it."""
    return Place(role, holder, holder, Route(role))


def seated(
    holder: Student, role: str, adapter: Adapter, workspace: Path, models: Mapping[str, ModelSpec]
) -> Student:
    """Return the student that speaks in a role with an adapter: the holder's prompt and sampling, another model.

    It is another model now: of its card only what the adapter itself was measured to get right stands for it
    (`skills`), the rest counts as what a former model knew (see `reliability`). Raises ModelBroken where its file
    is not there.
    """
    source = workspace / adapter.folder / adapter.serving_file
    if not source.is_file():
        raise ModelBroken(
            f"{role}/{adapter.name}: {adapter.serving_file} is not in {adapter.folder}",
            expected="the file the engine loads, as it was registered",
            try_next=f"studium adapters verify, then studium adapters rollback {role}",
        )
    base = models.get(adapter.base, holder.model)
    family = base.family or f"{base.engine}:{base.source}"  # what was made of it makes its mistakes
    changes: dict[str, Any] = {
        "name": f"{role}@{adapter.name}",
        "slots": holder.model.slots,
        "family": family,
    }
    if adapter.kind is AdapterKind.ADAPTER:
        changes |= {"adapters": (*base.adapters, str(source.absolute()))}
    else:
        engine = base.engine if base.engine in ENGINES_OF_FILES else LLAMACPP
        options = base.options if engine == base.engine else {}
        changes |= {"source": str(source.absolute()), "adapters": (), "engine": engine, "options": options}
    measured = _scores(adapter)
    former = {name: share for name, share in holder.skills.items() if name not in measured}
    return replace(
        holder,
        name=role,
        model=replace(base, **changes),
        skills=measured,
        former_skills=former,
        adapter=f"{role}/{adapter.name}",
    )


def _scores(adapter: Adapter) -> dict[str, float]:
    """Return the shares of fresh problems an adapter got right, by domain, as its lineage tells them."""
    scores = adapter.lineage.get("scores")
    if not isinstance(scores, Mapping):
        return {}
    return {
        str(name): float(score)
        for name, score in scores.items()
        if isinstance(score, int | float) and 0 <= score <= 1
    }
