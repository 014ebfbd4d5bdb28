"""Which topics a session can work on: the Riemann hypothesis, every exact domain, and what packages add.

A package adds its own through the entry-point group `studium.topics`: name = "module:object", where the
object is a `Topic` or a class that makes one without arguments. A name that exists cannot be taken.
"""

import json
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from random import Random

from studium.domains.answers import abstains
from studium.domains.catalogue import all_domains
from studium.domains.protocol import Domain, Problem, Split, make_split
from studium.domains.riemann import Riemann
from studium.domains.topics import Assignment, Judgement, Topic
from studium.errors import CallerError, ConfigurationError

GROUP = "studium.topics"
_TRIES_FOR_NEW = 50


class DomainTopic:
    """A domain whose answers can be checked, as a topic: each assignment is a fresh problem, seen by nobody.

    A proposal is an answer; it is useful when it is right and the problem was not solved before.
    """

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.name = domain.name
        self.prefix = domain.name
        self.title = f"Fresh problems of {domain.name}, checked exactly"

    def assign(self, student: str, cycle: int, rng: Random, known: Collection[str]) -> Assignment:
        """Return a fresh problem whose key is not known; levels take turns with the cycles.

        A level that is used up gives way to the next. Raises CallerError when all of them are.
        """
        levels = self.domain.levels
        for attempt in range(_TRIES_FOR_NEW * len(levels)):
            level = levels[(cycle - 1 + attempt // _TRIES_FOR_NEW) % len(levels)]
            problem = make_split(self.domain, rng, level, Split.FRESH)
            if self._key(problem.key) not in known:
                facts = {
                    "key": problem.key,
                    "expected": problem.expected,
                    "steps": list(problem.steps),
                    "level": problem.level,
                    "problem": dict(problem.facts),
                }
                # Through JSON and back, so that facts are the same before and after a restart.
                return Assignment(
                    f"{self.name}, level {level}", problem.prompt, json.loads(json.dumps(facts))
                )
        raise CallerError(
            f"{_TRIES_FOR_NEW} fresh problems of {self.name} at each level were all solved before",
            expected="a problem that is new to this session",
            try_next="choose another topic for the next session",
        )

    def judge(self, assignment: Assignment, reply: str, known: Collection[str]) -> Judgement:
        if abstains(reply):
            return Judgement(None, False, (), "The student declined to answer.")
        facts = assignment.facts
        problem = Problem(
            self.domain.name,
            str(facts["key"]),
            assignment.prompt,
            tuple(facts["steps"]),
            str(facts["expected"]),
            int(facts["level"]),
            facts["problem"],
        )
        score = self.domain.verify(problem, reply)
        if score is None:
            return Judgement(None, False, (), "The answer could not be graded.")
        key = self._key(problem.key)
        if score < 1.0:
            return Judgement(score, False, (), f"Not right; expected {problem.expected}.")
        if key in known:
            return Judgement(score, False, (key,), "Right, but this problem was solved before.")
        return Judgement(score, True, (key,), "Right.")

    def _key(self, problem_key: str) -> str:
        return f"{self.domain.name}: {problem_key}"


@cache
def all_topics() -> Mapping[str, Topic]:
    """Return every topic by name, the shipped ones first. Raises ConfigurationError for a broken plug-in."""
    shipped: tuple[Topic, ...] = (Riemann(), *(DomainTopic(domain) for domain in all_domains().values()))
    found: dict[str, Topic] = {topic.name: topic for topic in shipped}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        added = load_topic(entry)
        if added.name in found:
            raise ConfigurationError(
                f"the entry point {entry.value} names its topic {added.name!r}, which exists already",
                expected="a name of its own",
                try_next="rename the topic or uninstall the package that adds it",
            )
        found[added.name] = added
    return found


def load_topic(entry: EntryPoint) -> Topic:
    """Import one plug-in. Raises ConfigurationError where it cannot be imported or is no topic."""
    try:
        loaded = entry.load()
        made = loaded() if isinstance(loaded, type) else loaded
    except Exception as error:
        raise ConfigurationError(
            f"the topic {entry.value} cannot be loaded: {error}",
            expected="an importable object with the methods of studium.domains.topics.Topic",
            try_next="repair or uninstall the package that adds it",
        ) from error
    if not isinstance(made, Topic):
        raise ConfigurationError(
            f"{entry.value} is no topic but a {type(made).__name__}",
            expected="an object with the methods of studium.domains.topics.Topic",
            try_next="point the entry point at such an object or class",
        )
    return made


def topic(name: str) -> Topic:
    """Return a topic by name. Raises CallerError naming the nearest one."""
    known = all_topics()
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.0)
        raise CallerError(
            f"there is no topic {name!r}",
            expected=f"one of {', '.join(known)}",
            try_next=f"did you mean {near[0]!r}?" if near else "",
        )
    return known[name]
