"""A question of several is taken apart, clones of one model answer the parts side by side, and the answers are joined.

Parts found by their form are joined by it, so that nothing is lost or added; only what a planner took apart, a
planner joins. What nobody answered is said to be unanswered.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from studium.domains.answers import abstains
from studium.records.answers import AnswerStatus, Fate, MemberReply, Part
from studium.records.messages import Ask, Finish, Message
from studium.records.models import Student
from studium.serve.calls import Batch, Brief, Call, Strategy, SubQuestion, Verdict
from studium.serve.choosing.evidence import chance_right
from studium.serve.judging.judging import words_of
from studium.serve.judging.quoting import conversation
from studium.serve.strategies.single import single
from studium.serve.strategies.splitting import join_ask, read_split, split_ask

# Students whose expected share right is this close to the best are as good: among them the fastest answers.
AS_GOOD = 0.05


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts in order, and who took the question apart where its form did not tell them."""

    questions: tuple[SubQuestion, ...]
    planner: Student | None


Splitting = Generator[Batch, Sequence[MemberReply], _Parts]
Answering = Generator[Batch, Sequence[MemberReply], dict[str, MemberReply]]
Joining = Generator[Batch, Sequence[MemberReply], str]


def clone_dispatch(brief: Brief) -> Strategy:
    """Have every part answered once by the fastest of the best students, and by one other where it has no answer.

    A question that nobody can take apart is put to one student, with the flag `not_split`. Parts that say the same
    are asked once. Where a part stays unanswered, the text says so and the status is partial.
    """
    parts = yield from _take_apart(brief)
    if len(parts.questions) < 2:
        verdict = yield from single(brief)
        return replace(verdict, flags=(*verdict.flags, "not_split"))
    different = {words_of(one.text): one for one in parts.questions}
    clone = fastest_of_the_best(brief, list(different.values()))
    said = yield from _answers(brief, clone, different)
    in_order = [(one, said[words_of(one.text)]) for one in parts.questions]
    if not any(reply.fate is Fate.ANSWERED for reply in said.values()):
        return _nothing(list(said.values()))
    text = yield from _joined(brief, parts, in_order)
    return _verdict(brief, clone, in_order, text)


def fastest_of_the_best(brief: Brief, parts: Sequence[SubQuestion]) -> Student:
    """Return whose clones answer: of those about as often right as the best, the most right answers a second.

    The seconds count the load it would cause, so a resident student goes before one that is not.
    """

    def share_right(student: Student) -> float:
        return sum(_reliability(part, student) for part in parts) / len(parts)

    def seconds(student: Student) -> float:
        turns = math.ceil(len(parts) / max(1, student.model.slots))
        return max(1e-6, brief.outlook.seconds_to_answer(student) * turns)

    best = max(map(share_right, brief.students))
    good = [one for one in brief.students if share_right(one) >= best - AS_GOOD]
    return max(good, key=lambda one: (share_right(one) / seconds(one), -seconds(one)))


def _take_apart(brief: Brief) -> Splitting:
    if brief.parts:
        return _Parts(tuple(_look_at(brief, part) for part in brief.parts), None)
    planner = brief.master or brief.students[0]
    ask = split_ask(planner, brief.outlook.capabilities(planner), brief.question, brief.ask.timeout_s)
    if ask is None:
        return _Parts((), planner)
    read = lambda text: "split" if len(read_split(text)) > 1 else None  # noqa: E731
    note = f"{planner.name} takes the question apart"
    (reply,) = yield Batch((Call(planner, ask, read, Part.SPLIT),), note=note)
    found = read_split(reply.text) if reply.fate is Fate.ANSWERED else ()
    return _Parts(tuple(_look_at(brief, part) for part in found), planner)


def _look_at(brief: Brief, part: str) -> SubQuestion:
    if brief.look_at is not None:
        return brief.look_at(part)
    return SubQuestion(part, brief.kind, brief.recognised, brief.extract, brief.known)


def _answers(brief: Brief, clone: Student, parts: Mapping[str, SubQuestion]) -> Answering:
    """Ask the clones for all parts together, and somebody else once for those that failed."""
    note = f"{clone.name} answers {len(parts)} parts"
    got = yield Batch(tuple(_call(brief, clone, part) for part in parts.values()), note=note)
    said = dict(zip(parts, got, strict=True))
    second = {
        key: other
        for key, reply in said.items()
        if reply.fate is not Fate.ANSWERED and (other := _next_best(brief, clone, parts[key]))
    }
    if second:
        note = f"asking others for {len(second)} parts that {clone.name} could not answer"
        got = yield Batch(tuple(_call(brief, other, parts[key]) for key, other in second.items()), note=note)
        said |= {key: reply for key, reply in zip(second, got, strict=True) if reply.fate is Fate.ANSWERED}
    return said


