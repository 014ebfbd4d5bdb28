"""The fleet: every model in one bounded memory. A `Seat` is a place at a model for one student's ask.

Whoever wants a model to speak takes a seat; what it cost is measured and remembered on the way out.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from itertools import count

from studium.engines.protocol import Engine
from studium.errors import EngineDied, PromptTooLong, SpendingLimit, StudiumError
from studium.fleet.elsewhere import peak_bytes
from studium.fleet.expectation import Coming, Expectation
from studium.fleet.lease import Lease, Leases, lease_model
from studium.fleet.limits import Limits, difference
from studium.fleet.plan import plan
from studium.fleet.profiles import Profiles, profile_key
from studium.fleet.purse import Allowance, Bill, NoLimits, Purse, ask_of
from studium.fleet.refusals import too_long_for_smaller_shape
from studium.fleet.residency import Planner, Residency
from studium.fleet.tenancy import LEASE, Grant
from studium.records.answers import MemoryMove
from studium.records.hardware import DeviceUse
from studium.records.messages import Ask, Embeddings, Message, Piece, Reply, Sampling
from studium.records.models import ModelSpec, Residence, Student
from studium.records.profiles import ModelProfile
from studium.records.runs import StudentRun
from studium.records.scheduling import Priority

NO_CHOICES = Sampling()
# What a chat template puts around each message, at most.
TEMPLATE_TOKENS = 16
USUAL_ANSWER_TOKENS = 512


class Seat:
    """A place at a student's model, from `Fleet.seat`. One ask at a time.

    `last_run` is what the last ask cost, measured; it is there once `generate` has ended, also badly.
    """

    def __init__(self, fleet: "Fleet", student: Student, grant: Grant, bill: Bill | None = None) -> None:
        self._fleet = fleet
        self._bill = bill
        self._student = student
        self._grant = grant
        self.load_seconds = grant.load_seconds
        self.died = False
        self.last_run: StudentRun | None = None

    async def generate(self, ask: Ask) -> AsyncGenerator[Piece | Reply, None]:
        """Yield what the student says, its own prompt and sampling applied; then the Reply.

        Raises SpendingLimit where it may not be paid for, and what the engine raises; the run is recorded
        either way.
        """
        began, reply, error_code = time.monotonic(), None, "withdrawn"
        model = self._grant.model
        engine = self._fleet.engines[model.engine]
        try:
            allowed = self._allow(as_student(self._student, ask))
            async with allowed, aclosing(engine.generate(model, allowed.ask)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Reply):
                        reply = piece
                        allowed.got(reply)
                    yield piece
        except StudiumError as error:
            self.died = isinstance(error, EngineDied)
            error_code = error.code
            if isinstance(error, PromptTooLong) and difference(self._student.model, model):
                raise too_long_for_smaller_shape(self._student.model, model, error) from error
            raise
        finally:
            if error_code != SpendingLimit.code:  # else the model was not run
                self.last_run = await self._fleet.record(
                    self._student,
                    self._grant,
                    reply,
                    seconds=time.monotonic() - began,
                    load_seconds=self.load_seconds,
                    error_code="" if reply else error_code,
                )

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Return one vector per text. Raises Unsupported where the model gives none, SpendingLimit."""
        allowed = self._allow(ask_of(texts))
        async with allowed:
            vectors = await self._fleet.engines[self._grant.model.engine].embed(self._grant.model, texts)
            allowed.got(vectors)
            return vectors

    def _allow(self, ask: Ask) -> Allowance:
        model = self._grant.model
        on_gpu = self._fleet.residency.limits.on_gpu(model, self._fleet.engines[model.engine].capabilities)
        return self._fleet.purse.allow(self._student.name, model, ask, bill=self._bill, on_gpu=on_gpu)


