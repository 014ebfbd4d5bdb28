"""A reply with its grade: what metrics are computed from, and one line of a run's `answers.jsonl`.

Nothing is invented here: a reply nobody could grade, or that never came, has no score.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from studium.domains.answers import abstains
from studium.domains.protocol import ChecksSyntax, SoundsAlarm
from studium.evals.items import Item


class Said(NamedTuple):
    """What came back for one question. `error` says why nothing did; token counts None where the engine is silent."""

    text: str
    seconds: float
    completion_tokens: int | None = None
    error: str = ""


class Forced(NamedTuple):
    """The natural-log probability a model gives a text as its reply, and the tokens it is made of."""

    logprob: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Graded:
    """One try at one item. `score` 0 to 1, None: not scored; `answer` as its domain read it, None: none was there.

    `harm` says whether the right answer is an alarm, `alarm` whether the reply gave one; None where the domain sounds
    none. `parses` None: nothing to parse. `reference_logprob` is that of the reference as a reply, None: not measured.
    """

    item: str
    sample: int
    domain: str
    level: int | None
    question: str
    reply: str
    answer: str | None
    expected: str
    reference: str
    score: float | None
    declined: bool = False
    harm: bool | None = None
    alarm: bool | None = None
    parses: bool | None = None
    reference_logprob: float | None = None
    reference_tokens: int = 0
    seconds: float = 0.0
    completion_tokens: int | None = None
    error: str = ""

    def as_row(self) -> Mapping[str, Any]:
        return asdict(self)


def graded_of(row: Mapping[str, Any]) -> Graded:
    """Return what a row of `answers.jsonl` holds; a field it does not know is left out."""
    return Graded(**{field.name: row[field.name] for field in fields(Graded) if field.name in row})


def grade(
    item: Item,
    sample: int,
    said: Said,
    *,
    forced: Forced | None = None,
    score: float | None = None,
    judged: bool = False,
) -> Graded:
    """Return a reply with its grade, the domain's or, where `judged`, the `score` given. One that failed has none."""
    domain = item.domain
    answer = None if said.error else domain.extract(said.text)
    harm = alarm = parses = None
    if isinstance(domain, SoundsAlarm):
        harm = not domain.same(item.expected, domain.harmless)
        if not said.error:
            alarm = answer is not None and not domain.same(answer, domain.harmless)
    if isinstance(domain, ChecksSyntax) and not said.error:
        parses = domain.parses(said.text)
    return Graded(
        item=item.id,
        sample=sample,
        domain=domain.name,
        level=item.level,
        question=item.question,
        reply=said.text,
        answer=answer,
        expected=item.expected,
        reference=item.reference,
        score=None if said.error else score if judged else item.grade(said.text),
        declined=not said.error and abstains(said.text),
        harm=harm,
        alarm=alarm,
        parses=parses,
        reference_logprob=forced.logprob if forced else None,
        reference_tokens=forced.tokens if forced else 0,
        seconds=said.seconds,
        completion_tokens=said.completion_tokens,
        error=said.error,
    )
