"""From what was answered, and what is said of it, to grades of those who took part. Pure.

Only the first word of each member counts: a revision has seen what others said, a part is another question. Who
failed or was late is not graded. Who declined was not right where the question can be checked, as in the cards:
reliability is the chance that a student, asked, gives the right answer.
"""

from collections.abc import Callable, Mapping

from studium.domains.protocol import ChecksQuestions, Domain
from studium.errors import BadRequest
from studium.records.answers import Answer, AnswerStatus, Fate, Part, Query
from studium.records.grades import (
    WHOLE,
    Feedback,
    Grade,
    GradedReply,
    GradeSource,
    KeptAnswer,
    KeptMember,
    Rating,
)
from studium.store.grades import feedback_key

_SPOKE = (Fate.ANSWERED, Fate.ABSTAINED, Fate.UNREADABLE)
_CLAIMED_NOTHING = (Fate.ABSTAINED, Fate.UNREADABLE)

MOST_KEPT_CHARACTERS = 20_000
"""Of one question, answer or reply: nobody compares more, and a store is no archive."""

JUDGE_WEIGHT = 0.5
"""A judge is a model: its verdict counts half of what a check or a person says."""


def kept(
    query: Query, answer: Answer, *, at: float, computed: float, models: Mapping[str, str]
) -> KeptAnswer:
    """Return what is kept of an answer. `computed` is its confidence before calibration."""
    members = tuple(
        KeptMember(
            one.student,
            one.fate.value,
            one.answer,
            one.text[:MOST_KEPT_CHARACTERS],
            one.confidence,
            one.seconds,
            models.get(one.student, ""),
        )
        for one in answer.members
        if one.part is Part.MEMBER and one.sample == 0
    )
    return KeptAnswer(
        request_id=query.request_id,
        at=at,
        kind=answer.kind,
        domain=answer.domain,
        question=query.question[:MOST_KEPT_CHARACTERS],
        text=answer.text[:MOST_KEPT_CHARACTERS],
        answer=answer.answer,
        status=answer.status.value,
        strategy=answer.strategy,
        complexity=answer.complexity.value,
        chosen_model=answer.chosen_model,
        agreement=answer.agreement,
        confidence=computed,
        api_key_name=query.api_key_name,
        members=members,
    )


def verified(answer: KeptAnswer, domain: Domain | None) -> list[Grade]:
    """Return what the question's domain can check of each member's reply and of the answer; nothing where it cannot."""
    if domain is None or not isinstance(domain, ChecksQuestions):
        return []
    scores = {
        one.student: domain.check(answer.question, one.text)
        for one in answer.members
        if one.fate == Fate.ANSWERED
    }
    if answer.status == AnswerStatus.ANSWERED:
        scores[WHOLE] = domain.check(answer.question, answer.text)
    if any(score is not None for score in scores.values()):
        scores |= {one.student: 0.0 for one in answer.members if one.fate in _CLAIMED_NOTHING}
    return _grades(answer, scores, GradeSource.VERIFIER, answer.at)


def repeated(
    query: Query, answer: Answer, domain: Domain | None, *, at: float, models: Mapping[str, str]
) -> list[GradedReply]:
    """Return the replies of those who were asked more than once, where the domain can check them.

    Of different students nothing: whether a second one is asked depends on what the first said, so what those who
    were asked have in common is not what all have. Where everybody was asked in any case, of everybody.
    """
    members = [one for one in answer.members if one.part is Part.MEMBER and one.fate in _SPOKE]
    again = {one.student for one in members if one.sample}
    if answer.strategy != "everyone":
        members = [one for one in members if one.student in again]
    if len(members) < 2 or domain is None or not isinstance(domain, ChecksQuestions):
        return []
    found = [(one, domain.check(query.question, one.text)) for one in members]
    if all(score is None for _, score in found):
        return []
    found = [(one, score) for one, score in found if score is not None or one.fate is not Fate.ANSWERED]
    given = [one.answer if one.fate is Fate.ANSWERED else None for one, _ in found]
    answers = list(dict.fromkeys(given))
    return [
        GradedReply(
            at,
            f"{at}/{query.request_id}",
            answer.kind,
            one.student,
            models.get(one.student, ""),
            one.sample,
            # Which answer it was is enough, what it was is nobody's business here.
            "" if text is None else str(1 + answers.index(text)),
            one.fate is Fate.ANSWERED and score == 1.0,
        )
        for (one, score), text in zip(found, given, strict=True)
    ]


