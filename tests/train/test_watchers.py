"""Watchers on made traces: each fault is seen soon and in its own name, and noise of a sound run is let be."""

from collections.abc import Callable, Iterator, Mapping
from math import exp, inf, nan
from random import Random
from types import SimpleNamespace

import pytest

from studium.train.config import Watch
from studium.train.watchers import Action, Alarm, Watchers

Trace = Callable[[int, Random], Mapping[str, float]]


def alarms(
    trace: Trace, steps: int = 400, *, seed: int = 0, settings: Watch | None = None
) -> list[tuple[int, Alarm]]:
    """Run a trace past the watchers as a course does; validations are metrics called "score", every 20 steps."""
    watchers, rng = Watchers(settings or Watch()), Random(seed)
    return list(_alarms(watchers, trace, range(steps), rng))


def _alarms(watchers: Watchers, trace: Trace, steps: range, rng: Random) -> Iterator[tuple[int, Alarm]]:
    for step in steps:
        metrics = dict(trace(step, rng))
        score = metrics.pop("score", None)
        before = {name: metrics[name] for name in ("loss", "gradient_norm") if name in metrics}
        found = [watchers.look(step, before), watchers.look_back(step, metrics)]
        if score is not None and step % 20 == 19:
            found.append(watchers.validated(step, {"score": score, "scored": 100.0}))
        yield from ((step, alarm) for alarm in found if alarm)


def supervised(step: int, rng: Random) -> dict[str, float]:
    """A loss that falls under heavy noise, and a gradient norm that is log-normal."""
    return {
        "loss": 0.2 + 2 * exp(-step / 80) * rng.lognormvariate(0, 0.2),
        "gradient_norm": rng.lognormvariate(0, 0.5),
    }


def rewarded(step: int, rng: Random) -> dict[str, float]:
    """Reinforcement learning that works: noisy reward and score rise, entropy falls, replies grow a little."""
    skill = 0.2 + 0.7 * min(1.0, step / 300)
    return {
        "loss": rng.gauss(0, 0.02),
        "gradient_norm": rng.lognormvariate(0, 0.6),
        "reward": min(1.0, max(0.0, rng.gauss(skill, 0.12))),
        "score": min(1.0, max(0.0, rng.gauss(skill - 0.05, 0.04))),
        "entropy": 0.6 - 0.5 * skill + rng.gauss(0, 0.02),
        "kl": abs(rng.gauss(0.03, 0.015)),
        "groups_drawn": 8.0,
        "groups": float(rng.randint(1, 8)),
        "reply_tokens": rng.gauss(20 + step / 40, 3),
        "cut_off": abs(rng.gauss(0, 0.05)),
    }


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("trace", [supervised, rewarded])
def test_a_sound_run_raises_no_alarm(trace: Trace, seed: int) -> None:
    assert alarms(trace, seed=seed) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_spike_leaves_its_step_out(seed: int) -> None:
    found = alarms(
        lambda step, rng: supervised(step, rng) | ({"loss": 9.0} if step == 200 else {}), seed=seed
    )
    assert [(step, one.kind, one.action) for step, one in found] == [(200, "loss-spike", Action.SKIP)]


def test_one_spike_does_not_hide_the_next_and_many_lower_the_rate_then_stop() -> None:
    found = alarms(
        lambda step, rng: supervised(step, rng) | ({"loss": 9.0} if step >= 200 and step % 3 == 0 else {})
    )
    assert [one.action for _, one in found][:6] == [
        Action.SKIP,
        Action.SKIP,
        Action.LOWER,
        Action.LOWER,
        Action.LOWER,
        Action.STOP,
    ]


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("act", ["advise", "skip", "lower", "stop"])
def test_what_is_not_finite_never_changes_weights(value: float, act: str) -> None:
    alarm = Watchers(Watch(act=act)).look(0, {"loss": value})
    assert alarm is not None
    assert alarm.kind == "not-finite"
    assert alarm.action is not Action.ADVISE
    assert alarm.action is (Action.STOP if act == "stop" else alarm.action)


def test_what_is_known_by_heart_may_meet_a_new_row() -> None:
    def by_heart(step: int, rng: Random) -> dict[str, float]:
        new = step > 100 and step % 3 == 0
        return {
            "loss": (0.015 if new else 0.0008) * rng.lognormvariate(0, 0.2),
            "gradient_norm": (0.7 if new else 0.004) * rng.lognormvariate(0, 0.1),
        }

    assert alarms(by_heart) == []


def test_a_gradient_spike_is_seen() -> None:
    found = alarms(lambda step, rng: supervised(step, rng) | ({"gradient_norm": 500.0} if step == 90 else {}))
    assert [(step, one.kind) for step, one in found] == [(90, "gradient-spike")]


def test_kl_above_its_limit_lowers_the_rate_and_far_above_it_stops() -> None:
    found = alarms(lambda step, rng: rewarded(step, rng) | {"kl": 0.15 if step > 100 else 0.02})
    assert found[0][1].kind == "kl"
    assert found[0][1].action is Action.LOWER
    assert 100 < found[0][0] < 106
    far = alarms(lambda step, rng: rewarded(step, rng) | {"kl": 0.9 if step > 100 else 0.02})
    assert any(one.action is Action.STOP for _, one in far)


