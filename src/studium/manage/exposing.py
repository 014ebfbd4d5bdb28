"""From an answer that was given to what it tells of a role's champion and challenger. Asks nobody."""

from collections.abc import Mapping
from typing import NamedTuple

from studium.domains.catalogue import recognise
from studium.domains.protocol import ChecksQuestions
from studium.evals.gate.live import Side, Stream
from studium.records.answers import Answer, Fate, MemberReply, Part, Query
from studium.records.messages import Ask, Message
from studium.records.rollouts import Exposure
from studium.serve.team.places import Place
from studium.serve.team.team import VIRTUAL_MODELS

UNNOTICED_S = 0.1
"""What takes less seems to take no time (Nielsen, Usability Engineering, 1993, section 5.5), so it tells nothing.
Found with a challenger that answered right in 15 ms where the champion declined in 5: it was withdrawn as slower."""

_GRADED = (Fate.ANSWERED, Fate.ABSTAINED, Fate.UNREADABLE)


class Spoke(NamedTuple):
    """Which side of a place answered, and what it said; None where it was lost before it said anything."""

    side: Side
    reply: MemberReply | None


def spoke(query: Query, answer: Answer, place: Place) -> Spoke | None:
    """Return who spoke in a place for an answer; None where it was not asked, or was refused."""
    if place.challenger is None:
        return None
    sides = {place.champion.model.name: Side.CHAMPION, place.challenger.model.name: Side.CHALLENGER}
    own = place.holder.name == place.role or query.model == place.role
    for one in answer.members:
        if one.part is not Part.MEMBER or one.sample or one.fate in (Fate.NOT_NEEDED, Fate.REFUSED):
            continue
        if one.instead_of in sides:
            return Spoke(sides[one.instead_of], None)
        if own and one.student in (place.role, place.holder.name) and not one.instead_of:
            for student, side in ((place.challenger, Side.CHALLENGER), (place.champion, Side.CHAMPION)):
                if (one.student, one.adapter) == (student.name, student.adapter):
                    return Spoke(side, one)
    return None


def grades(question: str, reply: MemberReply | None) -> dict[str, float]:
    """Return what a reply tells by itself, by stream, larger being better; nothing stands for what was not scored."""
    if reply is None or reply.fate in (Fate.FAILED, Fate.LATE):
        return {Stream.ERRORS: 0.0}
    found: dict[str, float] = {
        Stream.ERRORS: 1.0,
        Stream.LATENCY: -max(reply.generate_seconds, UNNOTICED_S),
    }
    if reply.cost_usd is not None:
        found[Stream.COST] = -reply.cost_usd
    domain = recognise(question)
    if isinstance(domain, ChecksQuestions) and reply.fate in _GRADED:
        score = domain.check(question, reply.text)
        if score is not None:
            found[Stream.VERIFIER] = score
    return found


def exposure(
    rollout: int,
    query: Query,
    place: Place,
    sides: Mapping[Side, Mapping[str, float]],
    *,
    kind: str,
    at: float,
) -> Exposure:
    """Return what one question told."""
    return Exposure(
        rollout,
        at,
        query.request_id,
        place.route.phase.value,
        kind,
        {str(name): value for name, value in sides.get(Side.CHAMPION, {}).items()},
        {str(name): value for name, value in sides.get(Side.CHALLENGER, {}).items()},
    )


def same_ask(query: Query, timeout_s: float) -> Ask:
    """Return what a member was asked, to be asked of another."""
    messages, prompt = query.messages, query.prompt
    if prompt is not None and query.model in VIRTUAL_MODELS:
        messages, prompt = (Message("user", prompt),), None
    return Ask(
        messages=messages,
        prompt=prompt,
        sampling=query.sampling,
        json_schema=query.json_schema,
        grammar=query.grammar,
        timeout_s=timeout_s,
    )
