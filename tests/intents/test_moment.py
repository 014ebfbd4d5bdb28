"""What an intent is at a moment, with the clock as an argument."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studium.intents.layout import Frame
from studium.intents.moment import NS, IntentState, Step, eased, mix, parsed, seen, steps_of, view_of


def frame(text: str = "go", **more) -> Frame:
    given = {"written_ns": NS, "observed_ns": NS // 2, "horizon_s": 4.0, "blend_s": 1.0, "fallback": "stay"}
    return Frame(text, **(given | more))


def at(view, seconds: float):
    return seen(view, int(seconds * NS))


def test_an_intent_is_fresh_for_its_horizon_counted_from_the_observation():
    view = view_of(frame(), None)
    assert at(view, 4.4).state is IntentState.FRESH
    assert at(view, 4.4).remaining_s == pytest.approx(0.1)
    assert at(view, 4.6).state is IntentState.STALE


def test_past_its_horizon_the_fallback_takes_over_by_and_by():
    view = view_of(frame(), None)
    passed = at(view, 5.0)
    assert (passed.text, passed.previous, passed.confidence) == ("stay", "go", None)
    assert passed.blend == pytest.approx(0.5)
    assert at(view, 9.0).blend == 1.0


def test_without_a_fallback_the_last_intent_stays_and_is_called_stale():
    passed = at(view_of(frame(fallback=""), None), 60.0)
    assert (passed.text, passed.state) == ("go", IntentState.STALE)


def test_a_clock_read_before_the_frame_was_written_gives_no_negative_age():
    early = at(view_of(frame(), None), 0.2)
    assert (early.age_s, early.observation_age_s, early.blend) == (0.0, 0.0, 0.0)


def test_a_transition_that_is_overtaken_goes_on_from_where_it_was():
    first = view_of(frame('{"x": 0}', is_json=True, fallback=""), None)
    second = view_of(frame('{"x": 10}', is_json=True, fallback="", written_ns=2 * NS), at(first, 2.0))
    halfway = at(second, 2.5)
    assert halfway.blended() == {"x": 5.0}
    third = view_of(frame('{"x": 100}', is_json=True, fallback="", written_ns=int(2.5 * NS)), halfway)
    assert at(third, 2.5).blended() == {"x": 5.0}
    assert at(third, 9.0).blended() == {"x": 100}


@given(st.floats(0, 1), st.floats(0.01, 10))
def test_easing_never_leaves_its_bounds_and_never_goes_back(share, blend_s):
    now = eased(share * blend_s, blend_s)
    assert 0.0 <= now <= eased(min(1.0, share + 0.01) * blend_s, blend_s) + 1e-9 <= 1.0 + 1e-9


def test_mixing_moves_numbers_and_leaves_the_rest_as_it_will_be():
    before = {"x": 0, "who": "a", "at": [0, 0], "on": False}
    after = {"x": 1, "who": "b", "at": [2, 4], "on": True, "new": 7}
    assert mix(before, after, 0.5) == {"x": 0.5, "who": "b", "at": [1, 2], "on": True, "new": 7}
    assert mix(None, after, 0.5) is after
    assert mix({"x": "three"}, {"x": 3}, 0.5) == {"x": 3}


def test_a_plan_says_what_is_due_and_what_is_ahead():
    text = json.dumps(
        {"steps": [{"at_s": 2, "do": "duck"}, {"at_s": 0, "do": "run"}, {"at_s": 3, "do": "hide"}]}
    )
    view = view_of(frame(text, is_json=True, fallback=""), None)
    now = at(view, 3.0)  # 2.5 s after the observation
    assert now.step == "duck"
    assert now.ahead == (Step(0.5, "hide"),)
    assert at(view, 1.0).step == "run"


def test_a_plan_in_the_fallback_is_a_plan_too():
    view = view_of(frame("{}", is_json=True, fallback='{"steps": [{"at_s": 0, "do": "stay"}]}'), None)
    assert at(view, 60.0).step == "stay"
    empty = view_of(frame("", is_json=True, empty=True, fallback=view.frame.fallback), None)
    assert (at(empty, 1.0).state, at(empty, 1.0).step) == (IntentState.EMPTY, "stay")


@pytest.mark.parametrize(
    "text", ["[" * 4000, '{"a": NaN}', "{", "", '{"steps": 3}', '{"steps": [1, {"at_s": true, "do": 2}, {}]}']
)
def test_text_that_is_no_plan_gives_no_steps_and_no_error(text):
    assert steps_of(parsed(text)) == ()


def test_numbers_beyond_all_measure_do_no_harm():
    huge = "9" * 4000
    data = parsed(f'{{"steps": [{{"at_s": {huge}, "do": "wait"}}], "x": {huge}}}')
    assert steps_of(data)[0].do == "wait"
    assert mix({"x": 1.5}, {"x": data["x"]}, 0.5)["x"] == float("inf")
