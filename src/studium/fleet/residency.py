"""Sole owner of what is in memory. One loop takes events in turn, asks `plan`, and starts its moves.

Loads and unloads run as tasks of their own and report back as events, so the loop never waits for an
engine; nothing but the loop changes what is resident, and whatever is read to decide is read there.
A seat in use is never taken away; a load already under way is joined.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from studium.engines.protocol import Engine
from studium.errors import DoesNotFit, EngineTimeout, StudiumBug, StudiumError
from studium.fleet.demand import Demand
from studium.fleet.plan import plan
from studium.fleet.profiles import Profiles
from studium.fleet.situation import (
    Abandon,
    Device,
    Evict,
    Load,
    Place,
    Refuse,
    Rules,
    Run,
    Situation,
    Tenant,
    TenantState,
    Waiting,
)
from studium.records.answers import MemoryMove, MoveKind
from studium.records.models import ModelSpec, Residence
from studium.records.scheduling import Priority

log = logging.getLogger(__name__)

MOST_MOVES_KEPT = 1_000
MIB = 2**20
# A blocked ask is looked at again this often although nothing happened: its age counts in the plan.
LOOK_AGAIN_S = 0.5
MEMORY = "memory"
# Stand in until something was measured: only the order of moves hangs on them.
UNKNOWN_LOAD_S = 1.0
UNKNOWN_RUN_S = 1.0
# Asks at once to a server that schedules its own work; ours would only hold it back.
SLOTS_ELSEWHERE = 1_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What residency may use. `load_timeout_s` bounds one load, `patience_s` see `plan`."""

    budget_bytes: int
    max_models: int = 6
    load_timeout_s: float = 60.0
    patience_s: float = 10.0


class Grant(NamedTuple):
    """A place at a model: `load_seconds` is what the ask itself waited for the model's load."""

    load_seconds: float


class TimedMove(NamedTuple):
    at: float
    move: MemoryMove


@dataclass(slots=True)
class _Ask:
    number: int
    model: ModelSpec
    priority: Priority
    since: float
    until: float
    need_bytes: int
    grant: asyncio.Future[Grant]


