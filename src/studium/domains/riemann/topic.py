"""The topic itself: what a student is asked, and what its reply is worth.

A reply is useful when it makes at least one claim, every claim that could be tested holds, and one of
them is about the topic, says something, and was not made before. One false claim makes the score 0; a
reply without anything that can be tested has no score.
"""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from random import Random

from studium.domains.answers import abstains
from studium.domains.riemann.subjects import Subject, subject_of
from studium.domains.topics import Assignment, Judgement

MOST_KNOWN_SHOWN = 6
_LONGEST_SHOWN_CHARACTERS = 120
_RANGED_KEY = re.compile(r"(?P<body>.+) for n = (?P<low>-?\d{1,18}) to (?P<high>-?\d{1,18})")
_FAMOUS = re.compile(
    r"riemann hypothesis|\bRH\b|all (?:the )?(?:non-?trivial )?zeros|critical line|infinitely many|conjecture",
    re.IGNORECASE,
)
_FORM = (
    "Write it on one line, as two expressions with =, ~ (near), <, <=, > or >= between them. "
    "For a statement about many n add: for all n from A to B."
)


class Riemann:
    """Numerical claims around the Riemann hypothesis."""

    name = "riemann"
    prefix = "rh"
    title = "The Riemann hypothesis: numerical claims that can be tested"

    def assign(self, student: str, cycle: int, rng: Random, known: Collection[str]) -> Assignment:
        subject = subject_of(student, cycle)
        example = rng.choice(subject.examples)
        shown = _known_about(subject, rng, known)
        lines = [
            f"Research session on the Riemann hypothesis. Subject: {subject.name}.",
            f"{subject.about[0].upper()}{subject.about[1:]}.",
            "Propose ONE new numerical claim that a computer can test. " + _FORM,
            f"Example of the form: {example}",
        ]
        if shown:
            lines.append("Already known, so propose something else: " + "; ".join(shown))
        return Assignment(subject.name, "\n".join(lines), {"example": example})

    def judge(self, assignment: Assignment, reply: str, known: Collection[str]) -> Judgement:
        from studium.domains.riemann.calculator import Work
        from studium.domains.riemann.check import locked_check
        from studium.domains.riemann.normal import on_topic
        from studium.domains.riemann.reading import read_claims

        if abstains(reply):
            return Judgement(None, False, (), "The student declined to answer.")
        claims, unread = read_claims(reply)
        verdicts = locked_check(claims, Work())
        tested = [verdict for verdict in verdicts if verdict.holds is not None]
        keys = tuple(dict.fromkeys(verdict.key for verdict in tested if on_topic(verdict.body)))
        if not tested:
            return Judgement(None, False, (), _why_untested(reply, [v.reason for v in verdicts], unread))
        false = next((verdict for verdict in tested if not verdict.holds), None)
        if false is not None:
            return Judgement(0.0, False, keys, f"Does not hold: {_cut(false.body)}; {false.reason}.")
        worth = [verdict for verdict in tested if verdict.worth]
        if not worth:
            return Judgement(1.0, False, keys, f"Holds, but {tested[0].reason}: {_cut(tested[0].body)}.")
        seen = frozenset(known) | _keys_of(str(assignment.facts.get("example", "")))
        new = [verdict for verdict in worth if not _is_known(verdict.key, seen)]
        if not new:
            return Judgement(1.0, False, keys, f"Holds, but was proposed before: {_cut(worth[0].key)}.")
        return Judgement(1.0, True, keys, f"New and holds: {_cut(new[0].key)}; {new[0].reason}.")


@lru_cache(maxsize=256)
def _keys_of(example: str) -> frozenset[str]:
    """Return the canonical forms of what the prompt showed: to repeat that is nothing new."""
    from studium.domains.riemann.calculator import Work
    from studium.domains.riemann.check import locked_check
    from studium.domains.riemann.reading import read_claims

    return frozenset(verdict.key for verdict in locked_check(read_claims(example).claims, Work()))


def _is_known(key: str, seen: Collection[str]) -> bool:
    """Say whether a claim was made before, alone or for a range that holds this one."""
    if key in seen:
        return True
    ranged = _RANGED_KEY.fullmatch(key)
    if ranged is None:
        return False
    low, high = int(ranged["low"]), int(ranged["high"])
    beginning = f"{ranged['body']} for n = "
    wider = (_RANGED_KEY.fullmatch(other) for other in seen if other.startswith(beginning))
    return any(found and int(found["low"]) <= low and high <= int(found["high"]) for found in wider)


def _known_about(subject: Subject, rng: Random, known: Collection[str]) -> list[str]:
    """Return a few of the known claims of a subject, the same for equal arguments."""
    about = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(subject.functions)})\(")
    fitting = [key for key in sorted(known) if len(key) <= _LONGEST_SHOWN_CHARACTERS and about.search(key)]
    return sorted(rng.sample(fitting, min(MOST_KNOWN_SHOWN, len(fitting))))


def _why_untested(reply: str, reasons: Sequence[str], unread: Sequence[str]) -> str:
    if reasons:
        return f"Nothing could be tested: {reasons[0].removeprefix('not tested: ')}."
    if unread:
        return f"No claim could be read: {unread[0]}. {_FORM}"
    if _FAMOUS.search(reply[:10_000]):
        return f"A statement about all zeros or all n cannot be tested with numbers. {_FORM}"
    return f"There is no numerical claim in it. {_FORM}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN_CHARACTERS else text[:_LONGEST_SHOWN_CHARACTERS] + "..."
