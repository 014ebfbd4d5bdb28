"""The foundational adapter: what `studium bootstrap` trains, compares and lets serve the role `implementer`.

The student declines most sums of two digits and more, and gets some of one digit wrong. It is taught them column by
column, with its other skills and what it must decline replayed, so that none of it is lost. Every step looks at facts
(a file, a finished run, the registry, its route), so the same command goes on where it was, and does nothing twice.

    declines   datasets/foundational-declines.jsonl: questions to decline, from the training side of the split
    train      runs/foundational-champion-v1
    register   adapters/foundational/champion_v1, for the role
    compare    the gate, on fresh problems and the frozen suite; its evidence
    promote    where the gate says so
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any

import orjson

from studium.config import Config
from studium.domains.answers import ABSTENTION
from studium.domains.catalogue import domain
from studium.domains.outside import outside_question
from studium.domains.protocol import Split, make_split
from studium.errors import BadRequest, OperatorError
from studium.manage.recipes import told_from
from studium.manage.training import RUNS, Tell, Trained, train
from studium.records.adapters import OWN_STUDENT, Adapter, AdapterKind, Evidence, Verdict
from studium.registry import Registry
from studium.train.bases import base_sha256
from studium.train.exporting.trained import META, lineage_of
from studium.train.recipe_file import FILE_NAME, Told, read_told
from studium.train.run_folder import RunFolder, State

ROLE, STUDENT, DOMAIN = "implementer", "sprout", "arithmetic"
SHELF, NAME, RUN = "foundational", "champion_v1", "foundational-champion-v1"
DECLINES = "foundational-declines.jsonl"
ACTOR = "studium bootstrap"
# 60 to 70 ms of one core for a row of 64: three minutes where nobody else is at work.
STEPS = 600
_DECLINED = {"programs": (1, 2, 3), "measures": (1, 2, 3), "sorting": (3,)}
_EACH_DECLINED, _OUTSIDE = 300, 600


def recipe(declines: Path) -> dict[str, Any]:
    """Return the recipe. Rate and shares were found by hand on problems kept from training (decision 0026)."""
    return {
        "model": STUDENT,
        "name": RUN,
        "data": [{"domain": DOMAIN, "levels": [1, 2], "rows": 6000}],
        "replay": {
            "share": 0.4,
            "data": [
                {"domain": "sentiment", "rows": 400},
                {"domain": "sorting", "levels": [1, 2], "rows": 800},
                {"file": str(declines)},
            ],
        },
        "steps": STEPS,
        "batch": 64,
        "max_tokens": 200,
        "lora": {"rank": 32, "alpha": 64},
        "optimiser": {"rate": 0.004, "warmup_steps": 20},
        "validation": {"every_steps": 100, "problems": 100},
        "save_every": 10,
    }


@dataclass(frozen=True, slots=True)
class Stand:
    """What of the bootstrap is there already. `state` is the run's; `adapter` None: not registered."""

    declines: bool
    state: State
    step: int
    steps: int
    adapter: Adapter | None
    active: bool

    def left(self) -> list[str]:
        """Name the steps that are left, in order."""
        done = {
            "declines": self.declines or self.adapter is not None,
            "train": self.state is State.DONE or self.adapter is not None,
            "register": self.adapter is not None,
            "compare": self.active,
            "promote": self.active,
        }
        return [step for step, is_done in done.items() if not is_done]


def held(config: Config) -> bool:
    """Say whether the role is held by the student that the adapter changes."""
    holder = config.roles.get(ROLE)
    return holder is not None and holder.student == STUDENT


def stand_of(workspace: Path, registry: Registry | None) -> Stand:
    """Look at what there is. Changes nothing."""
    status = RunFolder(workspace / RUNS / RUN).status()
    adapter = _registered(registry) if registry else None
    active = bool(adapter and registry and registry.route(ROLE).champion == adapter.id)
    declines = (workspace / "datasets" / DECLINES).exists()
    return Stand(declines, status.state, status.step, status.steps or STEPS, adapter, active)


def write_declines(workspace: Path) -> Path:
    """Write questions the student is to go on declining, the same every time, all or nothing."""
    path = workspace / "datasets" / DECLINES
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as out:
        for number, question in enumerate(_questions(Random("foundational declines"))):
            row = {"id": f"decline-{number}", "prompt": question, "completion": ABSTENTION}
            out.write(orjson.dumps(row | {"licence": "generated", "source": "questions to decline"}) + b"\n")
    part.replace(path)
    return path


def _questions(rng: Random) -> Iterator[str]:
    for name, levels in _DECLINED.items():
        for at in range(_EACH_DECLINED):
            yield make_split(domain(name), rng, levels[at % len(levels)], Split.TRAIN).prompt
    for _ in range(_OUTSIDE):
        yield outside_question(rng, Split.TRAIN)


