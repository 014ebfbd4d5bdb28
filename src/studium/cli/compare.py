"""`studium compare`: is the tuned model better than the baseline, and may it take its place?"""

import asyncio
import hashlib
import re
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, MemoryBudgetOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.records.adapters import Verdict

if TYPE_CHECKING:
    from studium.cli.compare_models import Two
    from studium.config import Config
    from studium.evals.comparing.asking import Contest, Outcome
    from studium.evals.gate.evidence import Side

Json = dict[str, Any]
FOLDER, EVIDENCE = "compare", "evidence"
EXIT = {Verdict.PROMOTE: 0, Verdict.ROLL_BACK: 10, Verdict.HOLD: 11, Verdict.NOT_MEASURED: 12}
DEFAULT_PROBLEMS = 200
_UNFIT = re.compile(r"[^a-z0-9_.-]+")


def compare(
    baseline: Annotated[str, typer.Argument(metavar="BASELINE", help="Who serves now.")],
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="Who would take its place.")],
    on: Annotated[
        list[str] | None, typer.Option("--on", metavar="DOMAIN", help="Fresh problems of it; repeatable.")
    ] = None,
    level: Annotated[
        list[int] | None, typer.Option("--level", metavar="N", help="Only of this level.")
    ] = None,
    problems: Annotated[
        int, typer.Option(min=1, max=10_000, help="Of each domain, at most.")
    ] = DEFAULT_PROBLEMS,
    seed: Annotated[int, typer.Option(help="Another seed draws other problems.")] = 1,
    suite: Annotated[
        str, typer.Option(metavar="NAME", help="The frozen suite that nothing may be lost on.")
    ] = "core",
    everything: Annotated[
        bool, typer.Option("--all", help="Ask every problem, also when the verdict is certain.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, max=3600.0, help="Seconds for one answer.")] = 60.0,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    memory_budget: MemoryBudgetOption = None,
    json: JsonOption = False,
) -> None:
    """Ask two models the same fresh problems and say in one word whether the tuned one may take the place.

    Exit status: 0 promote, 10 roll back, 11 hold, 12 not measured.

    Example: studium compare sprout runs/my-run --on arithmetic
    """
    given = settings(config, workspace, memory_budget)
    contest, asked = _contest(on or [], level or [], problems, seed, suite, everything)
    told = asyncio.run(_compare(given, baseline, tuned, contest, asked, timeout))
    if json:
        write_json(told)
    else:
        _show(told)
    raise typer.Exit(EXIT[Verdict(told["verdict"])])


def _contest(
    domains: list[str], levels: list[int], problems: int, seed: int, suite: str, everything: bool
) -> tuple["Contest", Json]:
    """Return what is asked, and what tells it from all else."""
    from studium.domains.catalogue import skills
    from studium.evals import packs
    from studium.evals.comparing.asking import Contest
    from studium.evals.gate.verdict import Limits

    names = tuple(dict.fromkeys(domains)) or tuple(skills())
    pack = packs.Pack(names, problems, seed, tuple(levels))
    fresh, frozen = pack.items(), packs.suite(suite)
    digest = hashlib.sha256("\n".join(one.id for one in fresh).encode()).hexdigest()
    asked: Json = {"domains": list(names), "problems": problems, "seed": seed, "levels": levels}
    asked |= {"fresh_sha256": digest, "suite": frozen.name, "suite_sha256": frozen.sha256, "temperature": 0.0}
    return Contest(fresh, frozen.items, Limits(), everything), asked


async def _compare(
    config: "Config", baseline: str, tuned: str, contest: "Contest", asked: Json, timeout_s: float
) -> Json:
    from studium.cli import compare_models
    from studium.evals.comparing.asking import Contestant, ask_both, outcome_of
    from studium.evals.folder import EvalFolder

    two = compare_models.both(config, baseline, tuned)
    sides = await compare_models.hashed(two)
    folder = config.workspace / FOLDER / _name(sides, asked)
    kept = EvalFolder(folder, "baseline"), EvalFolder(folder, "tuned")
    for one, side in zip(kept, sides, strict=True):
        await asyncio.to_thread(one.begin, _told(side, asked))
    async with compare_models.opened(two, timeout_s) as ready:
        pair = Contestant(ready.ways[0], kept[0]), Contestant(ready.ways[1], kept[1])
        said = 0.0
        async for step in ask_both(contest, *pair):
            await ready.look()
            if (now := time.monotonic()) - said >= 5.0 or sys.stderr.isatty():
                said = now
                note(
                    f"{step.done}/{step.total}, about {step.seconds_left:.0f} s left at most: {step.decision.verdict}"
                )
        outcome = outcome_of(contest, *pair)
        return _conclude(config, two, sides, contest, asked, outcome, ready.peaks)


def _conclude(
    config: "Config",
    two: "Two",
    sides: tuple["Side", "Side"],
    contest: "Contest",
    asked: Json,
    outcome: "Outcome",
    peaks: dict[str, int],
) -> Json:
    from studium.cli import compare_models
    from studium.evals.comparing.report import cost, report
    from studium.evals.gate import evidence

    whole_suite = len(outcome.suite) == len(contest.suite)
    body = evidence.body_of(
        sides[0],
        sides[1],
        asked=asked,
        engine=compare_models.engines(two),
        limits=contest.limits,
        fresh=outcome.pairs(outcome.fresh),
        suite=outcome.pairs(outcome.suite) if whole_suite else None,
    )
    sealed = evidence.seal(body, role=two.baseline.name, at=time.time())
    path = evidence.write(sealed, config.workspace / EVIDENCE)
    sizes = compare_models.file_bytes(two)
    replies = (list(outcome.champion.values()), list(outcome.challenger.values()))
    costs = [
        cost(said, size, peaks.get(side.name)) for said, size, side in zip(replies, sizes, sides, strict=True)
    ]
    told = report(
        sides,
        outcome,
        evidence.decision_of(body),
        (costs[0], costs[1]),
        planned=len(contest.fresh),
        asked=asked,
    )
    return told | {"evidence": sealed.id, "evidence_file": str(path)}


def _told(side: "Side", asked: Json) -> Json:
    return {
        "model": side.name,
        "fingerprint": side.fingerprint,
        "files": dict(side.files),
        "items": asked,
        "domains": asked["domains"],
        "samples": 1,
        "temperature": 0.0,
        "metrics": [],
        "judge": "",
    }


def _name(sides: tuple["Side", "Side"], asked: Json) -> str:
    """Return a folder's name that equal comparisons share and others do not."""
    import orjson

    told = [asked, *({"files": dict(one.files), "fingerprint": one.fingerprint} for one in sides)]
    digest = hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
    plain = "-".join(_UNFIT.sub("-", one.name.lower()).strip("-_.")[:20] for one in sides)
    return f"{plain}-{digest}"


def _show(told: Json) -> None:
    from studium.evals.comparing.report import COLUMNS, table

    write(f"{told['verdict'].upper()}: {told['tuned']['name']} against {told['baseline']['name']}\n\n")
    for reason in told["reasons"]:
        write(f"  {reason}\n")
    write("\n")
    write_table(COLUMNS, table(told["differences"]))
    note(f"evidence {told['evidence'][:16]}")