def judged(answer: KeptAnswer, scores: Mapping[str, float]) -> list[Grade]:
    """Return what a judge said of members, by name: shares of pairs won, 0 to 1."""
    return _grades(answer, scores, GradeSource.JUDGE, answer.at, weight=JUDGE_WEIGHT)


def rated(answer: KeptAnswer, feedback: Feedback, domain: Domain | None) -> list[Grade]:
    """Return what somebody's word on an answer says of each member and of the answer as a whole.

    Good: who gave the same answer is right, who gave another wrong where the domain can compare them. Bad: who
    gave the same is wrong, of the others nothing is known. Corrected: each is compared with the correction, where
    the domain can read an answer in it. Raises BadRequest for a correction that is missing or out of place.
    """
    _check(feedback)
    if feedback.rating is Rating.CORRECTED:
        scores = _against(answer, feedback.correction, domain)
    else:
        scores = _beside(answer, domain, good=feedback.rating is Rating.GOOD)
    key_of: Callable[[str], str] = lambda student: feedback_key(  # noqa: E731
        feedback.request_id, feedback.api_key_name, student
    )
    return _grades(answer, scores, GradeSource.FEEDBACK, feedback.at, key_of=key_of)


def _check(feedback: Feedback) -> None:
    wants = feedback.rating is Rating.CORRECTED
    if wants == bool(feedback.correction.strip()):
        return
    raise BadRequest(
        "the correction is empty" if wants else f"a correction came with the rating {feedback.rating.value}",
        expected="the text that would have been right, or the rating good or bad without one",
        try_next='studium feedback ID good, studium feedback ID bad, or studium feedback ID "the right answer"',
    )


def _beside(answer: KeptAnswer, domain: Domain | None, *, good: bool) -> dict[str, float | None]:
    """Grade by whether a member said what was answered."""
    scores: dict[str, float | None] = {WHOLE: float(good)} if answer.status == AnswerStatus.ANSWERED else {}
    for one in answer.members:
        if one.fate != Fate.ANSWERED:
            continue
        if _says(one, answer, domain):
            scores[one.student] = float(good)
        elif good and domain is not None and one.answer is not None:
            scores[one.student] = 0.0
    return scores


def _says(one: KeptMember, answer: KeptAnswer, domain: Domain | None) -> bool:
    if one.answer is None or answer.answer is None:
        return one.text == answer.text
    same = domain.same if domain else str.__eq__
    return same(one.answer, answer.answer)


def _against(answer: KeptAnswer, correction: str, domain: Domain | None) -> dict[str, float | None]:
    """Grade by comparison with the right answer, where the domain can read one in the correction."""
    right = domain.extract(correction) if domain else None
    if domain is None or right is None:
        return {}
    scores: dict[str, float | None] = {
        one.student: float(domain.same(one.answer, right))
        for one in answer.members
        if one.fate == Fate.ANSWERED and one.answer is not None
    }
    scores[WHOLE] = float(answer.answer is not None and domain.same(answer.answer, right))
    return scores


def _grades(
    answer: KeptAnswer,
    scores: Mapping[str, float | None],
    source: GradeSource,
    at: float,
    *,
    weight: float = 1.0,
    key_of: Callable[[str], str] = lambda _student: "",
) -> list[Grade]:
    members = {one.student: one for one in answer.members}
    return [
        Grade(
            at=at,
            request_id=answer.request_id,
            student=student,
            kind=answer.kind,
            source=source,
            score=score,
            weight=weight,
            model=members[student].model if student in members else "",
            confidence=_confidence(answer, members.get(student)),
            key=key_of(student),
        )
        for student, score in scores.items()
        if score is not None and (student in members or student == WHOLE)
    ]


def _confidence(answer: KeptAnswer, member: KeptMember | None) -> float | None:
    """Return how sure somebody was of the answer that is graded; None of a decline, however sure it was of that."""
    if member is None:
        return answer.confidence
    return member.confidence if member.fate == Fate.ANSWERED else None
