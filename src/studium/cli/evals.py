"""`studium eval`: how well a model does on problems nobody was trained on, every figure with its interval."""

import asyncio
import hashlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, MemoryBudgetOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.errors import BadRequest

if TYPE_CHECKING:
    from studium.cli.eval_asking import Choice
    from studium.config import Config
    from studium.evals.folder import EvalFolder
    from studium.evals.items import Item
    from studium.evals.runner import Progress

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure a model on fresh problems, a frozen suite or your own file.\n\n"
    "Example: studium eval run --model critic --domain sentiment --problems 60",
)
Json = dict[str, Any]
RUNS = "runs"
DEFAULT_PROBLEMS, DEFAULT_TEMPERATURE = 60, 0.7
DomainOption = Annotated[
    list[str] | None, typer.Option("--domain", metavar="NAME", help="Fresh problems of it; repeatable.")
]
LevelOption = Annotated[
    list[int] | None, typer.Option("--level", metavar="N", help="Only of this level; repeatable.")
]
SeedOption = Annotated[int, typer.Option(help="Another seed draws other problems.")]
ProblemsOption = Annotated[int, typer.Option(min=1, max=10_000, help="Problems of each domain.")]


@app.command("run")
def run(
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="NAME", help="A student, auto, a GGUF file, or a training run's folder."
        ),
    ],
    domain: DomainOption = None,
    level: LevelOption = None,
    problems: ProblemsOption = DEFAULT_PROBLEMS,
    seed: SeedOption = 1,
    suite: Annotated[
        str | None, typer.Option(metavar="NAME", help="A frozen suite: core, or a file made by eval freeze.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="JSONL", help="Your questions; with --domain, rows in its form.")
    ] = None,
    samples: Annotated[int, typer.Option(metavar="K", min=1, max=1000, help="Tries at each problem.")] = 1,
    temperature: Annotated[
        float | None,
        typer.Option(min=0.0, max=5.0, help="0 is greedy. Else 0 for one try, 0.7 for several."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Besides the domain's own: bleu, perplexity, f1, ..."),
    ] = None,
    judge: Annotated[
        str, typer.Option(metavar="STUDENT", help="Grades answers in free words against your file's.")
    ] = "",
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Of the folder in runs/.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=3600.0, help="Seconds for one answer.")] = 60.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be asked.")] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    memory_budget: MemoryBudgetOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a model problems, grade its replies, and tell each metric with its interval.

    What was asked is kept in runs/NAME: the same command goes on where it was interrupted. Problems are fresh: no
    student was trained on them. A model file is served like a student while it is asked.

    Example: studium eval run --model critic --domain sentiment --samples 5
    """
    from studium.cli.eval_asking import Choice
    from studium.evals.runner import is_for_a_judge

    given = settings(config, workspace, memory_budget)
    drawn = (DEFAULT_TEMPERATURE if samples > 1 else 0.0) if temperature is None else temperature
    if samples > 1 and drawn == 0:
        raise BadRequest(
            f"{samples} tries at temperature 0 are one try", expected="a temperature above 0, or one try"
        )
    items, what = _items(domain or [], level or [], problems, seed, suite, file)
    more = list(dict.fromkeys(metric or ()))
    _check_metrics(more)
    if judge and not any(map(is_for_a_judge, items)):
        raise BadRequest(
            "--judge was given, and every problem is graded by its domain",
            expected="--file with answers in free words",
            try_next="leave --judge out",
        )
    choice = Choice(model, timeout, judge, perplexity="perplexity" in more)
    if dry_run:
        _announce(choice, items, what, samples, drawn, json)
        return
    told = asyncio.run(_run(given, choice, items, what, samples, drawn, more, name))
    _show(told, json)


@app.command("list")
def list_runs(
    config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """List the evaluations of this workspace, the suites that ship, and the metrics there are.

    Example: studium eval list
    """
    from studium.evals.folder import evaluations
    from studium.evals.metrics import METRICS
    from studium.evals.packs import shipped

    runs = [_line(folder) for folder in evaluations(settings(config, workspace).workspace / RUNS)]
    if json:
        about = {one.name: one.about for one in METRICS.values()}
        write_json({"runs": runs, "suites": shipped(), "metrics": about})
        return
    columns = ("name", "model", "what", "tries", "scored", "accuracy")
    write_table(columns, [tuple(_text(one[column]) for column in columns) for one in runs])
    note(f"frozen suites that ship: {', '.join(shipped()) or 'none'}; metrics: {', '.join(METRICS)}, pass@k")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of an evaluation, as eval list tells it.")],
    wrong: Annotated[int, typer.Option(metavar="N", min=0, help="Also so many replies that were wrong.")] = 0,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show the figures of an evaluation; of one that was interrupted, those of what was asked.

    Example: studium eval show critic-1a2b3c4d --wrong 5
    """
    from studium.evals.folder import EvalFolder

    folder = EvalFolder(settings(config, workspace).workspace / RUNS, name)
    if not folder.told():
        raise BadRequest(
            f"there is no evaluation {name!r}",
            expected="a name",
            try_next="list them with: studium eval list",
        )
    told = _report(folder)
    failures = [one for one in folder.answers() if one.score is not None and one.score < 1.0][:wrong]
    _show(told | ({"wrong": [one.as_row() for one in failures]} if wrong else {}), json)
    for one in () if json else failures:
        write(f"\n{one.question}\n  said: {one.reply.strip()}\n  right: {one.expected}\n")


