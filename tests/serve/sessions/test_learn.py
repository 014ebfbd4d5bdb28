"""What is learnt from runs, and how much each student may say."""

from dataclasses import replace

import pytest

from studium.serve.sessions.learn import Forecast, Trial, learn
from studium.serve.sessions.limits import FEWEST_TOKENS, Allowance, token_limits


def trial(name: str = "a", *, useful: bool = False, **more: object) -> Trial:
    fields = {"cycle": 1, "seconds": 1.0, "tokens": 20, "max_tokens": 512} | more
    return Trial(name, fields.pop("model", name), useful=useful, **fields)  # type: ignore[arg-type]


def test_usefulness_is_shrunk_towards_the_mean_of_all():
    forecasts = learn([trial("a", useful=True)] + [trial("b")] * 10, ["a", "b", "new"])
    assert 0.1 < forecasts["new"].usefulness < forecasts["a"].usefulness < 1.0
    assert forecasts["b"].usefulness < forecasts["new"].usefulness


def test_with_no_trials_at_all_everybody_is_expected_to_be_even():
    assert {f.usefulness for f in learn([], ["a", "b"]).values()} == {0.5}


def test_usefulness_tends_to_the_true_share():
    history = [trial("a", useful=n % 4 != 0) for n in range(400)]
    assert learn(history, ["a"])["a"].usefulness == pytest.approx(0.75, abs=0.06)


def test_newer_runs_count_more():
    slow_then_fast = [trial(seconds=10.0)] * 5 + [trial(seconds=1.0)] * 5
    assert learn(slow_then_fast, ["a"])["a"].seconds < 5.0


def test_a_load_is_learnt_for_all_students_of_a_model():
    history = [trial("a", model="m", load_seconds=3.0), trial("b", model="m", load_seconds=0.0)]
    assert learn(history, ["a", "b"])["b"].load_seconds == 3.0
    assert learn([trial("a")], ["a"])["a"].load_seconds is None


def test_barren_counts_the_latest_runs_only():
    history = [trial(useful=useful) for useful in (False, True, False, False)]
    assert learn(history, ["a"])["a"].barren == 2


def forecast(tokens: float | None = None, last: Trial | None = None) -> Forecast:
    return Forecast("a", 0.5, trials=int(last is not None), barren=0, tokens=tokens, last=last)


UNBOUNDED = Allowance()


def limit(known: Forecast, allowance: Allowance = UNBOUNDED, most: int = 2048) -> int:
    return token_limits([("a", most)], {"a": known}, allowance)["a"]


def test_a_limit_starts_at_a_paragraph_and_grows_when_an_answer_was_cut():
    assert limit(forecast()) == 512
    assert limit(forecast(512.0, trial(tokens=512, max_tokens=512, cut=True))) == 768
    assert limit(forecast(2000.0, trial(tokens=2000, max_tokens=2000, cut=True))) == 2048


def test_a_limit_never_exceeds_what_the_model_can_hold():
    assert limit(forecast(), most=100) == 100


def test_limits_shrink_when_the_budget_runs_low_but_not_below_what_an_answer_takes():
    known = forecast(100.0, trial(tokens=100, max_tokens=512))
    assert limit(known, Allowance(10_000, cycles_left=10)) == 512
    assert limit(known, Allowance(500, cycles_left=10)) == 125
    assert limit(forecast(40.0, trial(tokens=40, max_tokens=125)), Allowance(10_000, cycles_left=10)) == 512


def test_a_cut_answer_gets_more_also_from_a_low_budget():
    cut = forecast(40.0, trial(tokens=40, max_tokens=40, cut=True))
    assert limit(cut, Allowance(500, cycles_left=10)) == 60


def test_when_the_budget_is_low_the_least_useful_wait_and_the_first_does_not():
    known = {name: forecast(100.0, trial(tokens=100)) for name in "abc"}
    students = [(name, 512) for name in "abc"]
    assert token_limits(students, known, Allowance(1000, cycles_left=4)) == {"a": 125, "b": 125}
    assert token_limits(students, known, Allowance(1000, cycles_left=50)) == {"a": 125}
    assert token_limits(students, known, Allowance(40, cycles_left=1)) == {"a": 40}
    assert token_limits(students, known, Allowance(FEWEST_TOKENS - 1)) == {}


def test_scarce_tokens_go_to_the_most_useful_per_token():
    known = {"fast": replace(forecast(100.0, trial(tokens=100)), usefulness=0.1), "good": forecast(100.0)}
    assert token_limits([("fast", 512), ("good", 512)], known, Allowance(1000, 50)) == {"good": 125}


def test_before_anything_is_known_a_small_budget_is_shared_evenly():
    known = {name: forecast() for name in "abc"}
    limits = token_limits([(name, 512) for name in "abc"], known, Allowance(150, cycles_left=1))
    assert limits == {"a": 50, "b": 50, "c": 50}
