"""What the profiles learn from loads and runs, and how cautious they are with it."""

import math
from dataclasses import astuple, replace
from random import Random

import pytest

from studium.fleet.profiles import Profiles, profile_key
from studium.records.models import MemoryEstimate, ModelSpec
from studium.records.profiles import ModelProfile, Quantity, Range
from studium.records.runs import StudentRun
from studium.store.profiles import profile_from_row, profile_row

MIB = 2**20
ALPHA = ModelSpec("alpha", "llamacpp", "alpha.gguf")


def model(name: str, engine: str = "llamacpp") -> ModelSpec:
    return ModelSpec(name, engine, f"{name}.gguf")


def estimate(megabytes: float) -> MemoryEstimate:
    return MemoryEstimate(round(megabytes * 1e6), 10 * MIB, 60 * MIB, "F16")


def run(*, memory_bytes: int | None = None, success: bool = True, tokens: int = 20) -> StudentRun:
    return StudentRun(
        "s", "m", 0.0, 1.0, success, 0, memory_bytes, prompt_tokens=30, completion_tokens=tokens
    )


class House:
    """Profiles whose rows are kept as the store keeps them."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, object]] = {}
        self.profiles = self.reopened()

    def reopened(self) -> Profiles:
        return Profiles({key: profile_from_row(row) for key, row in self.rows.items()}, self._save)

    def _save(self, profile: ModelProfile) -> None:
        self.rows[profile.model] = profile_row(profile)

    def live(
        self, spec: ModelSpec, megabytes: float, *, seconds: float, memory: float, runs: int = 3
    ) -> None:
        """Load and run a model a few times; `memory` is what it takes of its estimate."""
        known = estimate(megabytes)
        self.profiles.estimated(spec, known)
        rng = Random(f"{spec.name}{runs}")
        for _ in range(runs):
            held = round(memory * known.total_bytes)
            self.profiles.loaded(spec, seconds=seconds * rng.uniform(0.95, 1.05), peak_bytes=held)
            self.profiles.ran(spec, run(memory_bytes=held), generate_seconds=0.5, first_token_s=0.1)
            self.profiles.unloaded(spec, seconds=0.02)


def known(found: Range | None) -> Range:
    assert found is not None
    return found


def test_what_nobody_measured_is_unknown_and_not_zero():
    found = Profiles({}, lambda _profile: None).forecast(ALPHA)
    for quantity in (*Quantity, "failure_rate", "reserve_bytes"):
        assert getattr(found, quantity) is None, quantity
    assert Profiles({}, lambda _profile: None).memory_bytes(ALPHA) is None


def test_a_new_model_starts_from_its_file_with_a_wide_interval():
    found = Profiles({}, lambda _profile: None).forecast(ALPHA, estimate(1000))
    assert known(found.memory_bytes).low < estimate(1000).total_bytes
    assert found.reserve_bytes == estimate(1000).total_bytes
    assert known(found.load_seconds).high > 3 * known(found.load_seconds).median
    assert found.tokens_per_second is None


def test_a_new_model_of_a_known_engine_starts_from_what_others_taught():
    house = House()
    for index, megabytes in enumerate((50, 100, 300, 700)):
        seconds = 0.5 + 4e-3 * megabytes  # a disk of 250 MB/s: the nominal one is four times faster
        house.live(model(f"m{index}"), megabytes, seconds=seconds, memory=0.8)
    blind = Profiles({}, lambda _profile: None).forecast(ALPHA, estimate(500))
    taught = house.profiles.forecast(ALPHA, estimate(500))
    assert known(taught.load_seconds).median == pytest.approx(2.5, rel=0.25)
    assert known(blind.load_seconds).median < 1.0
    held = 0.8 * estimate(500).total_bytes
    assert known(taught.memory_bytes).median - held < 0.5 * (known(blind.memory_bytes).median - held)
    assert known(taught.tokens_per_second).observations == 0


def test_its_own_runs_count_more_than_the_others():
    house = House()
    for index in range(5):
        house.live(model(f"m{index}"), 100, seconds=1.0, memory=0.8)
    house.live(ALPHA, 100, seconds=2.5, memory=0.95, runs=5)
    found = house.profiles.forecast(ALPHA)
    assert known(found.load_seconds).median == pytest.approx(2.5, rel=0.2)
    assert known(found.memory_bytes).median == pytest.approx(0.95 * estimate(100).total_bytes, rel=0.03)


def test_engines_and_devices_do_not_mix():
    house = House()
    house.live(model("other", "ollama"), 100, seconds=9.0, memory=0.5)
    house.profiles.loaded(ALPHA, seconds=1.0, peak_bytes=100, device="cuda:0")
    house.profiles.loaded(ALPHA, seconds=5.0, peak_bytes=900, device="cuda:1")
    first, second = (house.profiles.of(ALPHA, device) for device in ("cuda:0", "cuda:1"))
    assert (first.load_seconds, first.peak_bytes) == (pytest.approx(1.0), 100)
    assert (second.load_seconds, second.peak_bytes) == (pytest.approx(5.0), 900)
    assert house.profiles.memory_bytes(ALPHA) is None
    assert known(house.profiles.forecast(ALPHA, estimate(100)).load_seconds).median < 1.0


@pytest.mark.parametrize(
    "other",
    [
        replace(ALPHA, context_tokens=2048),
        replace(ALPHA, slots=2),
        replace(ALPHA, source="alpha-q4.gguf"),
        replace(ALPHA, adapters=("lora.gguf",)),
        replace(ALPHA, gpu_layers=8),
        replace(ALPHA, engine="ollama"),
    ],
)
def test_another_shape_is_another_profile(other: ModelSpec):
    assert profile_key(other) != profile_key(ALPHA)


def test_the_reserve_is_never_below_the_highest_measured():
    house, rng = House(), Random(3)
    highest = 0
    for _ in range(60):
        held = round(100 * MIB * math.exp(rng.gauss(0, 0.05)))
        highest = max(highest, held)
        house.profiles.ran(ALPHA, run(memory_bytes=held), generate_seconds=0.5)
        assert (house.profiles.memory_bytes(ALPHA) or 0) >= highest


def test_the_reserve_tightens_with_runs():
    house = House()
    reserves = []
    for _ in range(12):
        house.profiles.ran(ALPHA, run(memory_bytes=100 * MIB), generate_seconds=0.5)
        reserves.append(house.profiles.memory_bytes(ALPHA) or 0)
    assert reserves == sorted(reserves, reverse=True)
    assert reserves[0] > 1.02 * reserves[-1] > 102 * MIB


def test_an_engine_that_estimates_too_little_is_not_believed_for_the_next_model():
    house = House()
    assert house.profiles.estimated(ALPHA, estimate(100)) == estimate(100).total_bytes
    house.live(model("bad"), 100, seconds=1.0, memory=1.5)
    assert house.profiles.estimated(ALPHA, estimate(100)) > 1.2 * estimate(100).total_bytes


def test_another_file_under_the_same_name_begins_anew_but_counts_on():
    house = House()
    house.live(ALPHA, 500, seconds=2.0, memory=0.9)
    reserve = house.profiles.estimated(ALPHA, estimate(20))
    assert reserve <= estimate(20).total_bytes
    found = house.profiles.forecast(ALPHA)
    assert known(found.load_seconds).observations == 0
    assert (found.runs, found.loads) == (3, 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0.0])
def test_what_is_no_measurement_is_ignored_and_said(value: float, caplog: pytest.LogCaptureFixture):
    house = House()
    house.live(ALPHA, 100, seconds=1.0, memory=0.9)
    before = house.profiles.forecast(ALPHA)
    house.profiles.loaded(ALPHA, seconds=value, peak_bytes=None)
    house.profiles.unloaded(ALPHA, seconds=value)
    house.profiles.ran(ALPHA, run(memory_bytes=-5), generate_seconds=value)
    now = house.profiles.forecast(ALPHA)
    assert (now.load_seconds, now.unload_seconds) == (before.load_seconds, before.unload_seconds)
    assert (now.memory_bytes, now.tokens_per_second) == (before.memory_bytes, before.tokens_per_second)
    assert (now.loads, now.runs) == (before.loads + 1, before.runs + 1)
    assert caplog.text.count("is no measurement") >= 3


def test_speeds_are_told_apart_only_where_the_first_token_was_timed():
    house = House()
    house.profiles.ran(ALPHA, run(tokens=21), generate_seconds=1.1, first_token_s=0.1)
    profile = house.profiles.of(ALPHA)
    assert profile.tokens_per_second == pytest.approx(20.0)
    assert profile.prompt_tokens_per_second == pytest.approx(300.0)
    assert profile.tokens_per_answer == pytest.approx(21.0)
    at_once = model("at-once")
    house.profiles.ran(at_once, run(tokens=21), generate_seconds=1.0, first_token_s=0.999)
    assert house.profiles.of(at_once).prompt_tokens_per_second is None
    assert house.profiles.of(at_once).tokens_per_second == pytest.approx(21.0)


def test_one_absurd_model_does_not_spoil_the_others():
    house = House()
    for index in range(3):
        house.live(model(f"m{index}"), 100, seconds=1.0, memory=0.8)
    before = known(house.profiles.forecast(ALPHA, estimate(100)).load_seconds)
    house.profiles.estimated(model("absurd"), estimate(100))
    for seconds in (5e-324, 1.7e308, 5e-324, 1.7e308):
        house.profiles.loaded(model("absurd"), seconds=seconds, peak_bytes=None)
    house.live(model("absurd"), 100, seconds=1.0, memory=0.8, runs=20)
    after = known(house.profiles.forecast(ALPHA, estimate(100)).load_seconds)
    assert after.median == pytest.approx(before.median, rel=0.1)


def test_the_planner_is_told_the_median_of_the_forecast():
    house = House()
    for index in range(3):
        house.live(model(f"m{index}"), 100, seconds=1.0, memory=0.8)
    house.profiles.estimated(ALPHA, estimate(100))
    found = house.profiles.forecast(ALPHA)
    for quantity in Quantity:
        assert house.profiles.median(ALPHA, quantity) == known(getattr(found, quantity)).median
    assert house.profiles.median(model("stranger", "ollama"), Quantity.LOAD_SECONDS) is None


def test_a_profile_is_as_small_after_ten_thousand_runs_as_after_ten():
    """What makes reading one independent of the history; benchmarks/forecast.py measures it."""
    house = House()
    house.live(ALPHA, 100, seconds=1.0, memory=0.8, runs=10)
    [early] = house.rows.values()
    for number in range(10_000):
        house.profiles.ran(ALPHA, run(memory_bytes=100 * MIB + number), generate_seconds=0.5)
    [late] = house.rows.values()
    assert len(str(late)) < 1.2 * len(str(early))
    assert len(house.profiles.everywhere(ALPHA)) == 1


def test_failures_are_a_rate_with_its_interval():
    house = House()
    for _ in range(30):
        house.profiles.ran(ALPHA, run(), generate_seconds=0.5)
    steady = known(house.profiles.forecast(ALPHA).failure_rate)
    assert 0 < steady.median < 0.05 and steady.high < 0.15
    for _ in range(10):
        house.profiles.ran(ALPHA, run(success=False), generate_seconds=0.5)
    failing = known(house.profiles.forecast(ALPHA).failure_rate)
    assert failing.low > steady.high
    assert failing.observations == 40
    assert house.profiles.of(ALPHA).failures == 10


def test_a_restart_forecasts_what_was_forecast_before_it():
    house = House()
    for index, megabytes in enumerate((50, 100, 300)):
        house.live(model(f"m{index}"), megabytes, seconds=0.01 * megabytes, memory=0.8, runs=4)
    again = house.reopened()
    for name, size in (("m0", None), ("m2", None), ("new", estimate(200))):
        one, other = (profiles.forecast(model(name), size) for profiles in (house.profiles, again))
        for quantity in (*Quantity, "failure_rate"):
            before, after = astuple(getattr(one, quantity)), astuple(getattr(other, quantity))
            assert after == pytest.approx(before, rel=1e-6), quantity
        assert other.reserve_bytes == pytest.approx(one.reserve_bytes, rel=1e-6)


def test_a_profile_of_the_first_schema_keeps_what_it_knew():
    old = ModelProfile(profile_key(ALPHA), runs=7, failures=1, loads=2, peak_bytes=90 * MIB)
    profiles = Profiles({old.model: old}, lambda _profile: None)
    assert profiles.memory_bytes(ALPHA) == 90 * MIB
    profiles.ran(ALPHA, run(memory_bytes=80 * MIB), generate_seconds=0.5)
    profile = profiles.of(ALPHA)
    assert (profile.runs, profile.failures, profile.peak_bytes) == (8, 1, 90 * MIB)
    assert profile.engine == "llamacpp"
