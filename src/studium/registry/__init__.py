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
from studium.registry.verifying import Fault

__all__ = [
    "EMBEDDED",
    "ENGINES_OF_FILES",
    "LLAMACPP",
    "Fault",
    "Registry",
    "Roster",
    "build_roster",
    "embedded_students",
    "ships_with_studium",
]
