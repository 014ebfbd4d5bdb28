"""Chooses how a question is answered: by one student, a committee, a cascade, a debate or clones. Pure.

Ways whose accuracy can be foreseen are weighed in one currency, the expected share of right answers: time and money
are turned into it by what a whole limit of either is worth. Of two ways nobody can foresee how right they are:
to take a question of several apart, and to debate an open one. They are chosen by what the question is like, where
it is so, and the record says why; their accuracy there is None where it is not known, never a mark made up for them.
The selector decides, a judge ranks and merges, students execute; each can be replaced alone.
"""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from studium.records.answers import Complexity, Considered, Decision
from studium.serve.calls import Known

WAYS = ("single", "committee", "cascade", "debate", "clone_dispatch")
# What it may cost in accuracy to use up the whole time or the whole money that a question may take.
WORTH_OF_TIME, WORTH_OF_MONEY = 0.05, 0.05
# A committee is foreseen by going through who is right and who is wrong: 2^6 cases, some tens of microseconds.
MOST_FORESEEN = 6
# The share of a student's mistakes that its own doubt gives away, so that somebody else is asked: a guess from one
# trial of the embedded students on 600 problems of the scoring side, which is not kept as a benchmark.
SEEN_IN_DOUBT = 0.4
# A debate needs some that can differ and a complexity that pays for several rounds: the answers, and one round more.
LEAST_DEBATERS, ROUNDS_FORESEEN = 2, 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """One student as the selector sees it: `cost_usd` None where no price is known."""

    name: str
    known: Known
    seconds: float
    cost_usd: float | None = 0.0
    slots: int = 1


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that the selector looks at. `candidates` come in the order in which they would be asked.

    `comparable`: a domain can tell which answers are the same. `parts`: what is known of the candidates, by name, for
    each of the questions found in the question. `least_students`: how many the chosen complexity asks at least;
    `confidence` what it wants, 0 to 1.
    `wrong_answers` is how many wrong answers a student might hit on. `courier` and `master` are names of
    candidates where the configuration names them, else empty; `forced` is the caller's choice.
    """

    candidates: Sequence[Candidate]
    complexity: Complexity
    limit_s: float
    comparable: bool
    parts: Sequence[Mapping[str, Known]] = ()
    least_students: int = 1
    confidence: float = 1.0
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
    able = [one for one in considered if one.strategy in now.available]
    by_form = next((one for one in reversed(able) if one.by_form), None)
    # Equal to a thousandth is equal: the simpler way comes first.
    best = by_form or max(able, key=lambda one: -math.inf if one.value is None else round(one.value, 3))
    return Decision(best.strategy, now.complexity, best.why, considered)


def _single(now: Circumstances) -> Considered:
    first = max(now.candidates, key=lambda one: one.known.reliability)
    if len(now.candidates) > 1 and now.least_students > 1:
        why = f"a {now.complexity} question is put to {now.least_students} at least"
        return Considered("single", None, why, _accuracy(first.known.reliability, [first]))
    if len(now.candidates) == 1:
        why = "there is nobody else to ask"
    elif not first.known.evidence:
        why = f"nothing is known yet of who is good at such questions; {first.name} is as good a guess as any"
    else:
        why = f"{first.name} is right in {first.known.reliability:.0%} of such questions"
    return _weighed(now, "single", first.known.reliability, [first], why)


def _committee(now: Circumstances) -> Considered:
    if len(now.candidates) < 2:
        return Considered("committee", None, "there is only one to ask")
    voters = now.candidates[:MOST_FORESEEN]
    agreed, others = _until_sure(voters, now)
    right, wrong = _all_agree(agreed, now)
    # Those who agree too soon on a wrong answer are not put right any more.
    reliabilities = tuple(round(one.known.reliability, 3) for one in voters)
    accuracy = max(min(chance_right(reliabilities, now.wrong_answers), 1.0 - wrong), _doubted(voters))
    why = "several are asked until the answer is sure enough, or nothing that is left could change it"
    if not any(one.known.evidence for one in voters):
        why = "nothing is known yet of who is good at such questions: several are asked, and whether they agree tells"
    return _weighed(now, "committee", accuracy, agreed, why, then=others, chance_of_then=1.0 - right - wrong)


def _doubted(voters: Sequence[Candidate]) -> float:
    """Return the share right if the second is asked only where the first shows doubt."""
    first = voters[0].known.reliability
    second = max(one.known.reliability for one in voters[1:])
    return first + (1.0 - first) * second * SEEN_IN_DOUBT


def _until_sure(
    voters: Sequence[Candidate], now: Circumstances
) -> tuple[Sequence[Candidate], Sequence[Candidate]]:
    """Return the first voters that would be enough if they agreed, and the others; to be certain takes a majority."""
    for number in range(1, len(voters)):
        right, wrong = _all_agree(voters[:number], now)
        if (
            now.confidence < 1.0
            and right >= now.confidence * (right + wrong)
            and number >= now.least_students
        ):
            return voters[:number], voters[number:]
    number = len(voters) if now.confidence < 1.0 else len(voters) // 2 + 1
    return voters[:number], voters[number:]


def _all_agree(asked: Sequence[Candidate], now: Circumstances) -> tuple[float, float]:
    """Return how often all of them give the right answer, and all of them the same wrong one."""
    right = math.prod(one.known.reliability for one in asked)
    wrong = math.prod(1.0 - one.known.reliability for one in asked)
    return right, wrong / max(1.0, now.wrong_answers) ** (len(asked) - 1)


def _cascade(now: Circumstances) -> Considered:
    """Foresee what `strategies.cascade` does: two cheap ones where one is not sure, the master where they differ."""
    by_name = {one.name: one for one in now.candidates}
    courier, master = by_name.get(now.courier), by_name.get(now.master)
    if courier is None or master is None or courier is master:
        return Considered("cascade", None, "no courier and master are named")
    if not now.comparable:
        return Considered("cascade", None, "nobody can tell whether two answers are the same")
    if courier.known.reliability >= now.confidence:
        return _weighed(
            now, "cascade", courier.known.reliability, [courier], f"{courier.name} alone is sure enough"
        )
    rest = (one for one in now.candidates if one not in (courier, master) and one.seconds <= master.seconds)
    second = next(rest, None)
    cheap = [courier] if second is None else [courier, second]
    right, wrong = _all_agree(cheap, now)
    enough = second is not None and right >= now.confidence * (right + wrong)
    asks_master = 1.0 - right - wrong if enough else 1.0
    accuracy = (right if enough else 0.0) + asks_master * master.known.reliability
    why = f"{' and '.join(one.name for one in cheap)} first, {master.name} in {asks_master:.0%} of such questions"
    return _weighed(now, "cascade", accuracy, cheap, why, then=[master], chance_of_then=asks_master)


def _debate(now: Circumstances) -> Considered:
    if now.comparable or len(now.candidates) < LEAST_DEBATERS:
        return Considered("debate", None, "answers can be compared, or there is nobody to debate with")
    if now.complexity not in (Complexity.COMPLEX, Complexity.EXPERT):
        return Considered("debate", None, f"a {now.complexity} question does not pay for several rounds")
    if not now.judge:
        return Considered("debate", None, "no judge is named that could tell which answer is best")
    seconds, cost = _needed(list(now.candidates) * ROUNDS_FORESEEN)
    if not _affordable(now, seconds, cost):
        why = "there is no time or money for several rounds"
        return Considered("debate", None, why, None, seconds, cost)
    why = "an open question of some weight: members see each other's answers, a judge ranks them"
    return Considered("debate", None, why, None, seconds, cost, by_form=True)


def _clones(now: Circumstances) -> Considered:
    if len(now.parts) < 2:
        return Considered("clone_dispatch", None, "the question is one question")
    right = {one.name: sum(part[one.name].reliability for part in now.parts) for one in now.candidates}
    clone = max(now.candidates, key=lambda one: right[one.name])
    graded = all(part[clone.name].evidence for part in now.parts)
    accuracy = right[clone.name] / len(now.parts) if graded else None
    turns = math.ceil(len(now.parts) / max(1, clone.slots))
    seconds, cost = _needed([clone] * turns)
    value = None if accuracy is None else _value(now, accuracy, seconds, cost)
    why = f"{len(now.parts)} questions in one, each understood alone: clones of one student share them"
    return Considered("clone_dispatch", value, why, accuracy, seconds, cost, by_form=True)


def _weighed(
    now: Circumstances,
    strategy: str,
    accuracy: float,
    asked: Sequence[Candidate],
    why: str,
    *,
    then: Sequence[Candidate] = (),
    chance_of_then: float = 0.0,
) -> Considered:
    """Return a way's worth: `asked` are asked in any case, those who come `then` with some chance."""
    seconds, cost = _needed(asked)
    more_seconds, more_cost = _needed(then)
    seconds += chance_of_then * more_seconds
    cost = None if cost is None or more_cost is None else cost + chance_of_then * more_cost
    told = _accuracy(accuracy, [*asked, *then])
    return Considered(strategy, _value(now, accuracy, seconds, cost), why, told, seconds, cost)


