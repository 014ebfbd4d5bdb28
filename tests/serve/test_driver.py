"""What the driver tells the fleet beforehand of a committee's members whose turn has not come."""

import time
from collections.abc import Sequence

from tests.fleet.house import House, eventually, house, script, student

from studium.records.answers import AnswerStatus, MemberReply, MoveKind
from studium.records.messages import Ask, Message
from studium.serve.calls import Batch, Call, Strategy, Verdict
from studium.serve.driver import Driver

ASK = Ask(messages=(Message("user", "hello"),))
NOTHING = Verdict(AnswerStatus.UNABLE, None, 0.0, 0.0)


def one_and_done(name: str) -> Strategy:
    """Ask one member, and find that the others are not needed."""
    yield Batch((Call(student(name)),))
    return NOTHING


async def carry_out(h: House, strategy: Strategy, members: Sequence[str]) -> list[MemberReply]:
    driver = Driver(
        h.fleet,
        ASK,
        extract=lambda text: text,
        deadline=time.monotonic() + 30,
        model_timeout_s=30,
        members=[student(name) for name in members],
    )
    return [event.member async for event in driver.run(strategy) if getattr(event, "member", None)]


async def test_the_next_member_is_loaded_while_the_first_one_speaks_and_let_go_at_the_end():
    models = {"speaker": script(40, token_s=0.4), "next": script(40, load_s=0.3)}
    async with house(models) as h:
        await h.ask(student("next"))
        assert await h.fleet.unload(student("next").model)
        await carry_out(h, one_and_done("speaker"), ["speaker", "next"])
        assert set(h.fleet.residency.resident()) == {"speaker", "next"}
        assert await h.fleet.unload(student("next").model)
        await h.ask(student("speaker"))
        assert h.fleet.residency.resident() == ["speaker"]  # nobody expects it any more


async def test_a_load_ahead_that_was_not_needed_is_stopped_with_the_question():
    models = {"speaker": script(40), "next": script(40, load_s=0.5)}
    async with house(models) as h:
        await h.ask(student("next"))
        assert await h.fleet.unload(student("next").model)
        await carry_out(h, one_and_done("speaker"), ["speaker", "next"])
        await eventually(lambda: h.fleet.residency.resident() == ["speaker"])
        await eventually(lambda: h.fleet.residency.reserved_bytes() == 40 * 2**20)
        loads = [move.model for move in h.fleet.moves_since(0) if move.kind is MoveKind.LOAD]
        assert loads == ["next", "speaker"]
