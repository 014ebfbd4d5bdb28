"""Chooses how a question is answered: by one student, a committee, a cascade, a debate or clones. Pure.

Every way is weighed in one currency, the expected share of right answers: time and money are turned into it
by what a whole limit of either is worth. Where accuracy cannot be foreseen (free text that nobody can compare),
a way is chosen by what the question is like, and the record says so. The selector decides, a judge ranks and
merges, students execute; each can be replaced alone.
"""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import product

from studium.records.answers import Complexity, Considered, Decision
from studium.serve.calls import Known

WAYS = ("single", "committee", "cascade", "debate", "clone_dispatch")
# What it may cost in accuracy to use up the whole time or the whole money that a question may take.
WORTH_OF_TIME, WORTH_OF_MONEY = 0.05, 0.05
# A committee is foreseen by going through who is right and who is wrong: 2^6 cases, some tens of microseconds.
MOST_FORESEEN = 6
# A debate needs some that can differ and a complexity that pays for several rounds.
LEAST_DEBATERS = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """One student as the selector sees it: `cost_usd` None where no price is known."""

    name: str
    known: Known
    seconds: float
    cost_usd: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that the selector looks at. `candidates` come in the order in which they would be asked.

    `comparable`: a domain can tell which answers are the same. `num_parts`: questions found in the question;
    `least_students`: how many the chosen complexity asks at least.
    `wrong_answers` is how many wrong answers a student might hit on. `courier` and `master` are names of
    candidates where the configuration names them, else empty; `forced` is the caller's choice.
    """

    candidates: Sequence[Candidate]
    complexity: Complexity
    limit_s: float
    comparable: bool
    num_parts: int = 1
    least_students: int = 1
    wrong_answers: float = 10.0
    courier: str = ""
    master: str = ""
    judge: bool = False
    forced: str = ""
    most_usd: float | None = None
    available: Container[str] = WAYS


def select(now: Circumstances) -> Decision:
    """Return the way that promises most, with every way that was weighed. Takes well under a millisecond."""
    considered = (_single(now), _committee(now), _cascade(now), _debate(now), _clones(now))
    if now.forced:
        return Decision(now.forced, now.complexity, "chosen by the caller", considered)
    able = [one for one in considered if one.value is not None and one.strategy in now.available]
    best = max(able, key=lambda one: one.value or 0.0)
    return Decision(best.strategy, now.complexity, best.why, considered)


def _single(now: Circumstances) -> Considered:
    first = max(now.candidates, key=lambda one: one.known.reliability)
    if len(now.candidates) > 1 and now.least_students > 1:
        why = f"a {now.complexity} question is put to {now.least_students} at least"
        return Considered("single", None, why, first.known.reliability)
    if len(now.candidates) == 1:
        return _weighed(now, "single", first.known.reliability, [first], "there is nobody else to ask")
    why = f"{first.name} is right in {first.known.reliability:.0%} of such questions"
    return _weighed(now, "single", first.known.reliability, [first], why)


def _committee(now: Circumstances) -> Considered:
    if len(now.candidates) < 2:
        return Considered("committee", None, "there is only one to ask")
    voters = now.candidates[:MOST_FORESEEN]
    accuracy = chance_right([one.known.reliability for one in voters], now.wrong_answers)
    # The first goes out in any case, the others only where it does not settle the question.
    doubt = 1.0 - voters[0].known.reliability
    asked = [voters[0], *voters[1 : 1 + round(doubt * len(voters))]]
    why = "several are asked until nothing that is left could change the answer"
    return _weighed(now, "committee", accuracy, asked, why)


def _cascade(now: Circumstances) -> Considered:
    by_name = {one.name: one for one in now.candidates}
    courier, master = by_name.get(now.courier), by_name.get(now.master)
    if courier is None or master is None or courier is master:
        return Considered("cascade", None, "no courier and master are named")
    if not now.comparable:
        return Considered("cascade", None, "nobody can tell whether two answers are the same")
    accuracy = max(courier.known.reliability, master.known.reliability)
    p = courier.known.reliability
    seconds = courier.seconds + (1 - p) * master.seconds
    cost = None
    if courier.cost_usd is not None and master.cost_usd is not None:
        cost = courier.cost_usd + (1 - p) * master.cost_usd
    why = f"{courier.name} first, {master.name} only where that does not settle it"
    return Considered("cascade", _value(now, accuracy, seconds, cost), why, accuracy, seconds, cost)


def _debate(now: Circumstances) -> Considered:
    if now.comparable or len(now.candidates) < LEAST_DEBATERS:
        return Considered("debate", None, "answers can be compared, or there is nobody to debate with")
    if now.complexity is not Complexity.EXPERT:
        return Considered("debate", None, f"a {now.complexity} question does not pay for several rounds")
    return Considered("debate", 1.0, "an open question of some weight: members see each other's answers")


def _clones(now: Circumstances) -> Considered:
    if now.num_parts < 2:
        return Considered("clone_dispatch", None, "the question is one question")
    return Considered(
        "clone_dispatch", 2.0, f"{now.num_parts} questions in one: clones of one model share them"
    )


def _weighed(
    now: Circumstances, strategy: str, accuracy: float, asked: Sequence[Candidate], why: str
) -> Considered:
    seconds = sum(one.seconds for one in asked)
    costs = [one.cost_usd for one in asked]
    cost = None if None in costs else sum(one for one in costs if one is not None)
    return Considered(strategy, _value(now, accuracy, seconds, cost), why, accuracy, seconds, cost)


def _value(now: Circumstances, accuracy: float, seconds: float, cost_usd: float | None) -> float:
    value = accuracy - WORTH_OF_TIME * min(1.0, seconds / now.limit_s)
    if now.most_usd is None:
        return value
    spent = 1.0 if cost_usd is None else min(1.0, cost_usd / now.most_usd) if now.most_usd > 0 else 1.0
    return value - WORTH_OF_MONEY * spent


def chance_right(reliabilities: Sequence[float], wrong_answers: float) -> float:
    """Return how often the weightiest answer would be right if all spoke, mistakes being independent.

    Goes through every pattern of right and wrong. Those who are wrong hit on one of `wrong_answers` wrong
    answers, so a second one sides with the first with chance 1/wrong_answers; more than two on one wrong answer
    are not foreseen. `reliabilities` are at most MOST_FORESEEN, each 0 to 1.
    """
    weights = [_weight(p, wrong_answers) for p in reliabilities]
    together = 1.0 / max(1.0, wrong_answers)
    total = 0.0
    for pattern in product((True, False), repeat=len(reliabilities)):
        chance = 1.0
        for p, right in zip(reliabilities, pattern, strict=True):
            chance *= p if right else 1.0 - p
        if chance == 0.0:
            continue
        right_weight = sum(w for w, right in zip(weights, pattern, strict=True) if right)
        wrong = sorted((w for w, right in zip(weights, pattern, strict=True) if not right), reverse=True)
        alone, joined = sum(wrong[:1]), sum(wrong[:2])
        total += chance * (
            (1.0 - together) * _wins(right_weight, alone) + together * _wins(right_weight, joined)
        )
    return total


def _wins(one: float, other: float) -> float:
    return 0.5 if math.isclose(one, other) else float(one > other)


def _weight(p: float, wrong_answers: float) -> float:
    """Return the odds of a voice as a number that adds up; a guess weighs nothing."""
    inside = min(max(p, 0.01), 0.99)
    return max(0.0, math.log(inside * max(1.0, wrong_answers) / (1.0 - inside)))
