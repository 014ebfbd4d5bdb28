"""Real models, a real thief: another process takes memory while the embedded students are asked."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager

import psutil

from studium.engines.llamacpp.engine import LlamaCppEngine
from studium.fleet import Fleet
from studium.fleet.limits import Limits
from studium.records.messages import Ask, Message, Reply, Sampling
from studium.records.models import Student
from studium.registry import embedded_students

MIB = 2**20
ASK = Ask(
    messages=(Message("user", "What is 47 + 58?"),), sampling=Sampling(temperature=0.0, seed=1, max_tokens=8)
)


def private_bytes(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
        return memory.rss - memory.shared
    except psutil.Error:
        return 0


async def ask(fleet: Fleet, student: Student) -> bool:
    async with fleet.seat(student, timeout_s=60) as seat, aclosing(seat.generate(ASK)) as pieces:
        return any([isinstance(piece, Reply) async for piece in pieces])


@contextmanager
def thief(mebibytes: int) -> Iterator[None]:
    """Run a process that fills memory."""
    code = f"held = b'x' * ({mebibytes} << 20); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate(b"\n", timeout=10)


async def test_a_thief_takes_a_third_of_the_budget_and_every_ask_is_answered():
    students = list(embedded_students().values())[:3]
    me, budget = psutil.Process(), 240 * MIB

    def available() -> Mapping[str, int]:
        """A machine with no more memory than the budget: what our processes hold of it is really measured."""
        return {"memory": budget - sum(map(private_bytes, me.children(recursive=True)))}

    fleet = Fleet(
        {"llamacpp": LlamaCppEngine()},
        Limits(budget, watch_s=0.05),
        known={},
        save_profile=lambda profile: None,
        record_run=lambda run: None,
        available=available,
    )
    fleet.start()
    try:
        assert all(await asyncio.gather(*(ask(fleet, student) for student in students)))
        before = fleet.residency.reserved_bytes()
        with thief(150):
            async with asyncio.timeout(60):
                while fleet.residency.not_ours_bytes()["memory"] < 140 * MIB:
                    await asyncio.sleep(0.05)
                while fleet.residency.reserved_bytes() > budget - 140 * MIB:
                    await asyncio.sleep(0.05)
            answers = await asyncio.gather(*(ask(fleet, student) for student in students * 2))
            assert all(answers)
            assert fleet.residency.reserved_bytes() < before
    finally:
        await fleet.close()
