"""Which topics a session can work on: the Riemann hypothesis, every exact domain, and what packages add.

A package adds its own through the entry-point group `studium.topics`: name = "module:object", where the
object is a `Topic` or a class that makes one without arguments. A name that exists cannot be taken.
"""

import json
from collections.abc import Collection, Mapping
from functools import cache
from random import Random

from studium.domains.answers import abstains
from studium.domains.catalogue import all_domains
from studium.domains.plugins import PluginKind
from studium.domains.protocol import Domain, Problem, Split, make_split
from studium.domains.riemann import Riemann
from studium.domains.topics import Assignment, Judgement, Topic
from studium.errors import CallerError

TOPICS = PluginKind("topic", "studium.topics", Topic)
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
    return TOPICS.join([Riemann(), *map(DomainTopic, all_domains().values())])


def topic(name: str) -> Topic:
    """Return a topic by name. Raises CallerError naming the nearest one."""
    return TOPICS.find(all_topics(), name)
