"""What a run's watchers look for: spikes, what is not finite, drift, collapse, rewards that are gamed.

Each finding comes with advice and an action, no graver than the recipe allows. "Usual" is the median of the last steps
and its spread their median absolute deviation, so that one spike does not hide the next. What is remembered is saved
with the run. A step is looked at before it changes weights (loss, gradient norm) and after (everything else).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isfinite, log, sqrt
from statistics import fmean, median
from typing import Any, NamedTuple

from studium.train.config import Watch

WINDOW = 50
FEWEST = 12
# Spikes within the window after which the rate is lowered, and after which the run is stopped.
LOWER_AFTER, STOP_AFTER = 3, 6
# An advice is not given again for so many steps.
SILENT_STEPS = 50
_NORMAL = 1.4826
# Below these nothing is a spike, however little was usual: what is known by heart has losses near 0, and a new row
# among it is a hundred times as much and harmless. A norm of 1 is where recipes clip.
_SMALL_SPREAD, _SMALL_NORM = 0.02, 1.0
_BESIDE = {
    "steps_right": "share of those with every step right",
    "second_verifier": "score by the second verifier",
}


class Action(StrEnum):
    """What is done about an alarm: only said, the step left out, the rate lowered as well, the run stopped."""

    ADVISE = "advise"
    SKIP = "skip"
    LOWER = "lower"
    STOP = "stop"


_GRAVITY = list(Action)


@dataclass(frozen=True, slots=True)
class Alarm:
    kind: str
    advice: str
    action: Action


class Validated(NamedTuple):
    """The reward of late at a validation, its score, and the score's standard error."""

    reward: float
    score: float
    error: float