def test_entropy_below_its_limit_stops() -> None:
    found = alarms(
        lambda step, rng: rewarded(step, rng) | {"entropy": 0.5 * exp(-step / 40)},
        settings=Watch(min_entropy=0.05),
    )
    assert (found[0][1].kind, found[0][1].action) == ("entropy", Action.STOP)


@pytest.mark.parametrize("seed", range(5))
def test_a_reward_that_collapses_stops(seed: int) -> None:
    found = alarms(
        lambda step, rng: rewarded(step, rng) | ({"reward": 0.02} if step > 300 else {}), seed=seed
    )
    assert (found[0][1].kind, found[0][1].action) == ("reward-collapse", Action.STOP)
    assert 300 < found[0][0] < 315


@pytest.mark.parametrize("seed", range(5))
def test_a_reward_that_rises_while_the_score_falls_stops(seed: int) -> None:
    def gamed(step: int, rng: Random) -> dict[str, float]:
        score = 0.6 if step < 120 else 0.6 - (step - 120) / 300
        return rewarded(step, rng) | {"score": min(1.0, max(0.0, rng.gauss(score, 0.04)))}

    found = alarms(gamed, seed=seed)
    assert (found[0][1].kind, found[0][1].action) == ("gamed", Action.STOP)


@pytest.mark.parametrize("seed", range(5))
def test_a_reward_that_rises_while_the_score_stays_stops(seed: int) -> None:
    found = alarms(
        lambda step, rng: rewarded(step, rng) | {"score": min(1.0, max(0.0, rng.gauss(0.4, 0.02)))}, seed=seed
    )
    assert "gamed" in {one.kind for _, one in found}


def test_at_the_floor_of_a_score_the_run_goes_on_with_an_advice() -> None:
    found = alarms(lambda step, rng: rewarded(step, rng) | {"score": 0.0})
    assert {(one.kind, one.action) for _, one in found} == {("gamed", Action.ADVISE)}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("length-drift", {"reply_tokens": 90.0}),
        ("cut_off-drift", {"cut_off": 0.8}),
        ("copied-drift", {"copied": 0.7}),
        ("no-spread", {"groups": 0.0}),
    ],
)
def test_drift_is_told_and_stops_nothing(kind: str, change: dict[str, float]) -> None:
    found = alarms(lambda step, rng: {"copied": 0.1} | rewarded(step, rng) | (change if step > 150 else {}))
    assert {(one.kind, one.action) for _, one in found} == {(kind, Action.ADVISE)}
    assert len(found) <= 6


def test_no_action_is_graver_than_the_recipe_allows() -> None:
    found = alarms(
        lambda step, rng: supervised(step, rng) | ({"loss": 9.0} if step > 200 else {}),
        settings=Watch(act="advise"),
    )
    assert found
    assert {one.action for _, one in found} == {Action.ADVISE}


def test_watchers_that_are_saved_and_restored_see_what_they_would_have_seen() -> None:
    def trace(step: int, rng: Random) -> dict[str, float]:
        return (
            rewarded(step, rng)
            | ({"kl": 0.2} if step > 150 else {})
            | ({"reward": 0.0} if step > 300 else {})
        )

    whole = alarms(trace, 400)
    rng, first = Random(0), Watchers(Watch())
    found = list(_alarms(first, trace, range(170), rng))
    second = Watchers(Watch())
    second.restore(first.state())
    found += _alarms(second, trace, range(170, 400), rng)
    assert found == whole
    assert SimpleNamespace(**first.state()).seen


@pytest.mark.parametrize(
    ("beside", "words"),
    [("steps_right", "every step right"), ("second_verifier", "second verifier")],
)
def test_a_reward_that_rises_while_another_grader_sees_less_stops_the_run_though_the_score_rises(
    beside: str, words: str
) -> None:
    watchers = Watchers(Watch())
    for step in range(200):
        watchers.look_back(step, {"reward": 0.2 + 0.003 * step})
        if step % 20 == 19:
            scores = {"score": 0.2 + 0.003 * step, "scored": 200.0, beside: max(0.0, 0.5 - 0.003 * step)}
            if found := watchers.validated(step, scores):
                assert (found.kind, found.action) == ("gamed", Action.STOP)
                assert words in found.advice
                return
            if step == 99:  # a run that goes on remembers
                second = Watchers(Watch())
                second.restore(watchers.state())
                watchers = second
    pytest.fail("nothing was said")


def test_one_reply_to_every_prompt_is_told() -> None:
    found = alarms(
        lambda step, rng: rewarded(step, rng) | {"same_reply": min(0.95, step / 100 + rng.gauss(0, 0.01))}
    )
    assert {one.kind for _, one in found} == {"same_reply-drift"}
    assert found[0][0] < 110


@pytest.mark.parametrize(("least", "most"), [(0.0, 1.0), (0.0, 2.0), (-1.0, 1.0)])
def test_a_reward_that_rises_to_the_score_of_greedy_replies_is_no_hack_in_any_unit(
    least: float, most: float
) -> None:
    """Rewards of 2 for right, or of 1 and -1, had their rise taken for twice what it was."""
    watchers, said = Watchers(Watch()), []
    for step in range(200):
        share = 0.25 + 0.25 * step / 200
        reward = least + share * (most - least)
        watchers.look_back(step, {"reward": reward, "reward_least": least, "reward_most": most})
        if step % 10 == 9:
            said.append(watchers.validated(step, {"score": 0.55, "scored": 40.0}))
    assert said == [None] * 20
