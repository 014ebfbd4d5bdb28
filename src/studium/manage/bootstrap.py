"""The foundational adapter: what `studium bootstrap` has the improve loop make, and how it comes to serve at start-up.

The student declines most sums of two digits and more, and gets some of one digit wrong. It is taught them column by
column by one improvement whose role, skill, levels and name are fixed; a folder that lies in the workspace, made here
or elsewhere, serves its role from the start.

    improvements/champion_v1            what each step of the loop found; a second call goes on where the first was
    adapters/foundational/champion_v1   what came of it, registered for the role
"""

import json
from dataclasses import replace
from pathlib import Path

from studium.config import Config
from studium.errors import BadRequest
from studium.manage.improve.ending import Ending
from studium.manage.improve.folder import HOME, Improvement, Wanted, begin, read
from studium.records.adapters import Action, Adapter, AdapterKind
from studium.registry import Registry
from studium.registry.files import CARD

ROLE, STUDENT, DOMAIN, LEVELS = "implementer", "sprout", "arithmetic", (1, 2)
SHELF, NAME = "foundational", "champion_v1"
ACTOR = "studium bootstrap"
PROBLEMS, LEAST_STEPS = 200, 300
"""The name is given once, so what cannot be learnt in the time is not tried: 55 steps were held, 450 promoted."""


def wanted(minutes: float) -> Wanted:
    """Return what is asked of the loop."""
    return Wanted(
        ROLE, (DOMAIN,), minutes, PROBLEMS, lora=True, levels=LEVELS, shelf=SHELF, least_steps=LEAST_STEPS
    )


def improvement(workspace: Path, minutes: float) -> Improvement:
    """Return the one improvement: as it was left, or begun; where nothing came of it for want of time or of anything
    to compare, to be gone on with, with the time of now.
    """
    folder = workspace / HOME / NAME
    if not folder.is_dir():
        return begin(workspace, wanted(minutes), NAME)
    one = read(folder)
    if one.ending in (Ending.NOT_TRAINED, Ending.NOT_MEASURED):
        one.steps.pop("compare", None)
        # Where steps were settled on, training may have begun with so many: it goes on with them.
        if not one.steps.get("pace", {}).get("steps"):
            one.steps.pop("pace", None)
        one.wanted, one.spent_s, one.ending = replace(one.wanted, minutes=minutes), 0.0, None
    return one


def held(config: Config) -> bool:
    """Say whether the role is held by the student that the adapter changes."""
    holder = config.roles.get(ROLE)
    return holder is not None and holder.student == STUDENT


def settle(workspace: Path, registry: Registry) -> str:
    """At start-up: register the foundational adapter where it lies in the workspace, and let it serve its role.

    It serves where nothing was ever decided about the role: what was promoted, forced or rolled back there stays as it
    is, and what was made here serves by the gate's word alone. Returns what was done, "" for nothing. Blocks for the
    disk.
    """
    folder = workspace / "adapters" / SHELF / NAME
    if not (folder / CARD).is_file() or (workspace / HOME / NAME).is_dir():
        return ""
    adapter = registered(registry) or _found(folder, registry)
    if any(one.action not in (Action.REGISTER, Action.REMOVE) for one in registry.history(ROLE)):
        return ""
    with registry.lease(ACTOR) as token:
        reason = f"the foundational adapter was there at start-up, and nothing was decided about {ROLE} yet"
        registry.force(ROLE, adapter.id, reason=reason, actor=ACTOR, token=token)
    return f"{SHELF}/{NAME} serves the role {ROLE}"


def registered(registry: Registry) -> Adapter | None:
    """Return the foundational adapter, None where it is not registered, or its files were removed."""
    gone = registry.removed()
    return next((one for one in registry.adapters(ROLE) if one.name == NAME and one.id not in gone), None)


def _found(folder: Path, registry: Registry) -> Adapter:
    """Register a folder that was put there. Raises BadRequest where its card is none."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        base, base_hash = str(card["base"]), str(card["base_sha256"])
        kind, lineage = AdapterKind(card["kind"]), dict(card["lineage"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequest(
            f"{folder / CARD} cannot be read: {type(error).__name__}: {error}",
            expected="the card that registering writes",
            try_next="remove the folder, and make another with: studium bootstrap",
        ) from error
    return registry.register(
        folder,
        ROLE,
        name=NAME,
        base=base,
        base_sha256=base_hash,
        kind=kind,
        lineage=lineage,
        actor=ACTOR,
        shelf=SHELF,
    )