@app.command("freeze")
def freeze(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The suite's new file; its stem is its name.")],
    domain: DomainOption = None,
    level: LevelOption = None,
    problems: ProblemsOption = DEFAULT_PROBLEMS,
    seed: SeedOption = 1,
    json: JsonOption = False,
) -> None:
    """Write fresh problems to a file that stays as it is: its first line holds the hash of the others.

    Example: studium eval freeze mine.jsonl --domain arithmetic --domain sentiment --problems 50
    """
    from studium.evals.packs import Pack
    from studium.evals.packs import freeze as freeze_pack

    made = freeze_pack(Pack(_names(domain or []), problems, seed, tuple(level or ())), out)
    if json:
        write_json({"suite": made.name, "sha256": made.sha256, "problems": len(made.items)})
    else:
        write(f"{made.name}: {len(made.items)} problems, sha256 {made.sha256}\n")


def _items(
    domains: list[str], levels: list[int], problems: int, seed: int, suite: str | None, file: Path | None
) -> tuple[list["Item"], Json]:
    """Return what is asked, and what it is as plain data that tells it from all else."""
    from studium.domains.catalogue import trusted
    from studium.evals import packs
    from studium.evals.items import items_of_file

    if suite is not None and (file is not None or domains or levels):
        raise BadRequest("--suite is given besides --file, --domain or --level", expected="one of them")
    if suite is not None:
        found = packs.suite(suite)
        return list(found.items), {"suite": found.name, "sha256": found.sha256}
    if file is None:
        pack = packs.Pack(_names(domains), problems, seed, tuple(levels))
        of = {"domains": list(pack.domains), "problems": problems, "seed": seed, "levels": levels}
        return pack.items(), of
    if len(domains) > 1 or levels:
        raise BadRequest("--file is given with several domains or a level", expected="at most one --domain")
    items = items_of_file(file, trusted(domains[0]) if domains else None)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return items, {"file": file.name, "sha256": digest, "domains": domains}


def _names(domains: list[str]) -> tuple[str, ...]:
    from studium.domains.catalogue import skills

    return tuple(dict.fromkeys(domains)) or tuple(skills())


def _announce(
    choice: "Choice", items: list["Item"], what: Json, samples: int, temperature: float, as_json: bool
) -> None:
    from studium.evals.runner import is_for_a_judge

    judged = sum(map(is_for_a_judge, items)) * samples * 2 if choice.judge else 0
    told = {"model": choice.model, "items": what, "tries": len(items) * samples, "temperature": temperature}
    told |= {"judge_calls_at_most": judged, "references": len(items) if choice.perplexity else 0}
    if as_json:
        write_json(told)
        return
    write(f"{_what(what)}: {len(items)} problems, {told['tries']} questions to {choice.model}\n")
    if judged:
        write(f"at most {judged} questions to the judge {choice.judge}\n")