@dataclass(slots=True)
class _Tenant:
    model: ModelSpec
    state: TenantState
    bytes: int
    load_seconds: float
    idle_since: float
    loaded_at: float = 0.0
    in_flight: int = 0
    busy_since: float = 0.0
    priority: Priority = Priority.INTERACTIVE
    died: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Residency:
    """Houses models within `limits`. Use `take` and `give_back`; both only from one event loop."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        profiles: Profiles,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self._engines = engines
        self._profiles = profiles
        self._clock = clock
        self._inbox: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
        self._waiting: dict[int, _Ask] = {}
        self._tenants: dict[str, _Tenant] = {}
        self._demand = Demand()
        self._served_at: dict[Priority, float] = {}
        self._numbers = itertools.count(1)
        self._moves: deque[TimedMove] = deque(maxlen=MOST_MOVES_KEPT)
        self._loop_task: asyncio.Task[None] | None = None
        self.listeners: list[Callable[[MemoryMove], None]] = []

    def start(self) -> None:
        """Start the owner loop in the running event loop."""
        self._loop_task = asyncio.create_task(self._own(), name="residency")

    async def close(self) -> None:
        """End the loop; waiting asks are cancelled and models left to their engines' `close`."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop_task
        tasks = [tenant.task for tenant in self._tenants.values() if tenant.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for ask in self._waiting.values():
            ask.grant.cancel()

    async def take(self, model: ModelSpec, *, priority: Priority, timeout_s: float) -> Grant:
        """Wait for a place at `model`, loading it if need be. Every grant must be given back.

        Raises EngineTimeout when no place came free in time, DoesNotFit when none ever will, and
        what the load raised when it failed. Cancelling withdraws the ask.
        """
        self._demand.asked(model.name, self._clock())
        if self._take_free_slot(model, priority):
            return Grant(0.0)
        need = await self.need_bytes(model)
        ask = _Ask(
            next(self._numbers),
            model,
            priority,
            self._clock(),
            self._clock() + timeout_s,
            need,
            asyncio.get_running_loop().create_future(),
        )
        self._post(lambda: self._waiting.__setitem__(ask.number, ask))
        granted = False
        try:
            async with asyncio.timeout(timeout_s):
                grant = await asyncio.shield(ask.grant)
            granted = True
            return grant
        except TimeoutError:
            raise EngineTimeout(
                f"{model.name} got no place in memory within {timeout_s:.0f} s",
                expected="a place within the limit",
                try_next="raise the limit or fleet.memory_budget, or ask fewer students at once",
            ) from None
        finally:
            if not granted:
                self._post(lambda: self._withdraw(ask))

    async def need_bytes(self, model: ModelSpec) -> int:
        """Return the memory to set aside for `model`: learned, else estimated; 0 if it holds none of ours.

        Raises what the engine's `estimate` raises, for a model that never ran.
        """
        engine = self._engines[model.engine]
        if not engine.capabilities.manages_memory:
            return 0
        learned = self._profiles.memory_bytes(model)
        if learned is not None:
            return learned
        return self._profiles.estimated(model, await engine.estimate(model))

    def give_back(self, model: ModelSpec, *, died: bool = False) -> None:
        """Return a place. `died` says that the model's process is gone."""
        if self._quiet() and not died and self.reserved_bytes() <= self.limits.budget_bytes:
            self._release(model.name, died)
        else:
            self._post(lambda: self._release(model.name, died))

    async def evict(self, name: str, *, timeout_s: float = 30.0) -> bool:
        """Unload a model now if nobody uses it; True when it is out of memory afterwards."""
        done = asyncio.get_running_loop().create_future()
        self._post(lambda: done.set_result(self._evict_if_idle(name)))
        task = await done
        if task is not None:
            await asyncio.wait([task], timeout=timeout_s)
        return name not in self._tenants

    def reserved_bytes(self) -> int:
        """Return the memory set aside for all tenants now."""
        return sum(tenant.bytes for tenant in self._tenants.values())

    def resident(self) -> list[str]:
        """Return the names of the models that could answer at once."""
        return [name for name, tenant in self._tenants.items() if tenant.state is TenantState.RESIDENT]

    def queue_length(self) -> int:
        """Return how many asks have no place yet."""
        return len(self._waiting)

    def moves_since(self, at: float) -> list[MemoryMove]:
        """Return the moves that ended after `at` (this residency's clock), oldest first."""
        return [timed.move for timed in self._moves if timed.at >= at]

    def _quiet(self) -> bool:
        """Whether nobody waits and nothing is queued for the loop, so that there is nothing to decide."""
        return not self._waiting and self._inbox.empty()

    def _slots(self, model: ModelSpec) -> int:
        """Return how many asks a model takes at once."""
        ours = self._engines[model.engine].capabilities.manages_memory
        return model.slots if ours else SLOTS_ELSEWHERE

    def _take_free_slot(self, model: ModelSpec, priority: Priority) -> bool:
        """Seat an ask at once where no decision is needed: spares the hot path three turns of the event loop.

        Safe beside the loop because nothing is awaited between looking and taking.
        """
        tenant = self._tenants.get(model.name)
        if not self._quiet() or tenant is None or tenant.state is not TenantState.RESIDENT or tenant.died:
            return False
        if tenant.in_flight >= self._slots(model):
            return False
        self._occupy(tenant, priority)
        return True

    def _occupy(self, tenant: _Tenant, priority: Priority) -> None:
        now = self._clock()
        tenant.priority = priority if tenant.in_flight == 0 else max(tenant.priority, priority)
        tenant.busy_since = now
        tenant.in_flight += 1
        self._served_at[priority] = now

    # --- the owner loop: everything below runs inside it --------------------------------------

    def _post(self, event: Callable[[], None]) -> None:
        self._inbox.put_nowait(event)

    async def _own(self) -> None:
        while True:
            events = await self._next_events()
            try:
                for event in events:
                    event()
                self._step()
            except Exception as error:
                log.exception("deciding about memory went wrong")
                self._fail_all(error)

    async def _next_events(self) -> list[Callable[[], None]]:
        """Wait for something to happen, and for not much longer while somebody waits."""
        events: list[Callable[[], None]] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN_S if self._waiting else None):
                events.append(await self._inbox.get())
        while not self._inbox.empty():
            events.append(self._inbox.get_nowait())
        return events

    def _fail_all(self, error: Exception) -> None:
        """A mistake of ours must not leave anybody waiting: every ask that has no seat hears of it."""
        for ask in self._waiting.values():
            if not ask.grant.done():
                ask.grant.set_exception(StudiumBug(f"deciding about memory went wrong: {error!r}"))
        self._waiting.clear()

    def _step(self) -> None:
        if not self._waiting and self.reserved_bytes() <= self.limits.budget_bytes:
            return
        for move in plan(self._situation()):
            match move:
                case Run(number):
                    self._seat(self._waiting.pop(number))
                case Load(name, _, reason):
                    self._begin_load(name, reason)
                case Evict(name, reason):
                    self._begin_unload(self._tenants[name], reason)
                case Abandon(name):
                    self._abandon(self._tenants[name])
                case Refuse(number, needed):
                    self._refuse(self._waiting.pop(number), needed)

    def _situation(self) -> Situation:
        now = self._clock()
        return Situation(
            waiting=[
                Waiting(
                    ask.number,
                    ask.model.name,
                    ask.priority,
                    now - ask.since,
                    run_seconds=self._run_seconds(ask.model),
                    deadline_s=ask.until - now,
                )
                for ask in self._waiting.values()
            ],
            tenants=[self._tenant(tenant, now) for tenant in self._tenants.values()],
            places={ask.model.name: (self._place(ask),) for ask in self._waiting.values()},
            devices=(Device(MEMORY, self.limits.budget_bytes),),
            rules=Rules(max_models=self.limits.max_models, patience_s=self.limits.patience_s),
            served_s_ago={priority: now - at for priority, at in self._served_at.items()},
        )

    def _tenant(self, tenant: _Tenant, now: float) -> Tenant:
        profile = self._profiles.of(tenant.model)
        forecast_s = self._run_seconds(tenant.model)
        return Tenant(
            tenant.model.name,
            tenant.state,
            tenant.bytes,
            self._slots(tenant.model),
            tenant.in_flight,
            max(0.0, now - tenant.idle_since),
            tenant.load_seconds,
            unload_seconds=profile.unload_seconds or 0.0,
            resident_s=max(0.0, now - tenant.loaded_at) if tenant.loaded_at else 0.0,
            busy_s=max(0.0, tenant.busy_since + forecast_s - now) if tenant.in_flight else 0.0,
            uses_per_second=self._demand.rate(tenant.model.name, now),
            priority=tenant.priority,
        )

    def _place(self, ask: _Ask) -> Place:
        profile = self._profiles.of(ask.model)
        return Place(
            MEMORY, ask.need_bytes, profile.load_seconds or UNKNOWN_LOAD_S, profile.unload_seconds or 0.0
        )

    def _run_seconds(self, model: ModelSpec) -> float:
        profile = self._profiles.of(model)
        if not profile.tokens_per_second or not profile.tokens_per_answer:
            return UNKNOWN_RUN_S
        return profile.tokens_per_answer / profile.tokens_per_second

    def _abandon(self, tenant: _Tenant) -> None:
        if tenant.task is not None:
            tenant.task.cancel()

    def _seat(self, ask: _Ask) -> None:
        tenant = self._tenants[ask.model.name]
        if ask.grant.done():  # withdrawn between the plan and now
            return
        self._occupy(tenant, ask.priority)
        waited_for_load = tenant.load_seconds if tenant.loaded_at >= ask.since else 0.0
        ask.grant.set_result(Grant(waited_for_load))

    def _withdraw(self, ask: _Ask) -> None:
        self._waiting.pop(ask.number, None)
        if not ask.grant.done():
            ask.grant.cancel()
        elif not ask.grant.cancelled() and ask.grant.exception() is None:
            self._release(ask.model.name, died=False)  # granted in the moment it was withdrawn
        tenant = self._tenants.get(ask.model.name)
        wanted = any(other.model.name == ask.model.name for other in self._waiting.values())
        if tenant is not None and tenant.state is TenantState.LOADING and not wanted and tenant.task:
            tenant.task.cancel()  # a load nobody wants any more

    def _release(self, name: str, died: bool) -> None:
        tenant = self._tenants[name]
        tenant.in_flight -= 1
        tenant.idle_since = self._clock()
        tenant.died = tenant.died or died
        if tenant.died and tenant.state is TenantState.RESIDENT and tenant.in_flight == 0:
            self._begin_unload(tenant, "its process died")

    def _refuse(self, ask: _Ask, needed: int) -> None:
        if ask.grant.done():
            return
        ask.grant.set_exception(
            DoesNotFit(
                f"{ask.model.name} needs {needed / MIB:,.0f} MiB, the whole budget is "
                f"{self.limits.budget_bytes / MIB:,.0f} MiB",
                expected="a budget that holds at least the one model",
                try_next="raise fleet.memory_budget, or choose a smaller model, context_tokens or slots",
            )
        )

    def _begin_load(self, name: str, reason: str) -> None:
        ask = next(ask for ask in self._waiting.values() if ask.model.name == name)
        tenant = _Tenant(ask.model, TenantState.LOADING, ask.need_bytes, 0.0, self._clock())
        self._tenants[name] = tenant
        tenant.task = asyncio.create_task(self._load(tenant, reason), name=f"load {name}")

    async def _load(self, tenant: _Tenant, reason: str) -> None:
        began = self._clock()
        engine = self._engines[tenant.model.engine]
        try:
            residence = await engine.load(tenant.model, timeout_s=self.limits.load_timeout_s)
        except StudiumError as error:
            failure = error
            self._post(lambda: self._load_failed(tenant, failure))
        except asyncio.CancelledError:
            self._post(lambda: self._forget(tenant))
            raise
        except BaseException as error:
            crash = error
            self._post(lambda: self._load_failed(tenant, crash))
            raise
        else:
            seconds = self._clock() - began
            self._post(lambda: self._loaded(tenant, residence, seconds, reason))

    def _loaded(self, tenant: _Tenant, residence: Residence, seconds: float, reason: str) -> None:
        tenant.state = TenantState.RESIDENT
        tenant.load_seconds = seconds
        tenant.idle_since = tenant.loaded_at = self._clock()
        self._profiles.loaded(tenant.model, seconds=seconds, peak_bytes=residence.peak_bytes)
        self._remember(
            MemoryMove(MoveKind.LOAD, tenant.model.name, seconds, residence.resident_bytes, reason)
        )

    def measured(self, model: ModelSpec, peak_bytes: int | None) -> None:
        """Tell what a model was measured to hold at most: more than expected counts from now on."""
        tenant = self._tenants.get(model.name)
        if tenant is not None and peak_bytes is not None and peak_bytes > tenant.bytes:
            tenant.bytes = peak_bytes

    def _load_failed(self, tenant: _Tenant, error: BaseException) -> None:
        self._forget(tenant)
        for ask in [one for one in self._waiting.values() if one.model.name == tenant.model.name]:
            del self._waiting[ask.number]
            if not ask.grant.done():
                ask.grant.set_exception(error)

    def _forget(self, tenant: _Tenant) -> None:
        if self._tenants.get(tenant.model.name) is tenant:
            del self._tenants[tenant.model.name]

    def _evict_if_idle(self, name: str) -> asyncio.Task[None] | None:
        tenant = self._tenants.get(name)
        if tenant is None or tenant.state is not TenantState.RESIDENT or tenant.in_flight:
            return None
        return self._begin_unload(tenant, "asked for")

    def _begin_unload(self, tenant: _Tenant, reason: str) -> asyncio.Task[None]:
        tenant.state = TenantState.LEAVING
        tenant.task = asyncio.create_task(self._unload(tenant, reason), name=f"unload {tenant.model.name}")
        return tenant.task

    async def _unload(self, tenant: _Tenant, reason: str) -> None:
        began = self._clock()
        try:
            await self._engines[tenant.model.engine].unload(tenant.model)
        except StudiumError as error:  # the engine lost it: it holds nothing we could count
            reason = f"{reason}; {error.happened}"
        seconds = self._clock() - began
        self._post(lambda: self._unloaded(tenant, seconds, reason))

    def _unloaded(self, tenant: _Tenant, seconds: float, reason: str) -> None:
        self._forget(tenant)
        self._profiles.unloaded(tenant.model, seconds=seconds)
        self._remember(MemoryMove(MoveKind.UNLOAD, tenant.model.name, seconds, None, reason))

    def _remember(self, move: MemoryMove) -> None:
        self._moves.append(TimedMove(self._clock(), move))
        for listener in self.listeners:
            listener(move)
