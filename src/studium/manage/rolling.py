"""Beginning, ending and telling of roll-outs: what the command line and the endpoint do. Blocks for the disk."""

from typing import Any

from studium.config import Config
from studium.errors import BadRequest
from studium.evals.gate.live import Side, Standing, Stream, share_earned
from studium.manage import rollouts
from studium.manage.rollouts import Act, Seen, Step
from studium.manage.watching import carry_out
from studium.records.adapters import Phase, Route, Verdict
from studium.records.rollouts import Rollout
from studium.registry import OWN, Registry
from studium.store import Store

Json = dict[str, Any]


def begin(
    store: Store,
    registry: Registry,
    role: str,
    name: str,
    *,
    share: float = 0.0,
    steps: tuple[float, ...] = (),
    quality: tuple[str, ...] = (),
    actor: str,
    at: float,
) -> Rollout:
    """Let an adapter meet traffic: in the shadow, or with a `share` answering that share of conversations.

    Raises BadRequest where somebody challenges there already, or it cannot serve; LeaseLost, StoreUnavailable.
    """
    adapter = registry.adapter(role, name)
    phase = Phase.SHIFT if share else Phase.SHADOW
    with registry.lease(actor) as token:
        route = registry.route(role)
        if route.phase is not Phase.NONE:
            raise BadRequest(
                f"somebody challenges in the role {role} already",
                expected="one challenger at a time",
                try_next=f"studium rollout status, or: studium rollout abort {role}",
            )
        change = registry.challenge(
            role, adapter.id, phase, share, actor=actor, token=token, reason="a roll-out begins"
        )
    rollout = Rollout(change.number, role, route.champion, adapter.id, at, steps, quality)
    store.rollouts.begin(rollout)
    return rollout


def abort(store: Store, registry: Registry, role: str, *, actor: str, reason: str, at: float) -> None:
    """End a role's roll-out: the champion answers everybody. Raises BadRequest where nobody challenges."""
    with registry.lease(actor) as token:
        registry.withdraw(role, actor=actor, token=token, reason=reason)
    for one in store.rollouts.rollouts(only_going=True, role=role):
        store.rollouts.end(one.number, at=at, outcome=f"aborted: {reason}")


def promote(store: Store, registry: Registry, role: str, *, actor: str, at: float) -> Rollout:
    """Make a role's challenger the champion, where its traffic has earned that. Raises BadRequest where not yet."""
    rollout = going(store, role)
    route = registry.route(role)
    decision = rollouts.word_on(rollout, seen_of(store, rollout))
    why = "; ".join(decision.reasons)
    if decision.verdict is not Verdict.PROMOTE:
        raise BadRequest(
            f"its traffic does not carry a promotion: {why}",
            expected="a roll-out whose word is 'promote'",
            try_next=f"studium rollout status; or: studium adapters promote {role} NAME --force --reason '...'",
        )
    carry_out(store, registry, rollout, Step(Act.PROMOTE, why), route, actor=actor, at=at)
    if registry.route(role).champion != rollout.challenger:
        raise BadRequest(
            f"somebody changed the route of {role} meanwhile",
            expected="the route as it was looked at",
            try_next="studium adapters state",
        )
    return rollout


def going(store: Store, role: str) -> Rollout:
    """Return a role's roll-out that goes on. Raises BadRequest where there is none."""
    found = store.rollouts.rollouts(only_going=True, role=role)
    if not found:
        raise BadRequest(
            f"no roll-out goes on in the role {role}",
            expected="a role with a challenger",
            try_next=f"studium rollout start {role} ADAPTER",
        )
    return found[-1]


def step_of(store: Store, registry: Registry, rollout: Rollout, *, autopromote: bool) -> Step:
    """Return what would be done now, and why."""
    return rollouts.next_step(
        registry.route(rollout.role), rollout, seen_of(store, rollout), autopromote=autopromote
    )


def seen_of(store: Store, rollout: Rollout) -> Seen:
    """Return all that was seen of a roll-out."""
    return rollouts.fold(Seen(), store.rollouts.exposures(rollout.number), rollouts.terms_of(rollout))


def report(store: Store, registry: Registry, rollout: Rollout, *, autopromote: bool) -> Json:
    """Return a roll-out with what was seen and what would be done now, for people and programs."""
    names = registry.names()
    route = registry.route(rollout.role) if rollout.ended_at is None else Route(rollout.role)
    seen, terms = seen_of(store, rollout), rollouts.terms_of(rollout)
    decision = rollouts.word_on(rollout, seen)
    body: Json = {
        "rollout": rollout.number,
        "role": rollout.role,
        "champion": names.get(rollout.champion, rollout.champion[:12]) or OWN,
        "challenger": names.get(rollout.challenger, rollout.challenger[:12]),
        "began_at": rollout.began_at,
        "ended_at": rollout.ended_at,
        "outcome": rollout.outcome,
        "evidence": rollout.evidence,
        "phase": route.phase.value,
        "share": route.share,
        "steps": list(rollout.steps),
        "quality": [str(one) for one in terms.quality],
        "seen": {str(one): _tally(seen.standing, one) for one in Stream},
        "answered_by_challenger": seen.shifted,
        "verdict": decision.verdict.value,
        "better": decision.better,
        "worse": decision.worse,
        "share_earned": share_earned(decision, terms),
        "reasons": list(decision.reasons),
    }
    if rollout.ended_at is None:
        step = rollouts.next_step(route, rollout, seen, autopromote=autopromote)
        body["next"] = {"act": step.act.value, "share": step.share, "why": step.why}
    return body


def default_quality(config: Config) -> tuple[str, ...]:
    """Return the streams that may tell whether replies are better, as this workspace is configured."""
    found = [Stream.VERIFIER]
    if config.ensemble.judge:
        found.append(Stream.JUDGE)
    if config.store.keep_questions:
        found.append(Stream.FEEDBACK)
    return tuple(str(one) for one in found)


def _tally(standing: Standing, stream: Stream) -> Json:
    tally = standing.tally(stream)
    waiting = dict.fromkeys(Side, 0)
    for (of, _), (side, values) in standing.waiting.items():
        waiting[side] += len(values) if of is stream else 0
    return {
        "pairs": tally.pairs,
        "won": tally.gains,
        "lost": tally.losses,
        "tied": tally.ties,
        "waiting": {str(side): number for side, number in waiting.items()},
    }
