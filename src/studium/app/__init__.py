"""The only wiring: from a configuration to a running Studium, and back to nothing left running."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import partial
from typing import Any

from studium import __version__
from studium.app.devices import device_budgets
from studium.app.engines import build_engines, with_engine_of_files
from studium.config import Config
from studium.config.schema import AUTO
from studium.engines.protocol import Engine
from studium.errors import ConfigurationError, StudiumError
from studium.fleet import Fleet
from studium.fleet.limits import Limits
from studium.hardware import available_bytes, snapshot
from studium.manage.health import Carer
from studium.manage.watching import Watch
from studium.records.answers import Answer, Complexity, Query
from studium.records.examples import Terms
from studium.records.hardware import DeviceBudget
from studium.records.messages import Message
from studium.records.models import Student
from studium.records.profiles import ModelProfile
from studium.records.scheduling import Priority
from studium.registry import Registry, Roster, build_roster, ships_with_studium
from studium.serve.cache.cache import ResponseCache
from studium.serve.ensemble import Ensemble
from studium.serve.governor.governor import Governor
from studium.serve.history.history import Embed, History
from studium.serve.refining.refining import Refining
from studium.serve.team.breakers import Breakers
from studium.serve.team.routing import Routing
from studium.serve.team.team import Parts, Team
from studium.store import Store, open_store

log = logging.getLogger("studium.app")

STORE_FILE = "state.db"
SNAPSHOT_SECONDS = 60.0
EMBED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Studium:
    """A running Studium: what the command line, the endpoint and `import studium` work with."""

    config: Config
    declared: Roster
    store: Store
    fleet: Fleet
    ensemble: Ensemble
    history: History
    governor: Governor
    cache: ResponseCache | None
    registry: Registry
    watch: Watch
    carer: Carer
    started_at: float

    @property
    def routing(self) -> Routing:
        """Who stands in which role; `refresh` it after a change of the registry in this process."""
        return self.ensemble.routing

    @property
    def roster(self) -> Team:
        """Who there is now: the students as declared, with the champions of their roles in their places."""
        return self.ensemble.team

    def health(self) -> Mapping[str, Mapping[str, Any]]:
        """Return how the models in memory are, and each that failed, by name."""
        return self.carer.state()

    async def ask(self, question: str, **choices: Any) -> Answer:
        """Answer one plain question; `choices` are fields of `Query`. Raises what `Ensemble.answer` raises."""
        return await self.ensemble.answer(Query(messages=(Message("user", question),), **choices))


@asynccontextmanager
async def open_studium(config: Config, engines: Mapping[str, Engine] | None = None) -> AsyncIterator[Studium]:
    """Open the workspace and keep students ready to be asked until the block ends.

    `engines` None: those the configuration names.

    Creates the workspace and its store. Loads no model: that is done when one is asked. At the end
    every process started is gone and everything queued is on disk. Raises ConfigurationError,
    StoreUnavailable.
    """
    roster = build_roster(config)
    engines = with_engine_of_files(engines or build_engines(config, roster), config)
    devices = device_budgets(config, roster)
    store = await asyncio.to_thread(open_store, config.workspace / STORE_FILE)
    # Models behind an OpenAI-shaped endpoint may cost money.
    paid = {name: engine.prices for name, engine in config.engines.items() if engine.kind == "openai_api"}
    governor = Governor(store.spending, config.governor, paid)
    known = await asyncio.to_thread(store.profiles)
    fleet = fleet_of(config, engines, devices, store, known, governor)
    embed = embed_of(roster, fleet)
    history = await asyncio.to_thread(partial(History, store, roster.students, config.store, embed=embed))
    cache = cache_of(config, store, embed)
    registry = Registry(store, config.workspace, roster.models)
    await asyncio.to_thread(_settle_foundational, config, registry)
    routing = routing_of(config, roster, fleet, registry)
    routing.changed.append(history.stands)
    breakers = Breakers(errors=config.health.errors, try_again_s=config.health.try_again_s)
    await asyncio.to_thread(routing.open)
    ensemble = ensemble_of(config, fleet, store, history, governor, cache, routing, breakers)
    watch = Watch(store, registry, routing, fleet, governor, autopromote=config.rollout.autopromote)
    ensemble.witnesses.append(watch.answered)
    carer = Carer(
        fleet,
        routing,
        breakers,
        probe_s=config.health.probe_s,
        quality_s=config.health.quality_s,
        is_paid=governor.is_paid,
    )
    await asyncio.to_thread(governor.start)
    # Where the disk refuses, what is owed to the file is in the store, and is tried again with the next example.
    with suppress(OSError):
        await asyncio.to_thread(store.examples.repair)
    fleet.start()
    behind = [
        asyncio.create_task(_watch_hardware(store), name="hardware snapshots"),
        asyncio.create_task(history.work(), name="learning from answers"),
        asyncio.create_task(routing.work(), name="watching the routes"),
        asyncio.create_task(watch.work(), name="watching roll-outs"),
        asyncio.create_task(carer.work(), name="looking after models"),
    ]
    try:
        yield Studium(
            config,
            roster,
            store,
            fleet,
            ensemble,
            history,
            governor,
            cache,
            registry,
            watch,
            carer,
            time.time(),
        )
    finally:
        for task in behind:
            task.cancel()
        await asyncio.gather(*behind, return_exceptions=True)
        await routing.close()
        with suppress(StudiumError):
            await history.catch_up()
        if cache is not None:
            await cache.close()
        await fleet.close()
        await asyncio.to_thread(governor.close)
        await asyncio.to_thread(store.close)


def fleet_of(
    config: Config,
    engines: Mapping[str, Engine],
    devices: tuple[DeviceBudget, ...],
    store: Store,
    known: Mapping[str, ModelProfile],
    governor: Governor,
) -> Fleet:
    """Return the fleet of a workspace, not started."""
    limits = Limits(
        devices[0].bytes,
        config.fleet.max_models_at_once,
        config.fleet.load_timeout_s,
        config.fleet.patience_s,
        devices=devices,
        leave_s=config.fleet.lease_leave_s,
        quiet_s=config.fleet.lease_quiet_s,
    )
    return Fleet(
        engines,
        limits,
        known=known,
        save_profile=store.save_profile,
        record_run=store.record_run,
        available=lambda: available_bytes(devices),
        purse=governor,
    )


def ensemble_of(
    config: Config,
    fleet: Fleet,
    store: Store,
    history: History,
    governor: Governor,
    cache: ResponseCache | None,
    routing: Routing,
    breakers: Breakers,
) -> Ensemble:
    """Return the one door to the students. Raises ConfigurationError for a part nobody can play."""
    refining = Refining(
        config.refine.when,
        config.refine.doubt_below,
        config.refine.timeout_s,
        terms=lambda student: terms_of(student, config),
        log=store.examples.append,
        force_arbiter=lambda: governor.settings.force_arbiter,
        enabled=lambda: governor.settings.refinement,
    )
    return Ensemble(
        fleet,
        routing,
        {one: config.ensemble.limits(one.value) for one in Complexity},
        history,
        default_complexity=None
        if config.ensemble.complexity == AUTO
        else Complexity(config.ensemble.complexity),
        governor=governor,
        cache=cache,
        refining=refining,
        breakers=breakers,
    )


def routing_of(config: Config, roster: Roster, fleet: Fleet, book: Registry) -> Routing:
    """Return who answers in which role, routes not read yet. Raises ConfigurationError for a role nobody holds."""

    async def prepare(new: Student, old: Student) -> None:
        """Load the new one beside the old where both fit; else it is loaded when it is asked first."""
        resident = fleet.residency.resident()
        if old.model.name in resident and new.model.name not in resident and fleet.fit_together([old, new]):
            await fleet.load(new, timeout_s=config.fleet.load_timeout_s)

    return Routing(
        roster.students,
        parts_of(config, roster),
        book=book,
        workspace=config.workspace,
        roles={role: declared.student for role, declared in config.roles.items()},
        prepare=prepare,
    )


def parts_of(config: Config, roster: Roster) -> Parts:
    """Return who plays a part. Raises ConfigurationError for a name no student that answers has."""
    able = {name for name, student in roster.students.items() if not student.model.embeddings}
    named = {part.name: getattr(config.ensemble, part.name) or "" for part in fields(Parts)}
    for part, name in named.items():
        if name and name not in able:
            near = get_close_matches(name, able, n=1)
            raise ConfigurationError(
                f"{config.origins.get(f'ensemble.{part}', 'the configuration')}: ensemble.{part} names {name!r}, "
                "and no student that answers questions is called so",
                expected=f"one of {', '.join(sorted(able))}",
                try_next=f"did you mean {near[0]!r}?"
                if near
                else f"remove ensemble.{part}, or add the student",
            )
    return Parts(**named)


def cache_of(config: Config, store: Store, embed: Embed | None) -> ResponseCache | None:
    """Return the cache of a workspace's answers; None where no question may be kept."""
    if not config.store.keep_questions:
        return None
    store.cache.settings = config.cache
    return ResponseCache(
        store.cache,
        config.cache,
        circumstances=repr((__version__, config.ensemble)),
        embed=embed,
        longest_wait_s=max(config.ensemble.limits(one.value).question_timeout_s for one in Complexity),
    )