def _check_metrics(names: list[str]) -> None:
    """Refuse a metric there is not, or whose library is missing, before anything is asked."""
    from studium.evals.metrics import metric

    for name in names:
        metric(name).ready()


async def _run(
    config: "Config",
    choice: "Choice",
    items: list["Item"],
    what: Json,
    samples: int,
    temperature: float,
    more: list[str],
    name: str | None,
) -> Json:
    from studium.cli.eval_asking import asking
    from studium.evals import runner
    from studium.evals.folder import EvalFolder

    async with asking(config, choice) as asked:
        told: Json = {
            "model": asked.model,
            "fingerprint": asked.fingerprint,
            "items": what,
            "domains": list(dict.fromkeys(item.domain.name for item in items)),
            "samples": samples,
            "temperature": temperature,
            "metrics": more + (["judged"] if choice.judge else []),
            "judge": choice.judge,
        }
        folder = EvalFolder(config.workspace / RUNS, name or _name(asked.model, told))
        await asyncio.to_thread(folder.begin, told)
        kept = {(one.item, one.sample) for one in folder.answers() if not one.error}
        to_ask = runner.left(runner.tries(items, samples, temperature), kept)
        if kept:
            note(f"{folder.name}: {len(kept)} were asked before, {len(to_ask)} are left")
        await _ask(runner.run(to_ask, asked.way), folder)
    report = _report(folder)
    folder.finish(report)
    return report


async def _ask(progress: Any, folder: "EvalFolder") -> None:
    said = 0.0
    async for one in progress:
        folder.append(one.graded)
        now = time.monotonic()
        if now - said >= 5.0 or one.done == one.total or (one.graded.error and sys.stderr.isatty()):
            said = now
            _tell(one)


def _tell(progress: "Progress") -> None:
    trouble = f"; {progress.graded.error}" if progress.graded.error else ""
    note(f"{progress.done}/{progress.total}, about {progress.seconds_left:.0f} s left{trouble}")


def _report(folder: "EvalFolder") -> Json:
    """Return the figures of what was asked so far, computed from the answers."""
    from studium.domains.catalogue import all_domains
    from studium.domains.open_question import OPEN_QUESTION
    from studium.evals.report import report

    told, answers = folder.told(), folder.answers()
    known = {**all_domains(), OPEN_QUESTION.name: OPEN_QUESTION}
    domains = {name: known[name] for name in told["domains"] if name in known}
    return {"name": folder.name, **told, **report(answers, domains, told["samples"], told["metrics"])}


def _name(model: str, told: Json) -> str:
    """Return a folder's name that equal runs share and others do not."""
    import orjson

    digest = hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
    plain = "".join(
        one if one.isascii() and (one.isalnum() or one in "-_.") else "-" for one in model.lower()
    )
    return f"{plain.strip('-_.')[:40] or 'model'}-{digest}"


def _show(told: Json, as_json: bool) -> None:
    from studium.evals.report import COLUMNS, table

    if as_json:
        write_json(told)
        return
    write_table(COLUMNS, table(told))
    counts = f"{told['asked']} tries: {told['scored']} scored, {told['not_scored']} not scored, {told['failed']} failed"
    write(f"{counts}, {told['declined']} declined\n")
    note(f"kept as {told['name']}: studium eval show {told['name']} --wrong 5")


def _line(folder: "EvalFolder") -> Json:
    told, report = folder.told(), folder.report()
    accuracy = [one["value"] for one in report.get("figures", ()) if one["metric"] == "accuracy"]
    return {
        "name": folder.name,
        "model": told["model"],
        "what": _what(told["items"]),
        "tries": report.get("asked"),
        "scored": report.get("scored"),
        "accuracy": accuracy[0] if len(told["domains"]) == 1 and accuracy else (accuracy or [None])[-1],
        "finished": bool(report),
    }


def _what(items: Json) -> str:
    if "pack" in items or "problems" in items:
        return f"{items['problems']} each of {', '.join(items['domains'])} (seed {items['seed']})"
    return str(items.get("suite") or items.get("file"))


def _text(value: object) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
