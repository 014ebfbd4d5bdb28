"""What a route may become: evidence about these two, used once; and the way back, which never runs to and fro."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studium.errors import BadRequest
from studium.records.adapters import (
    Action,
    Adapter,
    AdapterKind,
    Evidence,
    Phase,
    Route,
    RouteChange,
    Verdict,
)
from studium.registry import routes

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
NOW = Route("sprout", A)
EVIDENCE = Evidence("e" * 64, 0.0, "sprout", A, B, Verdict.PROMOTE)


def adapter(adapter_id: str = B, serving_file: str = "adapter.gguf") -> Adapter:
    name = adapter_id[:1]
    return Adapter(
        adapter_id, "sprout", name, AdapterKind.ADAPTER, "sprout", "", f"adapters/{name}", serving_file
    )


def change(before: str, after: str, action: Action = Action.FORCE, evidence: str = "") -> RouteChange:
    sides = [asdict(Route("sprout", one)) for one in (before, after)]
    return RouteChange(1, 0.0, "sprout", action, after, sides[0], sides[1], "me", evidence, "", 1, "", "")


def test_evidence_about_this_challenger_and_the_champion_of_now_carries_a_promotion():
    busy = replace(NOW, challenger=C, phase=Phase.SHIFT, share=0.5)
    assert routes.promoted(busy, adapter(), EVIDENCE, []) == Route("sprout", B)


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (None, "no such evidence"),
        (replace(EVIDENCE, verdict=Verdict.HOLD), "verdict is 'hold'"),
        (replace(EVIDENCE, verdict=Verdict.ROLL_BACK), "verdict is 'roll back'"),
        (replace(EVIDENCE, verdict=Verdict.NOT_MEASURED), "verdict is 'not measured'"),
        (replace(EVIDENCE, challenger=C), "is about cccccccccccc"),
        (replace(EVIDENCE, role="other"), "in the role other"),
        (replace(EVIDENCE, champion=C), "compares with cccccccccccc"),
        (replace(EVIDENCE, champion=""), "compares with the student itself"),
    ],
)
def test_other_evidence_does_not(evidence, said):
    with pytest.raises(BadRequest, match=said):
        routes.promoted(NOW, adapter(), evidence, [])


def test_evidence_of_a_promotion_that_was_taken_back_is_not_used_again():
    history = [change(A, B, Action.PROMOTE, EVIDENCE.id), change(B, A, Action.ROLL_BACK)]
    with pytest.raises(BadRequest, match="was used for change 1"):
        routes.promoted(NOW, adapter(), EVIDENCE, history)


def test_who_serves_already_or_cannot_be_loaded_is_not_promoted():
    with pytest.raises(BadRequest, match="serves the role sprout already"):
        routes.forced(NOW, adapter(A))
    with pytest.raises(BadRequest, match="the student itself serves"):
        routes.forced(Route("sprout"), None)
    with pytest.raises(BadRequest, match="no GGUF file"):
        routes.forced(NOW, adapter(B, serving_file=""))
    assert routes.forced(NOW, None) == Route("sprout")


def test_going_back_twice_leads_further_back_and_in_the_end_to_the_student():
    history = [change("", A), change(A, B), change(B, C)]
    assert routes.predecessors(history) == ["", A, B]
    history.append(change(C, B, Action.ROLL_BACK))
    assert routes.predecessors(history) == ["", A]
    history.append(change(B, A, Action.EMERGENCY))
    assert routes.predecessors(history) == [""]
    assert routes.rolled_back(NOW, history, {A, B, C}) == Route("sprout")


def test_a_predecessor_whose_file_is_gone_is_passed_over():
    history = [change("", A), change(A, B), change(B, C)]
    assert routes.rolled_back(Route("sprout", C), history, {A}) == Route("sprout", A)
    history.append(change(C, A, Action.ROLL_BACK))
    assert routes.predecessors(history) == [""]
    assert routes.rolled_back(Route("sprout", C), [], {A}) == Route("sprout")


@given(st.lists(st.sampled_from(["", A, B, C, "back"]), max_size=20))
def test_rollbacks_always_reach_the_student_and_then_end(steps):
    route, history = Route("sprout"), []
    for step in steps:
        if step == "back":
            if not route.champion:
                continue
            after, action = routes.rolled_back(route, history, {A, B, C}), Action.ROLL_BACK
        elif step == route.champion:
            continue
        else:
            after, action = routes.forced(route, adapter(step) if step else None), Action.FORCE
        history.append(change(route.champion, after.champion, action))
        route = after
    seen = 0
    while route.champion:
        after = routes.rolled_back(route, history, {A, B, C})
        history.append(change(route.champion, after.champion, Action.ROLL_BACK))
        route, seen = after, seen + 1
        assert seen <= len(steps)
    with pytest.raises(BadRequest, match="nothing before that"):
        routes.rolled_back(route, history, {A})


@pytest.mark.parametrize(
    ("phase", "share", "right"),
    [
        (Phase.SHADOW, 0.0, True),
        (Phase.SHADOW, 0.1, False),
        (Phase.SHIFT, 0.0, False),
        (Phase.SHIFT, 0.01, True),
        (Phase.SHIFT, 1.0, True),
        (Phase.SHIFT, 1.01, False),
        (Phase.SHIFT, float("nan"), False),
        (Phase.NONE, 0.0, False),
    ],
)
def test_a_challenger_meets_no_traffic_or_a_share_of_it(phase, share, right):
    if right:
        assert routes.challenged(NOW, adapter(), phase, share) == Route("sprout", A, B, phase, share)
    else:
        with pytest.raises(BadRequest, match="shadow with a share of 0"):
            routes.challenged(NOW, adapter(), phase, share)


def test_the_champion_does_not_challenge_itself_and_nobody_is_not_withdrawn():
    with pytest.raises(BadRequest, match="is the champion"):
        routes.challenged(NOW, adapter(A), Phase.SHADOW, 0.0)
    with pytest.raises(BadRequest, match="nobody challenges"):
        routes.withdrawn(NOW)
    assert routes.withdrawn(Route("sprout", A, B, Phase.SHIFT, 0.5)) == NOW
