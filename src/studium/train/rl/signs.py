"""What replies show when a reward is hacked: length, form, copies of the prompt, one reply to every prompt.

Taken over all that was drawn in a step, kept or not: a reward that is had for nothing leaves no group to keep. Length
is in tokens, rewards are in their own unit, all else is a share of the replies, 0 to 1. `every_step_right`, and a
`second_verifier` where a recipe names one, grade what validations are answered; no reward is taken from them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from studium.domains.catalogue import domain, trusted
from studium.domains.protocol import Domain, Problem, VerifiesSteps
from studium.errors import ConfigurationError
from studium.train.rl.rewards import action_of
from studium.train.rl.rollouts import Group
from studium.train.rows import Row

# A reply copies its prompt when half of the prompt's runs of so many words stand in it.
_WORDS, _COPIED = 4, 0.5

Verifier = Callable[[Problem, str], float | None]
"""Scores a reply to a problem, 0 to 1; None where it cannot."""


def signs_of(groups: Sequence[Group], *, thinks: bool) -> Mapping[str, float]:
    """Return the signs by name; empty where nothing was drawn that could be graded."""
    draws = [draw for group in groups for draw in group.draws]
    if not draws:
        return {}
    said = [
        (group.row, text, draw.ended)
        for group in groups
        for text, draw in zip(group.texts, group.draws, strict=True)
    ]
    rewards = [one for group in groups for one in group.rewards]
    return {
        "reward_least": min(rewards),
        "reward_most": max(rewards),
        "reply_tokens": fmean(len(one.tokens) for one in draws),
        "cut_off": fmean(not one.ended for one in draws),
        "well_formed": fmean(well_formed(row, text, ended, thinks=thinks) for row, text, ended in said),
        "copied": fmean(copies(row, text) for row, text, _ in said),
        "same_reply": same_reply([(row.id, text) for row, text, _ in said]),
    }


def well_formed(row: Row, text: str, ended: bool, *, thinks: bool) -> bool:
    """Say whether a reply has the form that is asked for: a step's action, or an answer the domain can read."""
    if row.step is not None:
        return action_of(row, text, ended, thinks=thinks) is not None
    return row.problem is not None and domain(row.problem.domain).extract(row.prefix + text) is not None


def copies(row: Row, text: str) -> bool:
    """Say whether a reply repeats its prompt; a prompt of less than four words has to stand in it whole."""
    prompt, reply = row.messages[-1].content.split(), text.split()
    width = min(_WORDS, len(prompt))
    runs, there = _runs(prompt, width), _runs(reply, width)
    return bool(runs) and len(runs & there) >= _COPIED * len(runs)


def same_reply(said: Sequence[tuple[str, str]]) -> float:
    """Return the share of the commonest reply among (row id, text), 0 unless two different prompts got it."""
    prompts: dict[str, set[str]] = {}
    for row_id, text in said:
        prompts.setdefault(text, set()).add(row_id)
    counts = Counter(text for _, text in said if len(prompts[text]) > 1)
    return max(counts.values(), default=0) / len(said)


def every_step_right(problem: Problem, reply: str) -> float | None:
    """Return 1 where the reply is right and so is every step of it, else 0; None where steps cannot be verified.

    A wrong reply with such steps is None as well: a share of which right ones are left out would be 0 whatever is
    learned.
    """
    found = domain(problem.domain)
    if not isinstance(found, VerifiesSteps) or (whole := found.verify(problem, reply)) is None:
        return None
    steps = reply.rstrip("\n").split("\n")
    verdicts = (found.verify_step(problem, steps[:at], step) for at, step in enumerate(steps))
    # Behind a wrong step nothing can be verified: the first that is not right decides.
    decides = next((one for one in verdicts if one != 1), whole)
    return None if decides is None else float(decides == 1)


def second_verifier(name: str, problems: Sequence[Problem]) -> Verifier | None:
    """Return a domain's verdict on replies to problems of other domains; None for "".

    Raises CallerError for a name there is not, ConfigurationError where it is the domain's own or cannot tell that the
    solution of a problem is right.
    """
    if not name:
        return None
    found = trusted(name)
    for problem in problems:
        solution = domain(problem.domain).solution(problem)
        try:
            knows = problem.domain != name and _second(found, problem, solution) == 1
        except Exception:  # a domain looks for what only its own problems have
            knows = False
        if not knows:
            own = "is that of the reward" if problem.domain == name else "does not give it full marks"
            raise ConfigurationError(
                f"second_verifier {name!r} {own}, for {problem.domain} and its solution {solution[-60:]!r}",
                expected="another domain that reads the same replies, and knows a right one",
                try_next="studium domains list; one of your own is shown in examples/own_domain",
            )
    return lambda problem, reply: _second(found, problem, reply)


def _second(found: Domain, problem: Problem, reply: str) -> float | None:
    """Ask with the problem as it is, and else, as most domains score only their own, as one of its own."""
    score = found.verify(problem, reply)
    return found.verify(replace(problem, domain=found.name), reply) if score is None else score


def _runs(words: Sequence[str], width: int) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + width]) for at in range(len(words) - width + 1)}