def told_for(workspace: Path) -> Told:
    """Return what is to be trained: what was begun, where something was."""
    kept = workspace / RUNS / RUN / FILE_NAME
    if RunFolder(kept.parent).told():
        return read_told(kept, "sft")
    return told_from("sft", recipe(write_declines(workspace)), workspace)


def trained_within(told: Told, workspace: Path, *, minutes: float | None, tell: Tell) -> Trained:
    """Train, at most so many minutes; what is not done then goes on with the next call.

    Blocks; call it from the main thread.
    """
    if minutes is None:
        return train(told, workspace, tell=tell)
    over = Event()

    def stop_in_time() -> None:
        folder = RunFolder(workspace / RUNS / told.recipe.name)
        if over.wait(60 * minutes):
            return
        while not over.wait(0.5):  # a run that begins takes the wish of before away
            if folder.status().state is State.RUNNING:
                folder.ask_to_stop()

    watch = Thread(target=stop_in_time, daemon=True)
    watch.start()
    try:
        return train(told, workspace, tell=tell)
    finally:
        over.set()
        watch.join()


def register(workspace: Path, registry: Registry) -> Adapter:
    """Take the finished run's adapter in; the same again returns what is there. Raises OperatorError for no result."""
    run = RunFolder(workspace / RUNS / RUN)
    folder = run.path / "adapter"
    if run.status().state is not State.DONE or not folder.is_dir():
        raise OperatorError(
            f"the run {RUN} has no adapter yet: it is {run.status().state}",
            expected="a finished run",
            try_next="studium bootstrap",
        )
    return registry.register(
        folder,
        ROLE,
        name=NAME,
        base=STUDENT,
        base_sha256=str(run.told().get("base_sha256", "")) or base_sha256(STUDENT),
        kind=AdapterKind.ADAPTER,
        lineage=lineage_of(run),
        actor=ACTOR,
        shelf=SHELF,
    )


def promote(registry: Registry, adapter: Adapter, evidence: Evidence) -> bool:
    """Let the adapter serve where the gate's evidence says so; say whether it serves."""
    if evidence.verdict is not Verdict.PROMOTE:
        return False
    with registry.lease(ACTOR) as token:
        registry.promote(ROLE, adapter.id, evidence=evidence.id, actor=ACTOR, token=token)
    return True


def settle(workspace: Path, registry: Registry) -> str:
    """At start-up: register the foundational adapter where it lies in the workspace, and let it serve its role.

    It serves where nothing was ever decided about the role: what was promoted, forced or rolled back there stays as it
    is, and so does an adapter that the gate held. Returns what was done, "" for nothing. Blocks for the disk.
    """
    folder = workspace / "adapters" / SHELF / NAME
    if not (folder / META).is_file():
        return ""
    adapter = _registered(registry) or _found(folder, registry)
    changes = registry.history(ROLE)
    if any(change.action != "register" for change in changes) or _judged(workspace, adapter):
        return ""
    if registry.route(ROLE).champion != OWN_STUDENT:
        return ""
    with registry.lease(ACTOR) as token:
        reason = f"the foundational adapter was there at start-up, and nothing was decided about {ROLE} yet"
        registry.force(ROLE, adapter.id, reason=reason, actor=ACTOR, token=token)
    return f"{SHELF}/{NAME} serves the role {ROLE}"


def _registered(registry: Registry) -> Adapter | None:
    gone = registry.removed()
    return next((one for one in registry.adapters(ROLE) if one.name == NAME and one.id not in gone), None)


def _found(folder: Path, registry: Registry) -> Adapter:
    """Register a folder that was put there. Raises BadRequest where its card is none."""
    try:
        card = json.loads((folder / META).read_text(encoding="utf-8"))
        base, base_hash = str(card["base"]), str(card["base_sha256"])
        kind, lineage = AdapterKind(card["kind"]), dict(card["lineage"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequest(
            f"{folder / META} cannot be read: {type(error).__name__}: {error}",
            expected="the card that registering writes",
            try_next="remove the folder, and make another with: studium bootstrap",
        ) from error
    return registry.register(
        folder,
        ROLE,
        name=NAME,
        base=base,
        base_sha256=base_hash,
        kind=kind,
        lineage=lineage,
        actor=ACTOR,
        shelf=SHELF,
    )


def _judged(workspace: Path, adapter: Adapter) -> bool:
    """Say whether the gate has judged the adapter: then what it said decides, and not that a folder is there."""
    for path in (workspace / "evidence").glob("*.json"):
        with suppress(OSError, ValueError, AttributeError):
            if json.loads(path.read_text(encoding="utf-8")).get("challenger") == adapter.id:
                return True
    return False