def _needed(asked: Sequence[Candidate]) -> tuple[float, float | None]:
    """Return seconds, as if one spoke after the other, and US dollars, None where a price is not known."""
    costs = [one.cost_usd for one in asked]
    cost = None if None in costs else sum(one for one in costs if one is not None)
    return sum(one.seconds for one in asked), cost


def _accuracy(foreseen: float, asked: Sequence[Candidate]) -> float | None:
    """Return what was foreseen where anything is known of those asked; a guess from nothing is not told."""
    return foreseen if any(one.known.evidence for one in asked) else None


def _affordable(now: Circumstances, seconds: float, cost_usd: float | None) -> bool:
    return seconds <= now.limit_s and (
        now.most_usd is None or (cost_usd is not None and cost_usd <= now.most_usd)
    )


def _value(now: Circumstances, accuracy: float, seconds: float, cost_usd: float | None) -> float:
    value = accuracy - WORTH_OF_TIME * min(1.0, seconds / now.limit_s)
    if now.most_usd is None:
        return value
    spent = 1.0 if cost_usd is None else min(1.0, cost_usd / now.most_usd) if now.most_usd > 0 else 1.0
    return value - WORTH_OF_MONEY * spent


@lru_cache(maxsize=1024)  # a panel stays the same until somebody is graded
def chance_right(reliabilities: tuple[float, ...], wrong_answers: float) -> float:
    """Return how often the weightiest answer would be right if all spoke, mistakes being independent.

    Goes through every pattern of right and wrong. Those who are wrong hit on one of `wrong_answers` wrong answers, so
    a second one sides with the first with chance 1/wrong_answers; other coincidences are left out, which makes it too
    hopeful, by 0.05 at most against going through everything (`tests/reference/test_chance_right.py`).
    `reliabilities` are at most MOST_FORESEEN, each 0 to 1.
    """
    weights = [_weight(p, wrong_answers) for p in reliabilities]
    together = 1.0 / max(1.0, wrong_answers)
    total = 0.0
    for pattern in product((True, False), repeat=len(reliabilities)):
        chance = math.prod(p if right else 1.0 - p for p, right in zip(reliabilities, pattern, strict=True))
        if chance == 0.0 or not any(pattern):
            continue
        right_weight = sum(w for w, right in zip(weights, pattern, strict=True) if right)
        wrong = sorted((w for w, right in zip(weights, pattern, strict=True) if not right), reverse=True)
        share = _share_won(right_weight, wrong)
        if len(wrong) > 1:
            number = 2 if wrong_answers > 1 else len(wrong)
            joined = _share_won(right_weight, [sum(wrong[:number]), *wrong[number:]])
            share = (1.0 - together) * share + together * joined
        total += chance * share
    return total


def _share_won(right: float, wrong: Sequence[float]) -> float:
    """Return the chance that the right answer is taken, where equals are taken by lot."""
    if any(weight > right and not math.isclose(weight, right) for weight in wrong):
        return 0.0
    return 1.0 / (1 + sum(math.isclose(weight, right) for weight in wrong))


def _weight(p: float, wrong_answers: float) -> float:
    """Return the odds of a voice as a number that adds up; a guess weighs nothing."""
    inside = min(max(p, 0.01), 0.99)
    return max(0.0, math.log(inside * max(1.0, wrong_answers) / (1.0 - inside)))
