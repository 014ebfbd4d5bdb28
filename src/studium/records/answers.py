"""A question put to the ensemble, and the answer with its evidence.

Every student's part has a fate, also of those who were late, failed or were not needed: "failed",
"not asked" and "said nothing useful" are never the same value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from studium.records.messages import Finish, Message, Sampling, TokenLogprob


class Complexity(StrEnum):
    """How much a question deserves (requirement ENS-1): bounds on students and seconds, not quotas."""

    SIMPLE = "simple"
    MEDIUM = "medium"
    COMPLEX = "complex"
    EXPERT = "expert"


@dataclass(frozen=True, slots=True)
class Query:
    """One question to the ensemble.

    `model` is a virtual model (auto, simple, ..., expert) or a student's name. `complexity`,
    `strategy`, `students` and `domain` are choices of the caller; empty leaves them to the
    ensemble. A `prompt` (raw text to be continued) excludes `messages` and goes to one student.
    `session` is whose spending this counts as; `cache` and `refine` None leave it to the configuration.
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    model: str = "auto"
    complexity: Complexity | None = None
    strategy: str | None = None
    students: tuple[str, ...] = ()
    domain: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    top_logprobs: int | None = None
    json_schema: Mapping[str, Any] | None = None
    grammar: str | None = None
    timeout_s: float | None = None
    request_id: str = ""
    api_key_name: str = ""
    session: str = ""
    cache: bool | None = None
    refine: bool | None = None

    @property
    def question(self) -> str:
        """The last thing the user said: what is recognised, compared and logged."""
        if self.prompt is not None:
            return self.prompt
        for message in reversed(self.messages):
            if message.role == "user":
                return message.content
        return ""


class Fate(StrEnum):
    """What became of one student's part in an answer."""

    ANSWERED = "answered"
    ABSTAINED = "abstained"  # it said that it cannot
    UNREADABLE = "unreadable"  # it spoke, but no answer could be read from it
    FAILED = "failed"
    LATE = "late"
    NOT_NEEDED = "not_needed"  # withdrawn: nothing it could say would have changed the answer
    REFUSED = "refused"  # never asked: it would have passed a spend limit


class Part(StrEnum):
    """What a student was asked for."""

    MEMBER = "member"  # the question itself
    REVISION = "revision"  # the question again, after seeing what others said
    SPLIT = "split"  # to take the question apart
    SUB_ANSWER = "sub_answer"  # one part of the question
    JOIN = "join"  # to put the parts together
    JUDGE = "judge"
    ORACLE = "oracle"
    ARBITER = "arbiter"


@dataclass(frozen=True, slots=True)
class MemberReply:
    """One student's part: what it said, the answer read from it, and what it cost.

    `answer` is canonical in the question's domain, None where nothing could be read. `confidence`
    is the student's own, 0 to 1: the probability of its least sure token; None where the engine gives
    no log-probabilities. `seconds` includes waiting for memory, `generate_seconds` does not. `sample`
    counts the tries of a student that was asked the same several times, from 0. `adapter` (ROLE/NAME) is the one
    through which it spoke, "" where that was the model as the roster has it; `instead_of` the model in whose place
    it was asked, since that was lost.
    """

    student: str
    fate: Fate
    text: str = ""
    answer: str | None = None
    confidence: float | None = None
    seconds: float = 0.0
    generate_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    finish: Finish = Finish.STOP
    logprobs: tuple[TokenLogprob, ...] = ()
    error: str = ""
    error_code: str = ""
    part: Part = Part.MEMBER
    sample: int = 0
    adapter: str = ""
    instead_of: str = ""


class MoveKind(StrEnum):
    LOAD = "load"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class MemoryMove:
    """A model brought into memory or taken out of it, and why. `bytes` is what was measured."""

    kind: MoveKind
    model: str
    seconds: float
    bytes: int | None
    reason: str = ""


class AnswerStatus(StrEnum):
    """ANSWERED; UNABLE: every student said it cannot; PARTIAL: time was up or only unreadable replies came."""

    ANSWERED = "answered"
    UNABLE = "unable"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Considered:
    """One way to answer that the selector weighed: `value` is its worth, None where it cannot be told.

    `accuracy` is the expected share right, 0 to 1, `seconds` and `cost_usd` what it would take; None: unknown.
    `by_form`: what the question is like calls for it, whatever its worth; without that and a value it was out of
    the question, and `why` says why.
    """

    strategy: str
    value: float | None
    why: str
    accuracy: float | None = None
    seconds: float | None = None
    cost_usd: float | None = None
    by_form: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a question is answered the way it is."""

    strategy: str
    complexity: Complexity
    reason: str
    considered: tuple[Considered, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the ensemble says, and how it came to it.

    `agreement` is the winner's share of the students that gave an answer, 0 to 1; `confidence`
    the estimate that the answer is right (where all decline: that nobody here knows), 0 to 1.
    `prompt_tokens` and `completion_tokens` count the whole committee. `calls_saved` counts students the
    complexity allowed but that were not needed. `kind` is the kind of question its members' reliability was
    looked up under; `adapter` is the winner's (ROLE/NAME); `notes` hold what a strategy, the cache, the governor or
    refinement have to tell, by name.
    """

    text: str
    status: AnswerStatus
    strategy: str
    complexity: Complexity
    chosen_model: str
    agreement: float
    confidence: float
    members: tuple[MemberReply, ...]
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    answer: str | None = None
    domain: str = ""
    calls_saved: int = 0
    cost_usd: float | None = 0.0
    moves: tuple[MemoryMove, ...] = ()
    finish: Finish = Finish.STOP
    flags: tuple[str, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    request_id: str = ""
    kind: str = ""
    adapter: str = ""
    decision: Decision | None = None
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Progress:
    """Something happened on the way to the answer; `text` is for people."""

    text: str
    member: MemberReply | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of the winning text. `logprobs` only where they were asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


AnswerEvent = Progress | Delta | Answer
