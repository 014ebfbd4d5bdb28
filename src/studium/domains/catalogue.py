"""Which domains there are: those that ship, and those that installed packages add.

A package adds its own through the entry-point group `studium.domains`: name = "module:object", where
the object is a `Domain` or a class that makes one without arguments. A shipped name cannot be taken.
"""

from collections.abc import Mapping
from functools import cache

from studium.domains.arithmetic import Arithmetic
from studium.domains.assembly import Assembly
from studium.domains.codegen import Codegen
from studium.domains.drills import drills
from studium.domains.measures import Measures
from studium.domains.moderation import Moderation
from studium.domains.plugins import PluginKind
from studium.domains.programs import Programs
from studium.domains.protocol import Domain
from studium.domains.sentiment import Sentiment
from studium.domains.sorting import Sorting
from studium.domains.stress import stress
from studium.errors import ConfigurationError

DOMAINS = PluginKind("domain", "studium.domains", Domain)
# Recognising a text takes time that grows with the square of its length; no domain asks a longer question.
LONGEST_QUESTION_CHARACTERS = 600


def skills() -> Mapping[str, Domain]:
    """Return the domains that the embedded students are taught, by name, in a fixed order."""
    made: tuple[Domain, ...] = (Arithmetic(), Sorting(), Measures(), Sentiment(), Programs())
    return {domain.name: domain for domain in made}


def shipped_domains() -> Mapping[str, Domain]:
    """Return the domains of this package by name, in a fixed order: the skills, and those to train others on."""
    others: tuple[Domain, ...] = (*drills(), Moderation(), Codegen(), Assembly())
    return {**skills(), **{domain.name: domain for domain in others}}


@cache
def all_domains() -> Mapping[str, Domain]:
    """Return every domain, the shipped ones first. Raises ConfigurationError for a broken plug-in."""
    return DOMAINS.join(shipped_domains().values())


def domain(name: str) -> Domain:
    """Return a domain by name. Raises CallerError naming the nearest one."""
    return DOMAINS.find(all_domains(), name)


@cache
def trusted(name: str) -> Domain:
    """Return a domain to train on or to measure with: one that ships, or one whose `verify` gives junk no score.

    Takes a second or so the first time, for a domain of a package. Raises CallerError for a name there is not,
    ConfigurationError naming the attacks a domain falls for.
    """
    found = domain(name)
    if name in shipped_domains():
        return found
    broken = stress(found).broken
    if broken:
        raise ConfigurationError(
            f"the domain {name!r} gives junk a score: {', '.join(row.attack for row in broken)}",
            expected="a verify that scores only what solves the problem, or nothing is learnt but the junk",
            try_next=f"studium domains stress {name} shows every attack with an example",
        )
    return found


def recognise(question: str) -> Domain | None:
    """Return the first domain that could have asked a question, or None; a long text is nobody's."""
    if len(question) > LONGEST_QUESTION_CHARACTERS:
        return None
    return next((found for found in all_domains().values() if found.recognises(question)), None)
