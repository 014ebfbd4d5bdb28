"""Who there is (roster), what was registered to take somebody's place, and who serves each role now (registry)."""

from studium.registry.registry import Registry
from studium.registry.roster import (
    EMBEDDED,
    ENGINES_OF_FILES,
    LLAMACPP,
    Roster,
    build_roster,
    embedded_students,
    ships_with_studium,
)
from studium.registry.standing import OWN, Standing, known_role, name_of

__all__ = [
    "EMBEDDED",
    "ENGINES_OF_FILES",
    "LLAMACPP",
    "OWN",
    "Registry",
    "Roster",
    "Standing",
    "build_roster",
    "embedded_students",
    "known_role",
    "name_of",
    "ships_with_studium",
]