class Watchers:
    """All watchers of a run, with what they remember."""

    def __init__(self, settings: Watch) -> None:
        self._settings = settings
        self._seen: dict[str, list[float]] = {}
        self._first: dict[str, list[float]] = {}
        self._spikes: list[int] = []
        self._said: dict[str, int] = {}
        self._best_reward: float | None = None
        self._validations: list[Validated] = []
        self._beside: dict[str, list[Validated]] = {}
        self._range: tuple[float, float] | None = None

    def look(self, step: int, metrics: Mapping[str, float]) -> Alarm | None:
        """Return the gravest alarm before a step changes weights, None where all is well."""
        broken = next((name for name, value in metrics.items() if not isfinite(value)), None)
        if broken is not None:
            advice = (
                f"{broken} is {metrics[broken]}: lower optimiser.rate, and look at the rows with `train why`"
            )
            # Such a step is never taken, whatever the recipe allows.
            return Alarm("not-finite", advice, _gravest(self._allowed(Action.STOP), Action.SKIP))
        found = [
            alarm for alarm in (self._loss_spike(step, metrics), self._norm_spike(step, metrics)) if alarm
        ]
        self._remember({name: metrics[name] for name in ("loss", "gradient_norm") if name in metrics})
        return self._one(step, found)

    def look_back(self, step: int, metrics: Mapping[str, float]) -> Alarm | None:
        """Return the gravest alarm over what a step measured beside its loss."""
        self._remember(
            {k: v for k, v in metrics.items() if k not in ("loss", "gradient_norm", "rate") and isfinite(v)}
        )
        if "reward_most" in metrics:
            least, most = self._range or (metrics["reward_least"], metrics["reward_most"])
            self._range = min(least, metrics["reward_least"]), max(most, metrics["reward_most"])
        return self._one(step, list(self._drifts(metrics)))

    def validated(self, step: int, scores: Mapping[str, float]) -> Alarm | None:
        """Return an alarm where the reward rises and what is measured on problems kept from training does not.

        That is their "score" and, where they are there, those `_BESIDE` it. A reward is compared as a share of the
        range that replies have earned, so that its unit does not matter.
        """
        rewards = self._seen.get("reward", [])
        if not rewards:
            return None
        reward, number = median(rewards[-10:]), scores.get("scored", 100.0)
        least, most = self._range or (0.0, 1.0)
        span = (least, most) if most > least else (0.0, 1.0)
        self._validations.append(_validated(reward, scores["score"], number))
        found = list(_gamed(self._validations, "score of problems kept from training", *span))
        for name in [one for one in _BESIDE if one in scores]:
            known = self._beside.setdefault(name, [])
            known.append(_validated(reward, scores[name], number))
            found += _gamed(known, _BESIDE[name], *span)
        return self._one(step, [replace(one, action=self._allowed(one.action)) for one in found])

    def state(self) -> dict[str, Any]:
        return {key.lstrip("_"): value for key, value in vars(self).items() if key != "_settings"}

    def restore(self, state: Mapping[str, Any]) -> None:
        for key, value in state.items():
            setattr(self, f"_{key}", value)

    def _loss_spike(self, step: int, metrics: Mapping[str, float]) -> Alarm | None:
        # The loss of a reward's gradient is noise around nought.
        known = [] if "reward" in self._seen else self._seen.get("loss", [])
        if len(known) < FEWEST or "loss" not in metrics:
            return None
        usual, spread = _usual(known)
        bound = usual + self._settings.loss_spike * max(2 * spread, 0.1 * abs(usual), _SMALL_SPREAD)
        if metrics["loss"] <= bound:
            return None
        return self._spike(step, "loss-spike", f"loss {metrics['loss']:.4g}, usually {usual:.4g}")

    def _norm_spike(self, step: int, metrics: Mapping[str, float]) -> Alarm | None:
        known = [log(one) for one in self._seen.get("gradient_norm", []) if one > 0]
        norm = metrics.get("gradient_norm", 0.0)
        if len(known) < FEWEST or norm <= _SMALL_NORM:
            return None
        usual, spread = _usual(known)
        if log(norm) <= usual + self._settings.loss_spike * max(2 * spread, log(2)):
            return None
        usually = sorted(self._seen["gradient_norm"])[len(known) // 2]
        return self._spike(step, "gradient-spike", f"gradient norm {norm:.4g}, usually {usually:.4g}")

    def _spike(self, step: int, kind: str, what: str) -> Alarm:
        self._spikes = [one for one in self._spikes if step - one < WINDOW] + [step]
        times = len(set(self._spikes))
        action = Action.STOP if times >= STOP_AFTER else Action.LOWER if times >= LOWER_AFTER else Action.SKIP
        again = (
            f", {times} spikes in {WINDOW} steps: the rate is too high, or rows are broken"
            if times > 1
            else ""
        )
        return Alarm(
            kind, f"{what}{again}; its rows: studium train why RUN --step {step + 1}", self._allowed(action)
        )

    def _drifts(self, metrics: Mapping[str, float]) -> Iterator[Alarm]:
        """Yield what has changed over many steps."""
        if "kl" in metrics:
            yield from self._far_from_start()
        if "entropy" in metrics:
            yield from self._entropy_collapsed()
        if "reward" in metrics:
            yield from self._reward_collapsed()
        if metrics.get("groups_drawn"):
            yield from self._nothing_to_learn()
        for name, sense, what in (
            ("cut_off", 1, "replies are cut off: raise draws.most_tokens, or they are rewarded for length"),
            ("copied", 1, "replies copy their prompts: the reward can be had for that"),
            ("well_formed", -1, "replies lose their form: lower the rate, or raise objective.kl"),
        ):
            if name in metrics and (change := self._change(name)) is not None and sense * change > 0.3:
                yield Alarm(
                    f"{name}-drift",
                    f"{name} went from {self._start(name):.2f} to {self._now(name):.2f}: {what}",
                    Action.ADVISE,
                )
        if (
            "same_reply" in metrics
            and (self._change("same_reply") or 0.0) > 0.3
            and self._now("same_reply") > 0.8
        ):
            advice = f"{self._now('same_reply'):.0%} of replies are one and the same, whatever the prompt"
            yield Alarm("same_reply-drift", f"{advice}: the reward can be had for it", Action.ADVISE)
        if "reply_tokens" in metrics and self._change("reply_tokens") is not None:
            start, now = self._start("reply_tokens"), self._now("reply_tokens")
            if start > 0 and not start / 3 <= now <= 3 * start:
                how = "three times as long" if now > start else "a third as long"
                advice = f"replies are {how} as at the beginning ({start:.0f} to {now:.0f} tokens): read some"
                yield Alarm("length-drift", advice, Action.ADVISE)

    def _far_from_start(self) -> Iterator[Alarm]:
        recent, limit = self._seen["kl"][-5:], self._settings.max_kl
        if len(recent) == 5 and limit and (kl := median(recent)) > limit:
            action = Action.STOP if kl > 5 * limit else Action.LOWER
            advice = f"KL to the start is {kl:.3g}, allowed {limit:g}: raise objective.kl or lower the rate"
            yield Alarm("kl", advice, self._allowed(action))

    def _entropy_collapsed(self) -> Iterator[Alarm]:
        recent, least = self._seen["entropy"][-5:], self._settings.min_entropy
        if len(recent) < 5:
            return
        if least and median(recent) < least:
            advice = f"entropy is {median(recent):.3g}, at least {least:g} wanted: nothing is explored"
            yield Alarm("entropy", advice, self._allowed(Action.STOP))
        elif self._change("entropy") is not None and self._now("entropy") < 0.05 * self._start("entropy"):
            rewards = self._seen.get("reward", [0.0])
            if median(rewards[-10:]) < 0.8:
                yield Alarm(
                    "entropy",
                    "hardly any entropy is left and the reward is not high: raise objective.entropy",
                    Action.ADVISE,
                )

    def _reward_collapsed(self) -> Iterator[Alarm]:
        recent = self._seen["reward"][-20:]
        if len(recent) < 20:
            return
        now, spread = _usual(recent)
        best = self._best_reward = max(now, self._best_reward if self._best_reward is not None else now)
        if best - now > max(0.5 * abs(best), 4 * spread, 0.1):
            advice = f"reward fell from {best:.3g} to {now:.3g}: lower the rate, or raise objective.kl"
            yield Alarm("reward-collapse", advice, self._allowed(Action.STOP))

    def _nothing_to_learn(self) -> Iterator[Alarm]:
        groups = self._seen.get("groups", [])[-10:]
        if len(groups) == 10 and not any(groups):
            reward = median(self._seen["reward"][-10:]) if self._seen.get("reward") else 0.0
            why = (
                "all are solved: take harder problems"
                if reward > 0.5
                else "none is solved: begin with sft, or easier ones"
            )
            yield Alarm(
                "no-spread", f"ten steps without one group whose rewards differ; {why}", Action.ADVISE
            )

    def _remember(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._seen[name] = [*self._seen.get(name, [])[1 - WINDOW :], value]
            if len(first := self._first.setdefault(name, [])) < 10:
                first.append(value)

    def _change(self, name: str) -> float | None:
        """Return by how much a metric changed since the first ten steps; None before thirty."""
        return self._now(name) - self._start(name) if len(self._seen.get(name, [])) >= 30 else None

    def _start(self, name: str) -> float:
        return median(self._first[name])

    def _now(self, name: str) -> float:
        return median(self._seen[name][-10:])

    def _allowed(self, action: Action) -> Action:
        return min(action, Action(self._settings.act), key=_GRAVITY.index)

    def _one(self, step: int, found: Sequence[Alarm]) -> Alarm | None:
        """Return the gravest; one that only advises, or lowers, is not repeated at once."""
        heard = [
            alarm
            for alarm in found
            if alarm.action in (Action.SKIP, Action.STOP)
            or alarm.kind.endswith("spike")
            or step - self._said.get(alarm.kind, -SILENT_STEPS) >= SILENT_STEPS
        ]
        if not heard:
            return None
        alarm = max(heard, key=lambda one: _GRAVITY.index(one.action))
        self._said[alarm.kind] = step
        return alarm


def _gamed(validations: Sequence[Validated], what: str, least: float, most: float) -> Iterator[Alarm]:
    """Compare the last three validations with every three before them: what became of the reward and of `what`.

    Draws that become surer raise a reward up to the score of greedy replies: that is what training is for.
    """
    threes = [_mean_of(validations[at : at + 3]) for at in range(len(validations) - 2)]
    if len(threes) < 4:
        return
    now = threes[-1]
    best = max(threes[:-3], key=lambda one: one.score)
    width = most - least
    if (now.reward - best.reward) / width > 0.03 and best.score - now.score > 3 * sqrt(
        now.error**2 + best.error**2
    ):
        advice = (
            f"reward rose to {now.reward:.3g} while the {what} fell "
            f"from {best.score:.3f} to {now.score:.3f}: the reward is gamed, or memorised"
        )
        yield Alarm("gamed", advice, Action.STOP)
        return
    for then in threes[:-3]:
        rise = (now.reward - then.reward) / width
        above = (now.reward - least) / width > now.score
        if rise > 0.2 and above and now.score - then.score < 0.2 * rise and now.score < 0.9:
            # At the floor nothing can be seen of a score: said, and the run goes on.
            action = Action.STOP if now.score > 3 * now.error else Action.ADVISE
            advice = (
                f"reward rose from {then.reward:.3g} to {now.reward:.3g}, the {what} "
                f"did not ({then.score:.3f} to {now.score:.3f}): the reward is gamed, or memorised"
            )
            yield Alarm("gamed", advice, action)
            return


def _validated(reward: float, score: float, number: float) -> Validated:
    return Validated(reward, score, sqrt(max(score * (1 - score), 0.01) / max(1.0, number)))


def _mean_of(found: Sequence[Validated]) -> Validated:
    error = sqrt(sum(one.error**2 for one in found)) / len(found)
    return Validated(fmean(one.reward for one in found), fmean(one.score for one in found), error)


def _usual(values: Sequence[float]) -> tuple[float, float]:
    """Return the median, and the spread that its absolute deviations tell of."""
    middle = median(values)
    return middle, _NORMAL * median(abs(one - middle) for one in values)


def _gravest(one: Action, other: Action) -> Action:
    return max(one, other, key=_GRAVITY.index)