class Seating:
    """A place to be taken and given back, with `async with`. A class: a generator would cost more, at every call."""

    def __init__(
        self, fleet: "Fleet", student: Student, take: Callable[[], Awaitable[Grant]], bill: Bill | None
    ) -> None:
        self._fleet, self._student, self._take, self._bill = fleet, student, take, bill

    async def __aenter__(self) -> Seat:
        self._seat = Seat(self._fleet, self._student, await self._take(), self._bill)
        return self._seat

    async def __aexit__(self, *_: object) -> None:
        self._fleet.residency.give_back(self._student.model, died=self._seat.died)


class Fleet:
    """All engines behind one memory budget. Open with `start`, end with `close`."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        limits: Limits,
        *,
        known: Mapping[str, ModelProfile],
        save_profile: Callable[[ModelProfile], None],
        record_run: Callable[[StudentRun], None],
        available: Callable[[], Mapping[str, int]] | None = None,
        planner: Planner = plan,
        purse: Purse | None = None,
    ) -> None:
        self.engines = engines
        self.purse = purse or NoLimits()
        self.profiles = Profiles(known, save_profile)
        self._leases = Leases(leave_s=limits.leave_s, quiet_s=limits.quiet_s)
        self.residency = Residency(
            {**engines, LEASE: self._leases}, self.profiles, limits, available=available, planner=planner
        )
        self._record_run = record_run
        self._keys = count()

    def start(self) -> None:
        """Start housing models in the running event loop."""
        self.residency.start()

    async def close(self) -> None:
        """Unload every model and end every process the engines started."""
        await self._leases.close()
        await self.residency.close()
        for engine in self.engines.values():
            await engine.close()

    def seat(
        self,
        student: Student,
        *,
        timeout_s: float,
        priority: Priority = Priority.INTERACTIVE,
        least_context_tokens: int | None = None,
        bill: Bill | None = None,
    ) -> "Seating":
        """Hold a place at the student's model within an `async with`; loads it, and makes room for it, if need be.

        `least_context_tokens` is what the ask can do with should the model run out of memory as it is
        loaded (see `tokens_at_most`); None: all its context. What the student says is charged to `bill`.
        Raises EngineTimeout, DoesNotFit, UnknownModel, ModelBroken or EngineMissing.
        """
        take = partial(
            self.residency.take,
            student.model,
            priority=priority,
            timeout_s=timeout_s,
            least_context_tokens=least_context_tokens,
        )
        return Seating(self, student, take, bill)

    def expect(self, coming: Sequence[Coming] = ()) -> Expectation:
        """Say which students will be asked, so that their models are kept, or loaded ahead where memory allows.

        Returns at once. The expectation can be changed, and must be withdrawn when the work ends.
        """
        expectation = Expectation(self.residency, next(self._keys))
        expectation.change(coming)
        return expectation

    def run_seconds(self, student: Student) -> float:
        """Return how long the student's answer takes once it has its seat, as far as is known."""
        return self.residency.run_seconds(student.model)

    def seconds_to_answer(self, student: Student) -> float:
        """Return how long the student's answer would take from now on, the load it would cause included."""
        return self.seconds_to_load(student) + self.run_seconds(student)

    def seconds_to_load(self, student: Student) -> float:
        """Return how long the student's model would take to be in memory; 0 where it is."""
        return self.residency.seconds_to_seat(student.model)

    def fit_together(self, students: Sequence[Student]) -> bool:
        """Say whether the students' models could be in memory side by side, as far as was learned."""
        return self.residency.fit_together(student.model for student in students)

    def wait_bound_s(self, student: Student, priority: Priority = Priority.INTERACTIVE) -> float:
        """Return the longest that an ask which comes now would wait for its seat, in seconds.

        0 where a place is free. It follows from the planner's rules and the cautious end of the
        forecasts (see `waits`), and is generous: nobody promises that other programs leave memory.
        """
        return self.residency.wait_bound_s(student.model, priority)

    def lease(
        self,
        name: str,
        num_bytes: int,
        *,
        priority: Priority = Priority.TRAINING,
        timeout_s: float = 3600.0,
        on_gpu: bool = False,
    ) -> Lease:
        """Return a lease of `num_bytes` for work that is no model, such as a training run: `async with` holds it.

        It is placed like a model and asked to give way for whoever is more urgent; each wait for its
        memory lasts at most `timeout_s`. Raises BadRequest; entering it raises EngineTimeout or DoesNotFit.
        """
        model = lease_model(name, num_bytes, on_gpu=on_gpu)
        return Lease(self._leases, self.residency, model, priority, timeout_s)

    async def load(self, student: Student, *, timeout_s: float = 60.0) -> None:
        """Bring a student's model into memory now."""
        async with self.seat(student, timeout_s=timeout_s):
            pass

    async def unload(self, model: ModelSpec) -> bool:
        """Take a model out of memory now if nobody uses it; True when it is out afterwards."""
        return await self.residency.evict(model.name)

    async def residences(self) -> list[Residence]:
        """Return what all engines hold in memory now, measured."""
        return [one for engine in self.engines.values() for one in await engine.residences()]

    def devices(self) -> list[DeviceUse]:
        """Return each device's budget and what is set aside of it now, the preferred device first."""
        return self.residency.devices()

    async def need_bytes(self, model: ModelSpec) -> int:
        """Return the memory set aside for a model when it is loaded: learned, else estimated."""
        return await self.residency.need_bytes(model)

    def moves_since(self, at: float) -> list[MemoryMove]:
        """Return loads and unloads that ended after `at`, in `time.monotonic` seconds."""
        return self.residency.moves_since(at)

    async def record(
        self,
        student: Student,
        grant: Grant,
        reply: Reply | None,
        *,
        seconds: float,
        load_seconds: float,
        error_code: str,
    ) -> StudentRun:
        """Remember one run: measured memory, time, tokens, and whether it succeeded. Returns it."""
        most_bytes = await self._peak_bytes(grant.model)
        self.residency.measured(grant.model, most_bytes)
        run = StudentRun(
            student=student.name,
            model=profile_key(grant.model, grant.device),
            started_at=time.time() - seconds,
            seconds=seconds + load_seconds,
            success=reply is not None,
            memory_bytes=most_bytes,
            prompt_tokens=(reply.prompt_tokens or 0) if reply else 0,
            completion_tokens=(reply.completion_tokens or 0) if reply else 0,
            load_seconds=load_seconds,
            error_code=error_code,
        )
        if error_code != "withdrawn":  # not the model's doing: it would spoil its failure rate
            self.profiles.ran(
                grant.model,
                run,
                generate_seconds=seconds,
                first_token_s=reply.first_token_s if reply else None,
                device=grant.device,
            )
        self._record_run(run)
        return run

    async def _peak_bytes(self, model: ModelSpec) -> int | None:
        for residence in await self.engines[model.engine].residences():
            if residence.model == model.name:
                return peak_bytes(residence)
        return None


def as_student(student: Student, ask: Ask) -> Ask:
    """Return the ask with the student's system prompt in front and its sampling filled in."""
    messages, sampling = ask.messages, ask.sampling
    if student.system_prompt and messages and messages[0].role != "system":
        messages = (Message("system", student.system_prompt), *messages)
    if student.sampling != NO_CHOICES:
        sampling = sampling.over(student.sampling)
    if messages is ask.messages and sampling is ask.sampling:
        return ask
    return replace(ask, messages=messages, sampling=sampling)


def tokens_at_most(student: Student, ask: Ask) -> int:
    """Return a context that surely holds an ask and its answer: no text has more tokens than bytes.

    Where the length of the answer is left open, as much is allowed for as most answers take.
    """
    texts = [student.system_prompt, ask.prompt or "", *(message.content for message in ask.messages)]
    prompt = sum(len(text.encode()) + TEMPLATE_TOKENS for text in texts)
    return prompt + (ask.sampling.max_tokens or student.sampling.max_tokens or USUAL_ANSWER_TOKENS)
