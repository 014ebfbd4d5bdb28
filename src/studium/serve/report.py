"""An answer as JSON: what the ensemble did, for the extra `studium` object, `/api/ask` and `ask --json`."""

from collections.abc import Sequence
from typing import Any

from studium.records.answers import Answer, Considered, Decision, MemberReply, MemoryMove, Progress

Json = dict[str, Any]


def report(answer: Answer, *, request_id: str, explain: bool = False, ignored: Sequence[str] = ()) -> Json:
    """Return how the answer came about. With `explain` each student's words are in it."""
    body: Json = {
        "request_id": request_id,
        "status": answer.status.value,
        "strategy": answer.strategy,
        "complexity": answer.complexity.value,
        "domain": answer.domain,
        "chosen_model": answer.chosen_model,
        "adapter": answer.adapter or None,
        "answer": answer.answer,
        "agreement": answer.agreement,
        "confidence": answer.confidence,
        "seconds": answer.seconds,
        "calls_saved": answer.calls_saved,
        "cost_usd": answer.cost_usd,
        "flags": list(answer.flags),
        "members": [_member(member, explain) for member in answer.members],
        "moves": [_fields(move) for move in answer.moves],
        "question_kind": answer.kind,
        "decision": answer.decision and _decision(answer.decision),
        "notes": dict(answer.notes),
    }
    if ignored:
        body["ignored_parameters"] = list(ignored)
    return body


def whole(
    answer: Answer, *, request_id: str = "", explain: bool = False, ignored: Sequence[str] = ()
) -> Json:
    """Return an answer with its text, its tokens and how it came about: the one JSON form of an answer."""
    said: Json = {
        "text": answer.text,
        "finish": answer.finish.value,
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        },
    }
    return said | report(answer, request_id=request_id, explain=explain, ignored=ignored)


def step(progress: Progress) -> Json:
    """Return what happened on the way to an answer: a text for people, and who spoke, if somebody did."""
    if progress.member is None:
        return {"text": progress.text}
    member = progress.member
    return {
        "text": progress.text,
        "student": member.student,
        "part": member.part.value,
        "fate": member.fate.value,
        "answer": member.answer,
    }


def _member(member: MemberReply, explain: bool) -> Json:
    body: Json = {
        "student": member.student,
        "fate": member.fate.value,
        "part": member.part.value,
        "sample": member.sample,
        "answer": member.answer,
        "confidence": member.confidence,
        "seconds": member.seconds,
        "prompt_tokens": member.prompt_tokens,
        "completion_tokens": member.completion_tokens,
    }
    if member.adapter:
        body["adapter"] = member.adapter
    if member.instead_of:
        body["instead_of"] = member.instead_of
    if member.error:
        body |= {"error": member.error, "error_code": member.error_code}
    if explain:
        body["text"] = member.text
    return body


def _fields(record: Considered | Decision | MemoryMove) -> Json:
    """Return a record's fields; on the path of every request, where `dataclasses.asdict` copies too much."""
    return {name: getattr(record, name) for name in record.__slots__}


def _decision(decision: Decision) -> Json:
    return _fields(decision) | {"considered": [_fields(one) for one in decision.considered]}
