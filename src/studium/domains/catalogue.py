"""Which domains there are: the five that ship, and those that installed packages add.

A package adds its own through the entry-point group `studium.domains`: name = "module:object", where
the object is a `Domain` or a class that makes one without arguments. A shipped name cannot be taken.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from studium.domains.arithmetic import Arithmetic
from studium.domains.measures import Measures
from studium.domains.programs import Programs
from studium.domains.protocol import Domain
from studium.domains.sentiment import Sentiment
from studium.domains.sorting import Sorting
from studium.errors import CallerError, ConfigurationError

GROUP = "studium.domains"
# Recognising a text takes time that grows with the square of its length; no domain asks a longer question.
LONGEST_QUESTION_CHARACTERS = 600


def shipped_domains() -> Mapping[str, Domain]:
    """Return the domains of this package, by name, in a fixed order."""
    made: tuple[Domain, ...] = (Arithmetic(), Sorting(), Measures(), Sentiment(), Programs())
    return {domain.name: domain for domain in made}


@cache
def all_domains() -> Mapping[str, Domain]:
    """Return every domain, the shipped ones first. Raises ConfigurationError for a broken plug-in."""
    found = dict(shipped_domains())
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        added = load_entry(entry)
        if added.name in found:
            raise ConfigurationError(
                f"the entry point {entry.value} names its domain {added.name!r}, which exists already",
                expected="a name of its own",
                try_next="rename the domain or uninstall the package that adds it",
            )
        found[added.name] = added
    return found


def load_entry(entry: EntryPoint) -> Domain:
    """Import one plug-in. Raises ConfigurationError where it cannot be imported or is no domain."""
    try:
        loaded = entry.load()
        made = loaded() if isinstance(loaded, type) else loaded
    except Exception as error:
        raise ConfigurationError(
            f"the domain {entry.value} cannot be loaded: {error}",
            expected="an importable object with the methods of studium.domains.protocol.Domain",
            try_next="repair or uninstall the package that adds it",
        ) from error
    if not isinstance(made, Domain):
        raise ConfigurationError(
            f"{entry.value} is no domain but a {type(made).__name__}",
            expected="an object with the methods of studium.domains.protocol.Domain",
            try_next="point the entry point at such an object or class",
        )
    return made


def domain(name: str) -> Domain:
    """Return a domain by name. Raises CallerError naming the nearest one."""
    known = all_domains()
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.0)
        raise CallerError(
            f"there is no domain {name!r}",
            expected=f"one of {', '.join(known)}",
            try_next=f"did you mean {near[0]!r}?" if near else "",
        )
    return known[name]


def recognise(question: str) -> Domain | None:
    """Return the first domain that could have asked a question, or None; a long text is nobody's."""
    if len(question) > LONGEST_QUESTION_CHARACTERS:
        return None
    return next((found for found in all_domains().values() if found.recognises(question)), None)
