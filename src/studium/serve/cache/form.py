"""An answer as bytes to be kept, and as it is given again: the same words, but nobody was asked, nothing spent."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from studium.records.answers import Answer, AnswerStatus, Complexity, Decision, Fate
from studium.records.messages import Finish, TokenLogprob

_UNSETTLED = frozenset(
    {"partial", "fallback", "short_handed", "not_refined", "not_split", "no_judge", "stood_in"}
)
_INCOMPLETE = frozenset({Fate.FAILED, Fate.LATE, Fate.REFUSED})
CACHED = "cached"


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept answer with its question. `answer` has no members; `asked` says who they were."""

    question: str
    answer: Answer
    asked: tuple[str, ...]


def is_settled(answer: Answer) -> bool:
    """Say whether an answer would come out the same on another day: no failure, no limit had a part in it."""
    if (
        answer.status is not AnswerStatus.ANSWERED
        or _UNSETTLED & set(answer.flags)
        or "governor" in answer.notes
    ):
        return False
    return not any(member.fate in _INCOMPLETE for member in answer.members)


def kept(question: str, answer: Answer) -> Kept:
    """Return what is worth keeping of an answer."""
    asked = tuple(dict.fromkeys(one.student for one in answer.members if one.fate is not Fate.NOT_NEEDED))
    return Kept(question, replace(answer, members=(), moves=(), decision=None), asked)


def to_bytes(one: Kept) -> bytes:
    """Return it as JSON. Raises TypeError (orjson's) where a strategy's notes have no JSON form."""
    return orjson.dumps(asdict(one))


def from_bytes(data: bytes) -> Kept:
    """Return what `to_bytes` was given. Raises ValueError kin (or KeyError, TypeError) for anything else."""
    body = orjson.loads(data)
    told: dict[str, Any] = body["answer"]
    told |= {
        "status": AnswerStatus(told["status"]),
        "complexity": Complexity(told["complexity"]),
        "finish": Finish(told["finish"]),
        "members": (),
        "moves": (),
        "flags": tuple(told["flags"]),
        "logprobs": tuple(
            TokenLogprob(
                one["token"], one["logprob"], tuple((token, logprob) for token, logprob in one["top"])
            )
            for one in told["logprobs"]
        ),
    }
    return Kept(body["question"], Answer(**told), tuple(body["asked"]))


def given_again(
    one: Kept, *, hit: str, age_s: float, similarity: float, request_id: str, seconds: float
) -> Answer:
    """Return a kept answer for another request. `hit` is "exact" or "meaning".

    Seconds are those it took now; tokens and cost are 0, since nothing was generated: what was spent is told in
    `notes["cache"]`, with the request whose answer this is, which is where feedback belongs.
    """
    answer = one.answer
    note = {
        "hit": hit,
        "age_s": age_s,
        "similarity": similarity,
        "of": answer.request_id,
        "asked": list(one.asked),
        "seconds": answer.seconds,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "cost_usd": answer.cost_usd,
    }
    if hit == "meaning":
        note["question"] = one.question
    return replace(
        answer,
        seconds=seconds,
        prompt_tokens=0,
        completion_tokens=0,
        cost_usd=0.0,
        calls_saved=answer.calls_saved + len(one.asked),
        flags=(*answer.flags, CACHED),
        request_id=request_id,
        decision=Decision(
            answer.strategy, answer.complexity, f"answered {age_s:.0f} s ago; nobody was asked now"
        ),
        notes={**answer.notes, "cache": note},
    )
