"""Brings models in and takes them out, and keeps the books true: the hands of residency's owner loop.

Every method runs inside that loop; what takes time runs as a task and posts its end back into it. Out of
memory at load: the model steps down once (slots, then context), its profile learns, and then its asks are
refused. What an engine holds against its word stays in the books until it is gone.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from studium.engines.protocol import Engine
from studium.errors import DoesNotFit, StudiumBug, StudiumError
from studium.fleet import refusals
from studium.fleet.elsewhere import peak_bytes
from studium.fleet.limits import difference, placed, stepped_down
from studium.fleet.mover import Mover, Unloaded
from studium.fleet.outlook import Outlook
from studium.fleet.profiles import Profiles
from studium.fleet.situation import TenantState
from studium.fleet.tenancy import LEASE, House, Housed, Kept
from studium.records.answers import MemoryMove, MoveKind
from studium.records.hardware import DeviceKind
from studium.records.models import ModelSpec, Residence

MOST_MOVES_KEPT = 1_000
# A model that ran out of memory as it was loaded keeps its smaller shape this long.
SMALLER_FOR_S = 600.0


class TimedMove(NamedTuple):
    at: float
    move: MemoryMove


class Housing:
    """Carries out loads and unloads on `house`. `post` takes events into the owner loop.

    `changes` counts who came and went, so that a measurement taken meanwhile can be told; `freed` says
    that memory was given back since it was last cleared.
    """

    def __init__(
        self,
        house: House,
        engines: Mapping[str, Engine],
        profiles: Profiles,
        mover: Mover,
        *,
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self.changes = 0
        self.freed = False
        self.listeners: list[Callable[[MemoryMove], None]] = []
        self._house = house
        self._engines = engines
        self._profiles = profiles
        self._mover = mover
        self._post = post
        self._smaller: dict[str, tuple[ModelSpec, float]] = {}
        self._moves: deque[TimedMove] = deque(maxlen=MOST_MOVES_KEPT)

    def moves_since(self, at: float) -> list[MemoryMove]:
        """Return the moves that ended after `at`, oldest first."""
        return [timed.move for timed in self._moves if timed.at >= at]

    def shape(self, model: ModelSpec) -> ModelSpec:
        """Return the shape `model` is started in: a smaller one for a while after it ran out of memory."""
        smaller, until = self._smaller.get(model.name, (model, 0.0))
        if time.monotonic() >= until:
            return model
        return replace(model, slots=smaller.slots, context_tokens=smaller.context_tokens)

    def begin_load(self, outlook: Outlook, name: str, device: str, reason: str) -> None:
        """Start to load a model that is waited for or expected."""
        declared = self._house.wanted(name)
        if declared is None:
            raise StudiumBug(f"{name} was to be loaded though nobody wants it")
        home = next(one for one in self._house.limits.homes if one.name == device)
        places = outlook.places(declared, self._house.needs(name))
        need = next(place.bytes for place in places if place.device == device)
        kept = self._house.kept.pop(name, None)
        shape = self.shape(declared)
        tenant = Housed(
            declared,
            placed(shape, home),
            device,
            TenantState.LOADING,
            need + (kept.bytes if kept else 0),  # it takes over what its engine kept of it
            0.0,
            time.monotonic(),
            note=difference(declared, shape),
        )
        self._house.tenants[name] = tenant
        self._start(tenant, self._load(tenant, reason), "load")

    def begin_unload(self, tenant: Housed, reason: str) -> None:
        """Start to give a model's memory back."""
        tenant.state = TenantState.LEAVING
        tenant.left_at = time.monotonic()
        # A lease nobody sits on has no holder who could let go.
        vacant = tenant.model.engine == LEASE and not tenant.in_flight
        self._start(tenant, self._unload(tenant, reason, vacant=vacant), "unload")

    def abandon(self, tenant: Housed) -> None:
        """Stop a load. Its memory counts as taken until the engine has ended what it started."""
        tenant.state = TenantState.LEAVING
        if tenant.task is not None:
            tenant.task.cancel()

    def _start(self, tenant: Housed, work: Coroutine[Any, Any, None], what: str) -> None:
        self.changes += 1
        tenant.task = asyncio.create_task(work, name=f"{what} {tenant.name}")

    async def _load(self, tenant: Housed, reason: str) -> None:
        began = time.monotonic()
        engine = self._engines[tenant.model.engine]
        try:
            residence = await engine.load(tenant.model, timeout_s=self._house.limits.load_timeout_s)
        except DoesNotFit as error:
            short, free = error, (await self._mover.free_bytes()).get(tenant.device)
            self._post(lambda: self._ran_out(tenant, short, free, reason))
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
            seconds = time.monotonic() - began
            self._post(lambda: self._loaded(tenant, residence, seconds, reason))

    def _loaded(self, tenant: Housed, residence: Residence, seconds: float, reason: str) -> None:
        self.changes += 1
        self._found(tenant, residence)
        tenant.load_seconds = seconds
        tenant.idle_since = tenant.loaded_at = time.monotonic()
        resident_bytes = residence.vram_bytes or residence.resident_bytes
        tenant.bytes = max(tenant.bytes, peak_bytes(residence) or 0, resident_bytes or 0)
        if tenant.model.engine != LEASE:
            device = self._house.limits.profile_device(tenant.device)
            self._profiles.loaded(
                tenant.model, seconds=seconds, peak_bytes=peak_bytes(residence), device=device
            )
            if tenant.note:
                reason = f"{reason}; stepped down to {tenant.note}, since it ran out of memory"
            self._remember(MoveKind.LOAD, tenant, seconds, resident_bytes, reason)
        if tenant.state is TenantState.LEAVING:  # abandoned in the moment it was there
            self.begin_unload(tenant, "nobody wants it any more")
        else:
            tenant.state = TenantState.RESIDENT

    def _found(self, tenant: Housed, residence: Residence) -> None:
        """Count a model where it is, if its engine chose: on a GPU if any of it is there, else in main memory."""
        chooses = not self._engines[tenant.model.engine].capabilities.places_models
        if not chooses or residence.vram_bytes is None:
            return
        kind = DeviceKind.GPU if residence.vram_bytes else DeviceKind.CPU
        kinds = {home.name: home.kind for home in self._house.limits.homes}
        if kinds[tenant.device] is not kind and kind in kinds.values():
            tenant.device = next(name for name, one in kinds.items() if one is kind)
            tenant.bytes = 0  # what was set aside was for the other device; what it holds here follows
            self._house.found_on[tenant.name] = tenant.device

    def _ran_out(self, tenant: Housed, error: DoesNotFit, free: int | None, reason: str) -> None:
        """Out of memory: learn it, step down once, and then refuse with the reason."""
        if free is None or free >= tenant.bytes:  # nobody else had taken what was set aside
            device = self._house.limits.profile_device(tenant.device)
            self._profiles.ran_out(tenant.model, reserved_bytes=tenant.bytes, device=device)
        smaller = stepped_down(tenant.model, self._house.least_context_tokens(tenant.name))
        if tenant.note or smaller is None or tenant.state is not TenantState.LOADING:
            refusal = refusals.out_of_memory(self._house, tenant, error, smaller, time.monotonic())
            refusal.__cause__ = error
            self._smaller.pop(tenant.name, None)
            self._load_failed(tenant, refusal)
            return
        tenant.model = smaller
        tenant.note = difference(tenant.declared, smaller)
        self._smaller[tenant.name] = (smaller, time.monotonic() + SMALLER_FOR_S)
        self._start(tenant, self._load(tenant, reason), "load")

    def _load_failed(self, tenant: Housed, error: BaseException) -> None:
        self._forget(tenant)
        for ask in [one for one in self._house.waiting.values() if one.model.name == tenant.name]:
            del self._house.waiting[ask.number]
            if not ask.grant.done():
                ask.grant.set_exception(error)

    async def _unload(self, tenant: Housed, reason: str, *, vacant: bool) -> None:
        done = Unloaded(0.0, 0, "") if vacant else await self._mover.unload(tenant.model)
        self._post(lambda: self._unloaded(tenant, done, reason))

    def _unloaded(self, tenant: Housed, done: Unloaded, reason: str) -> None:
        if done.kept_bytes:
            kept = Kept(tenant.model, tenant.device, done.kept_bytes, time.monotonic())
            self._house.kept[tenant.name] = kept
        self._forget(tenant)
        if tenant.model.engine == LEASE:
            return
        device = self._house.limits.profile_device(tenant.device)
        self._profiles.unloaded(tenant.model, seconds=done.seconds, device=device)
        reason = f"{reason}; {done.note}" if done.note else reason
        self._remember(MoveKind.UNLOAD, tenant, done.seconds, None, reason)

    def _forget(self, tenant: Housed) -> None:
        self.changes += 1
        self.freed = True
        if self._house.tenants.get(tenant.name) is tenant:
            del self._house.tenants[tenant.name]
            self._house.left_at[tenant.name] = time.monotonic()

    def _remember(
        self, kind: MoveKind, tenant: Housed, seconds: float, num_bytes: int | None, reason: str
    ) -> None:
        move = MemoryMove(kind, tenant.name, seconds, num_bytes, reason)
        self._moves.append(TimedMove(time.monotonic(), move))
        for listener in self.listeners:
            listener(move)
