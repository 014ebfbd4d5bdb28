"""Writes the answer: from what a strategy gathered to the record that callers see. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from studium.errors import CallerError, EngineFailure, OperatorError, StudiumError
from studium.records.answers import Answer, AnswerStatus, Fate, MemberReply, MemoryMove, Part, Query
from studium.serve.briefing import Choice
from studium.serve.driver import Round

STOOD_IN = "stood_in"
"""Flags an answer in which somebody spoke in the place of a model that was lost."""

_ANSWERING = (Part.MEMBER, Part.SUB_ANSWER)


def written(
    query: Query, choice: Choice, done: Round, *, seconds: float, moves: Sequence[MemoryMove]
) -> Answer:
    """Return the answer that a carried-out strategy amounts to. Raises the students' error where none left anything."""
    verdict, replies = done.verdict, done.replies
    if verdict.winner is None:
        raise _last_resort(done.errors)
    asked = [reply for reply in replies if reply.fate is not Fate.NOT_NEEDED]
    text = verdict.winner.text if verdict.text is None else verdict.text
    if verdict.status is AnswerStatus.UNABLE and len(asked) > 1:
        text = _cannot(asked)
    costs = [reply.cost_usd for reply in asked]
    allowed = len(choice.brief.students)
    members = {reply.student for reply in asked if reply.part in _ANSWERING}
    flags = verdict.flags
    if allowed < choice.least_students:
        flags = (*flags, "short_handed")
    if any(reply.instead_of and reply.fate is not Fate.FAILED for reply in asked):
        flags = (*flags, STOOD_IN)
    decision = choice.decision
    return Answer(
        text=text,
        status=verdict.status,
        strategy=decision.strategy,
        complexity=verdict.complexity or decision.complexity,
        chosen_model=verdict.winner.student,
        agreement=verdict.agreement,
        confidence=verdict.confidence,
        members=replies if query.top_logprobs is not None else _without_logprobs(replies),
        seconds=seconds,
        prompt_tokens=sum(reply.prompt_tokens for reply in asked),
        completion_tokens=sum(reply.completion_tokens for reply in asked),
        answer=verdict.winner.answer,
        domain=choice.domain.name,
        calls_saved=max(0, allowed - len(members)),
        cost_usd=None if None in costs else sum(cost for cost in costs if cost is not None),
        moves=tuple(moves),
        finish=verdict.winner.finish,
        flags=flags,
        logprobs=verdict.winner.logprobs if query.top_logprobs is not None else (),
        request_id=query.request_id,
        kind=choice.brief.kind,
        adapter=verdict.winner.adapter,
        decision=decision,
        notes=verdict.notes,
    )


def _without_logprobs(replies: Sequence[MemberReply]) -> tuple[MemberReply, ...]:
    """Those gathered for the vote alone have done their work."""
    return tuple(replace(reply, logprobs=()) if reply.logprobs else reply for reply in replies)


def _cannot(asked: Sequence[MemberReply]) -> str:
    names = ", ".join(reply.student for reply in asked)
    return f"I cannot answer that: none of the students asked ({names}) has an answer."


def _last_resort(errors: Sequence[StudiumError]) -> StudiumError:
    """The error to raise when nothing usable is left: the one somebody can act on first."""
    for family in (CallerError, OperatorError, StudiumError):
        for error in errors:
            if isinstance(error, family):
                return error
    return EngineFailure("no student said anything", expected="at least one reply", try_next="ask again")
