"""What a small student is taught of the topic: the very prompts of a session, each with a true, new claim.

Mostly a prompt is only its first line, which names the subject.

The claims of a lesson are computed, not collected; what a prompt shows as already known is drawn from a pool of
other computed claims. That a lesson held a claim gives it no credit in a session, where it is tested and must be new.
"""

from collections.abc import Mapping
from functools import cache
from random import Random
from typing import NamedTuple

from studium.domains.riemann.claims import make_claim
from studium.domains.riemann.subjects import SUBJECTS
from studium.domains.riemann.topic import Riemann
from studium.domains.topics import Assignment

TOPIC = Riemann()
# Values of small models are often wrong, forms that hold by a theorem seldom: mostly the latter is taught.
_BY_HEART = 0.2
_POOL_PER_SUBJECT = 60
_MOST_KNOWN = 40
_EARLY = 0.3
# A session's whole prompt takes ten times the tokens of a claim; with nothing else a student sees too few claims to
# learn to write a number twice: of its first 300 proposals 71 were useful.
_BRIEF = 0.8


class Lesson(NamedTuple):
    """A prompt as a session gives it, and a claim that answers it."""

    prompt: str
    claim: str


def lesson(rng: Random) -> Lesson:
    """Return a lesson on a random subject; equal rng states give equal lessons. Takes milliseconds.

    The first one of a process takes seconds: it makes the pool of known claims.
    """
    pool = _pool()
    share = 0 if rng.random() < _EARLY else rng.randint(1, _MOST_KNOWN)
    known = rng.sample(sorted(pool), share * len(SUBJECTS) // 4)
    assignment = TOPIC.assign("", rng.randint(1, len(SUBJECTS)), rng, known)
    shown = {pool[key] for key in known}
    while (claim := make_claim(rng, assignment.subject, by_heart=_BY_HEART)) in shown:
        pass
    if rng.random() < _BRIEF:
        return Lesson(assignment.prompt.partition("\n")[0], claim)
    return Lesson(assignment.prompt, claim)


@cache
def _pool() -> Mapping[str, str]:
    """Return computed claims by their canonical form, the same in every process."""
    rng, pool = Random("known"), dict[str, str]()
    for subject in SUBJECTS:
        for _ in range(_POOL_PER_SUBJECT):
            claim = make_claim(rng, subject.name)
            judged = TOPIC.judge(Assignment(subject.name, ""), claim, ())
            pool.update(dict.fromkeys(judged.keys, claim))
    return pool