def _call(brief: Brief, student: Student, part: SubQuestion) -> Call:
    return Call(student, _only(brief.ask, part.text), part.extract, Part.SUB_ANSWER)


def _only(ask: Ask, question: str) -> Ask:
    """Return an ask with the last thing the user said replaced by a part of it."""
    said = list(conversation(ask))
    last = max((at for at, message in enumerate(said) if message.role == "user"), default=len(said))
    return replace(ask, prompt=None, messages=(*said[:last], Message("user", question)))


def _next_best(brief: Brief, clone: Student, part: SubQuestion) -> Student | None:
    others = [one for one in (*brief.students, *brief.reserves) if one != clone]
    return max(others, key=lambda one: _reliability(part, one), default=None)


def _reliability(part: SubQuestion, student: Student) -> float:
    known = part.known.get(student.name)
    return known.reliability if known else 0.0


def _joined(brief: Brief, parts: _Parts, in_order: Sequence[tuple[SubQuestion, MemberReply]]) -> Joining:
    told = [
        (part.text, reply.text.strip() if reply.fate is Fate.ANSWERED else None) for part, reply in in_order
    ]
    if parts.planner is None:
        return numbered(told, with_questions=False)
    ask = join_ask(parts.planner, brief.question, told, brief.ask)
    if ask is not None:
        note = f"{parts.planner.name} joins the answers"
        (reply,) = yield Batch((Call(parts.planner, ask, _whole, Part.JOIN),), note=note)
        if reply.fate is Fate.ANSWERED:
            return reply.text
    return numbered(told, with_questions=True)


def _whole(text: str) -> str | None:
    return None if abstains(text) else text.strip() or None


def numbered(told: Sequence[tuple[str, str | None]], *, with_questions: bool) -> str:
    """Return answers under the numbers of their questions; None: nobody had an answer, which is said."""
    lines: list[str] = []
    for number, (question, answer) in enumerate(told, 1):
        said = f"(not answered: {question})" if answer is None else answer
        if with_questions and answer is not None:
            said = f"{question}\n{answer}"
        lines.append(f"{number}. " + said.replace("\n", "\n   "))
    return "\n\n".join(lines)


def _nothing(replies: Sequence[MemberReply]) -> Verdict:
    declined = next((reply for reply in replies if reply.fate is Fate.ABSTAINED), None)
    if declined is not None:
        return Verdict(AnswerStatus.UNABLE, declined, 0.0, 0.0)
    partial = next((reply for reply in replies if reply.text), None)
    return Verdict(AnswerStatus.PARTIAL, partial, 0.0, 0.0, ("partial",))


def _verdict(
    brief: Brief, clone: Student, in_order: Sequence[tuple[SubQuestion, MemberReply]], text: str
) -> Verdict:
    answered = [reply for _, reply in in_order if reply.fate is Fate.ANSWERED]
    whole = len(answered) == len(in_order)
    best = next((reply for reply in answered if reply.student == clone.name), answered[0])
    finish = Finish.LENGTH if any(one.finish is Finish.LENGTH for one in answered) else Finish.STOP
    # No part's answer is the answer to the whole: nothing but the joined text speaks for all.
    winner = replace(best, text=text, answer=None, confidence=None, logprobs=(), finish=finish)
    right = [_chance_right(part, reply) for part, reply in in_order]
    notes: list[dict[str, Any]] = [
        {"question": part.text, "student": reply.student, "fate": reply.fate.value, "answer": reply.answer}
        for part, reply in in_order
    ]
    return Verdict(
        AnswerStatus.ANSWERED if whole else AnswerStatus.PARTIAL,
        winner,
        1.0,
        brief.calibrated(math.prod(right)) if whole else 0.0,
        () if whole else ("partial",),
        text=text,
        notes={"clone_dispatch": {"clone": clone.name, "parts": notes}},
    )


def _chance_right(part: SubQuestion, reply: MemberReply) -> float:
    known = part.known.get(reply.student)
    return chance_right(known.reliability, reply.confidence) if known else 0.0
