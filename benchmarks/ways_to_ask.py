"""Ways to ask a committee that are compared on real answers: generators, as the strategies that serve are."""

from collections.abc import Sequence
from functools import partial

from studium.records.answers import Fate, MemberReply
from studium.records.models import Student
from studium.serve.asking_order import Option, next_batch
from studium.serve.calls import Batch, Brief, Call, Outlook, Strategy
from studium.serve.evidence import Panel
from studium.serve.strategies.verdicts import verdict_of


def all_at_once(of: Brief, panel: Panel) -> Strategy:
    """Ask everybody together and hear everybody out."""
    replies = yield Batch(tuple(map(Call, of.students)))
    return verdict_of(of, panel, replies, ())


def in_turn(of: Brief, panel: Panel) -> Strategy:
    """Ask one after the other in the order given, until settled."""
    replies: list[MemberReply] = []
    left = list(of.students)
    while not panel.settled(replies, [one.name for one in left]):
        replies += yield Batch((Call(left.pop(0)),))
    return verdict_of(of, panel, replies, ())


def at_hand_first(of: Brief, panel: Panel) -> Strategy:
    """Ask the fewest that could settle it, those in memory first, then by information per second, until settled."""
    replies: list[MemberReply] = []
    left = {one.name: one for one in of.students}
    while not panel.settled(replies, list(left)):
        options = [_option(of.outlook, one) for one in left.values()]
        chosen = next_batch(
            panel, replies, options, lambda names: of.outlook.fit_together([left[n] for n in names])
        )
        calls = tuple(Call(left.pop(one.name)) for one in chosen)
        replies += yield Batch(calls, partial(_settled, panel, tuple(replies), calls, tuple(left)))
        replies = [one for one in replies if one.fate is not Fate.NOT_NEEDED]
    return verdict_of(of, panel, replies, ())


def _option(outlook: Outlook, student: Student) -> Option:
    return Option(student.name, outlook.seconds_to_answer(student), outlook.seconds_to_load(student))


def _settled(
    panel: Panel,
    before: Sequence[MemberReply],
    calls: Sequence[Call],
    later: Sequence[str],
    got: Sequence[MemberReply],
) -> bool:
    heard = {one.student for one in got}
    speaking = [call.student.name for call in calls if call.student.name not in heard]
    return panel.settled([*before, *got], [*speaking, *later])


def cheap_first(of: Brief, panel: Panel) -> Strategy:
    """Ask the cheap in the order given, two at least, until one answer is probable enough; else the strong model.

    It is asked as soon as the cheap that are left could not bring that probability any more; then it decides.
    """
    assert of.master is not None
    wanted = of.stages[-1].confidence
    replies: list[MemberReply] = []
    left = [one.name for one in of.students]
    for student in of.students:
        replies += yield Batch((Call(student),))
        left.remove(student.name)
        groups = panel.groups(replies)
        if len(replies) > 1 and groups and groups[0].probability >= wanted:
            return verdict_of(of, panel, replies, ())
        if panel.most_probable(replies, left) < wanted:
            break
    (last,) = yield Batch((Call(of.master),))
    return verdict_of(of, panel, [last] if last.fate is Fate.ANSWERED else replies, ())