def embed_of(roster: Roster, fleet: Fleet) -> Embed | None:
    """Return how a question gets an embedding; None where no model of the roster gives any.

    Always the same model, so that vectors can be compared. It is asked only where that costs no load: it is in
    memory, or not in ours at all.
    """
    student = next((one for one in roster.students.values() if one.model.embeddings), None)
    if student is None:
        return None

    elsewhere = not fleet.engines[student.model.engine].capabilities.manages_memory
    told = set[str]()

    async def embed(question: str) -> Sequence[float]:
        if not elsewhere and student.model.name not in fleet.residency.resident():
            return ()
        try:
            async with fleet.seat(student, timeout_s=EMBED_SECONDS, priority=Priority.EVALUATION) as seat:
                return (await seat.embed([question])).vectors[0]
        except StudiumError as error:
            if type(error).code not in told:
                told.add(type(error).code)
                log.warning(
                    "%s gives no embeddings; questions are compared word for word: %s", student.name, error
                )
            return ()

    return embed


def terms_of(student: Student, config: Config) -> Terms:
    """Return the terms under which a student's words may be learned from: those of its engine, as declared."""
    if ships_with_studium(student):
        return Terms("Apache-2.0", training=True, source="a student that ships with Studium")
    declared = config.engines.get(student.model.engine)
    if declared is None:
        return Terms()
    source = f"engines.{student.model.engine}.training_use: {declared.training_use}"
    return Terms(declared.licence, declared.training_use == "allowed", source)


def _settle_foundational(config: Config, registry: Registry) -> None:
    """Let the foundational adapter serve where it lies in the workspace and nothing was decided about its role yet."""
    if not (config.workspace / "adapters" / "foundational").is_dir():
        return
    from studium.manage import bootstrap

    try:
        if bootstrap.held(config) and (done := bootstrap.settle(config.workspace, registry)):
            log.info(done)
    except StudiumError as error:
        log.warning("the foundational adapter does not serve: %s", error)


async def _watch_hardware(store: Store) -> None:
    while True:
        store.record_snapshot(await asyncio.to_thread(snapshot))
        await asyncio.sleep(SNAPSHOT_SECONDS)
