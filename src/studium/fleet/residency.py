"""Sole owner of what is in memory. One loop takes events in turn, asks `plan`, and starts its moves.

Loads, unloads and looks at the machine run as tasks of their own and report back as events, so the loop
never waits for an engine; nothing but the loop changes what is resident, and whatever is read to decide is
read there. A seat in use is never taken away; a load already under way is joined. The books are in
`tenancy`, what `plan` is told of them in `outlook`; `housing` carries the moves out, `watch` measures memory,
`refusals` says why nothing fits, `advice` answers questions.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from studium.engines.protocol import Engine
from studium.errors import StudiumBug
from studium.fleet import refusals
from studium.fleet.advice import Advice
from studium.fleet.housing import Housing
from studium.fleet.limits import Limits, placed
from studium.fleet.mover import Mover
from studium.fleet.outlook import Outlook
from studium.fleet.plan import plan
from studium.fleet.profiles import Profiles
from studium.fleet.situation import Abandon, Evict, Load, Move, Refuse, Run, Situation, TenantState
from studium.fleet.tenancy import LEASE, Grant, Hint, House, Housed, WaitingAsk
from studium.fleet.waits import longest_wait_s
from studium.fleet.watch import Watch
from studium.records.models import ModelSpec
from studium.records.scheduling import Priority

log = logging.getLogger(__name__)

# A blocked ask is looked at again this often although nothing happened: its age counts in the plan.
LOOK_AGAIN_S = 0.5
# How long who wants a model out of memory waits for that.
EVICT_S = 30.0

Planner = Callable[[Situation], Sequence[Move]]


class Residency(Advice):
    """Houses models within `limits`. Use `take` and `give_back`; both only from one event loop.

    `available` measures the bytes free on each device, by name; without it other programs go unnoticed.
    `planner` decides; benchmarks put other policies in its place.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        profiles: Profiles,
        limits: Limits,
        *,
        available: Callable[[], Mapping[str, int]] | None = None,
        planner: Planner = plan,
    ) -> None:
        self._engines = engines
        self._profiles = profiles
        self._planner = planner
        self._inbox: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
        self._numbers = itertools.count(1)
        house, mover = House(limits), Mover(engines, limits, available)
        housing = Housing(house, engines, profiles, mover, post=self._post)
        super().__init__(house, housing, Outlook(house, engines, profiles, housing.shape))
        self._watch = Watch(house, housing, mover, post=self._post)
        self._loop_task: asyncio.Task[None] | None = None
        self.listeners = self._housing.listeners

    def start(self) -> None:
        """Start the owner loop in the running event loop."""
        self._loop_task = asyncio.create_task(self._own(), name="residency")

    async def close(self) -> None:
        """End the loop; waiting asks are cancelled and models left to their engines' `close`."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop_task
        tasks = [tenant.task for tenant in self._house.tenants.values() if tenant.task is not None]
        tasks += [self._watch.task] if self._watch.task is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for ask in self._house.waiting.values():
            ask.grant.cancel()

    async def take(
        self,
        model: ModelSpec,
        *,
        priority: Priority,
        timeout_s: float,
        least_context_tokens: int | None = None,
    ) -> Grant:
        """Wait for a place at `model`, loading it if need be. Every grant must be given back.

        `least_context_tokens` is what the ask can do with where memory is short; None: the whole context.
        Raises EngineTimeout when no place came free in time, DoesNotFit when none ever will, and
        what the load raised when it failed. Cancelling withdraws the ask.
        """
        self._house.demand.asked(model.name, time.monotonic())
        if (grant := self._take_free_slot(model, priority)) is not None:
            return grant
        now = time.monotonic()
        ask = WaitingAsk(
            next(self._numbers),
            model,
            priority,
            now,
            now + timeout_s,
            await self._needs(model),
            asyncio.get_running_loop().create_future(),
            least_context_tokens,
        )
        self._post(lambda: self._house.waiting.__setitem__(ask.number, ask))
        granted = False
        try:
            async with asyncio.timeout(timeout_s):
                grant = await asyncio.shield(ask.grant)
            granted = True
            return grant
        except TimeoutError:
            raise refusals.too_late(self._house, ask, timeout_s, time.monotonic()) from None
        finally:
            if not granted:
                self._post(lambda: self._withdraw(ask))

    async def need_bytes(self, model: ModelSpec) -> int:
        """Return the memory to set aside for `model` where it is preferred; 0 if it holds none of ours.

        Learned, else estimated. Raises what the engine's `estimate` raises, for a model that never ran.
        """
        return next(iter((await self._needs(model)).values()))

    def give_back(self, model: ModelSpec, *, died: bool = False) -> None:
        """Return a place. `died` says that the model's process is gone."""
        if self._quiet() and not died and not self._house.overfull():
            self._release(model.name, died)
        else:
            self._post(lambda: self._release(model.name, died))

    def announce(self, key: int, coming: Sequence[tuple[ModelSpec, float, float]]) -> None:
        """Say which models will be asked for: (model, in seconds, probability). Replaces what `key` said before.

        Loads nothing by itself; `plan` loads ahead where memory allows, and keeps what is expected.
        """
        now = time.monotonic()
        self._house.hints.pop(key, None)
        if coming:
            self._house.hints[key] = tuple(Hint(model, now + in_s, share) for model, in_s, share in coming)
        if self._something_to_load_ahead() or self._house.loading():
            self._post(lambda: None)

    async def evict(self, name: str) -> bool:
        """Unload a model now if nobody uses it; True when it is out of memory afterwards."""
        done = asyncio.get_running_loop().create_future()
        self._post(lambda: done.set_result(self._evict_if_idle(name)))
        task = await done
        if task is not None:
            await asyncio.wait([task], timeout=EVICT_S)
            await self._all_heard()
        return name not in self._house.tenants

    def wait_bound_s(self, model: ModelSpec, priority: Priority) -> float:
        """Return the longest an ask that comes now would wait (see `waits`); 0 where a place is free."""
        house = self._house
        if self._with_free_slot(model) is not None:
            return 0.0
        models = {model.name: model} | {ask.model.name: ask.model for ask in house.waiting.values()}
        models |= {one.name: one.declared for one in house.tenants.values() if one.model.engine != LEASE}
        ahead = sum(ask.priority >= priority for ask in house.waiting.values())
        costs = self._outlook.longest(models.values())
        return longest_wait_s(self._outlook.rules(), priority, ahead, costs)

    def measured(self, model: ModelSpec, peak_bytes: int | None) -> None:
        """Tell what a model was measured to hold at most: more than expected counts from now on."""
        tenant = self._house.tenants.get(model.name)
        if tenant is not None and peak_bytes is not None and peak_bytes > tenant.bytes:
            tenant.bytes = peak_bytes

    async def _needs(self, model: ModelSpec) -> dict[str, int]:
        """Return the bytes `model` takes on each device it may live on: learned, else estimated."""
        needs: dict[str, int] = {}
        for home in self._outlook.homes(model):
            actual = placed(self._housing.shape(model), home)
            need = self._outlook.need_bytes(actual, home)
            if need is None:
                estimate = await self._engines[model.engine].estimate(actual)
                need = self._profiles.estimated(actual, estimate, self.limits.profile_device(home.name))
                if estimate.total_bytes <= home.bytes:  # what its like held is no reason never to try it
                    need = min(need, home.bytes)
            needs[home.name] = need
        return needs

    def _quiet(self) -> bool:
        """Whether nobody waits and nothing is queued for the loop, so that there is nothing to decide."""
        return not self._house.waiting and self._inbox.empty()

    def _take_free_slot(self, model: ModelSpec, priority: Priority) -> Grant | None:
        """Seat an ask at once where no decision is needed: spares the hot path three turns of the event loop.

        Safe beside the loop because nothing is awaited between looking and taking.
        """
        tenant = self._with_free_slot(model)
        if tenant is None:
            return None
        self._occupy(tenant, priority)
        return Grant(0.0, tenant.model, self.limits.profile_device(tenant.device))

    def _with_free_slot(self, model: ModelSpec) -> Housed | None:
        """Return the tenant at which an ask could be seated now, without depriving anybody who waits."""
        tenant = self._house.tenants.get(model.name)
        if not self._quiet() or tenant is None or tenant.state is not TenantState.RESIDENT or tenant.died:
            return None
        return tenant if tenant.in_flight < self._outlook.slots(tenant.model) else None

    def _occupy(self, tenant: Housed, priority: Priority) -> None:
        now = time.monotonic()
        tenant.priority = priority if tenant.in_flight == 0 else max(tenant.priority, priority)
        tenant.busy_since = now
        tenant.in_flight += 1
        self._house.served_at[priority] = now

    async def _all_heard(self) -> None:
        """Wait until the loop has dealt with all that was posted so far."""
        heard = asyncio.get_running_loop().create_future()
        self._post(lambda: heard.set_result(None))
        await heard

    # --- the owner loop: everything below runs inside it --------------------------------------

    def _post(self, event: Callable[[], None]) -> None:
        self._inbox.put_nowait(event)

    async def _own(self) -> None:
        self._watch.look_when_due()
        while True:
            events = await self._next_events()
            try:
                for event in events:
                    event()
                self._house.forget_old_hints(time.monotonic())
                self._watch.look_when_due()
                self._step()
            except Exception as error:
                log.exception("deciding about memory went wrong")
                self._fail_all(error)

    async def _next_events(self) -> list[Callable[[], None]]:
        """Wait for something to happen, and for not much longer while somebody waits."""
        events: list[Callable[[], None]] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(self._longest_sleep_s()):
                events.append(await self._inbox.get())
        while not self._inbox.empty():
            events.append(self._inbox.get_nowait())
        return events

    def _longest_sleep_s(self) -> float | None:
        if self._house.waiting or self._something_to_load_ahead():
            return LOOK_AGAIN_S
        return self._watch.longest_sleep_s

    def _fail_all(self, error: Exception) -> None:
        """A mistake of ours must not leave anybody waiting: every ask that has no seat hears of it."""
        for ask in self._house.waiting.values():
            if not ask.grant.done():
                ask.grant.set_exception(StudiumBug(f"deciding about memory went wrong: {error!r}"))
        self._house.waiting.clear()

    def _something_to_load_ahead(self) -> bool:
        return any(
            hint.model.name not in self._house.tenants and self._outlook.worth_loading_ahead(hint.model)
            for hint in self._house.all_hints()
        )

    def _step(self) -> None:
        house = self._house
        if self._watch.must_look_first:  # what was just freed is seen to be free before it is given away
            return
        if not (house.waiting or house.loading() or house.overfull() or self._something_to_load_ahead()):
            return
        for move in self._planner(self._outlook.situation(time.monotonic())):
            match move:
                case Run(number):
                    self._seat(house.waiting.pop(number))
                case Load(name, device, reason):
                    self._housing.begin_load(self._outlook, name, device, reason)
                case Evict(name, reason):
                    self._evict(house.tenants[name], reason)
                case Abandon(name):
                    self._housing.abandon(house.tenants[name])
                case Refuse(number, needed, largest):
                    self._refuse(house.waiting.pop(number), needed, largest)

    # --- asks ----------------------------------------------------------------------------------

    def _seat(self, ask: WaitingAsk) -> None:
        tenant = self._house.tenants[ask.model.name]
        if ask.grant.done():  # withdrawn between the plan and now
            return
        self._occupy(tenant, ask.priority)
        waited_for_load = tenant.load_seconds if tenant.loaded_at >= ask.since else 0.0
        device = self.limits.profile_device(tenant.device)
        ask.grant.set_result(Grant(waited_for_load, tenant.model, device))

    def _withdraw(self, ask: WaitingAsk) -> None:
        self._house.waiting.pop(ask.number, None)
        if not ask.grant.done():
            ask.grant.cancel()
        elif not ask.grant.cancelled() and ask.grant.exception() is None:
            self._release(ask.model.name, died=False)  # granted in the moment it was withdrawn

    def _release(self, name: str, died: bool) -> None:
        tenant = self._house.tenants[name]
        tenant.in_flight -= 1
        tenant.idle_since = time.monotonic()
        tenant.died = tenant.died or died
        if tenant.died and tenant.state is TenantState.RESIDENT and tenant.in_flight == 0:
            self._housing.begin_unload(tenant, "its process died")

    def _refuse(self, ask: WaitingAsk, needed: int, largest: int) -> None:
        if ask.grant.done():
            return
        estimate = self._profiles.of(ask.model).estimate
        error = refusals.never_fits(self._house, ask.model, needed, largest, estimate, self._known_needs)
        ask.grant.set_exception(error)

    def _known_needs(self) -> dict[str, int]:
        needs = {ask.model.name: min(ask.needs.values()) for ask in self._house.waiting.values()}
        return needs | {tenant.name: tenant.bytes for tenant in self._house.tenants.values()}

    def _evict(self, tenant: Housed, reason: str) -> None:
        """Take an idle model out, or tell a lease's holder; who is in use is left alone whatever was planned."""
        if not tenant.in_flight or tenant.model.engine == LEASE:
            self._housing.begin_unload(tenant, reason)

    def _evict_if_idle(self, name: str) -> asyncio.Task[None] | None:
        tenant = self._house.tenants.get(name)
        if tenant is None or tenant.state is not TenantState.RESIDENT or tenant.in_flight:
            return None
        self._housing.begin_unload(tenant, "asked for")
        return tenant.task
