"""Things with names that installed packages may add to: read from entry points, checked, found by name.

An entry point's object is what is wanted, or a class that makes it without arguments. A name that exists
already cannot be taken.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, Protocol, TypeVar

from studium.errors import CallerError, ConfigurationError


class Named(Protocol):
    name: str


Thing = TypeVar("Thing", bound=Named)


@dataclass(frozen=True, slots=True)
class PluginKind(Generic[Thing]):
    """One kind of thing: what people call it, the entry-point group that adds to it, and what it must be able to do."""

    word: str
    group: str
    protocol: type[Thing]

    def join(self, shipped: Iterable[Thing]) -> Mapping[str, Thing]:
        """Return the shipped ones and then those added, by name. Raises ConfigurationError for a broken plug-in."""
        found = {one.name: one for one in shipped}
        for entry in sorted(entry_points(group=self.group), key=lambda entry: entry.name):
            added = self.load(entry)
            if added.name in found:
                raise ConfigurationError(
                    f"the entry point {entry.value} names its {self.word} {added.name!r}, which exists already",
                    expected="a name of its own",
                    try_next=f"rename the {self.word} or uninstall the package that adds it",
                )
            found[added.name] = added
        return found

    def load(self, entry: EntryPoint) -> Thing:
        """Import one plug-in. Raises ConfigurationError where it cannot be imported or is something else."""
        wanted = f"{self.protocol.__module__}.{self.protocol.__name__}"
        try:
            loaded = entry.load()
            made = loaded() if isinstance(loaded, type) else loaded
        except Exception as error:
            raise ConfigurationError(
                f"the {self.word} {entry.value} cannot be loaded: {error}",
                expected=f"an importable object with the methods of {wanted}",
                try_next="repair or uninstall the package that adds it",
            ) from error
        if not isinstance(made, self.protocol):
            raise ConfigurationError(
                f"{entry.value} is no {self.word} but a {type(made).__name__}",
                expected=f"an object with the methods of {wanted}",
                try_next="point the entry point at such an object or class",
            )
        return made

    def find(self, known: Mapping[str, Thing], name: str) -> Thing:
        """Return one by name. Raises CallerError naming the nearest one."""
        if name in known:
            return known[name]
        near = get_close_matches(name, known, n=1, cutoff=0.0)
        raise CallerError(
            f"there is no {self.word} {name!r}",
            expected=f"one of {', '.join(known)}",
            try_next=f"did you mean {near[0]!r}?" if near else "",
        )
