"""`studium compare-ensembles`: is asking a few students better than asking all of them, or the best one alone?"""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studium.cli.options import ConfigOption, JsonOption, MemoryBudgetOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.errors import BadRequest

if TYPE_CHECKING:
    from studium.app import Studium
    from studium.config import Config
    from studium.evals.items import Item
    from studium.serve.comparison.measure import Outcome, Scheme
    from studium.serve.comparison.report import Comparison

# Students are told apart on questions of their own, as many as this share of those that are compared on.
CHOOSING_SHARE, LEAST_CHOOSING = 0.4, 10


def compare_ensembles(
    domain: Annotated[
        list[str] | None, typer.Option("--domain", metavar="NAME", help="Fresh problems of it; repeatable.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="JSONL", help='Your questions: {"question": ..., "answer": ...}.')
    ] = None,
    problems: Annotated[int, typer.Option(min=1, max=10_000, help="Problems per domain.")] = 20,
    seed: Annotated[int, typer.Option(help="Another seed draws other problems.")] = 1,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with plots.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write Markdown.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be asked, and ask nothing.")
    ] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    memory_budget: MemoryBudgetOption = None,
    json: JsonOption = False,
) -> None:
    """Compare the adaptive ensemble with asking everyone, the best student alone, and that one several times.

    Every way gets the same questions, one after another, from an empty memory; nothing comes from the cache.

    Example: studium compare-ensembles --domain arithmetic --problems 30 --html comparison.html
    """
    from studium.serve.comparison import report

    given = settings(config, workspace, memory_budget)
    choosing, items, what = _items(domain, file, problems, seed)
    if dry_run:
        _announce(given, choosing, items, what)
        return
    comparison = asyncio.run(_compare(given, choosing, items, what))
    if html is not None:
        _save(html, report.page(comparison))
    if markdown is not None:
        _save(markdown, report.markdown(comparison))
    if json:
        write_json(report.as_data(comparison))
        return
    write_table(report.COLUMNS, report.rows(comparison))
    write("\n" + comparison.best_chosen + "\n")
    for sentence in report.sentences(comparison):
        write(sentence + "\n")


def _items(
    domains: list[str] | None, file: Path | None, problems: int, seed: int
) -> tuple[list["Item"], list["Item"], str]:
    """Return the questions to choose the best student on, those to compare on, and what they are."""
    from studium.domains.catalogue import skills
    from studium.domains.protocol import Split
    from studium.evals.items import fresh_items, items_of_file

    if file is not None and domains:
        raise BadRequest("--file and --domain are both given", expected="one of them")
    if file is not None:
        items = items_of_file(file)
        cut = max(1, round(len(items) * CHOOSING_SHARE))
        if len(items) < 2:
            raise BadRequest(f"{file} holds {len(items)} question", expected="at least 2")
        return items[:cut], items[cut:], f"{len(items) - cut} questions of {file.name}"
    names = domains or list(skills())
    choosing = max(LEAST_CHOOSING, round(problems * CHOOSING_SHARE))
    what = f"{problems} fresh problems each of {', '.join(names)} (seed {seed})"
    return (
        fresh_items(names, choosing, seed, Split.SCORING),
        fresh_items(names, problems, seed, Split.FRESH),
        what,
    )


def _announce(config: "Config", choosing: list["Item"], items: list["Item"], what: str) -> None:
    from studium.registry import build_roster

    number = sum(not one.model.embeddings for one in build_roster(config).students.values())
    most = number * len(choosing) + len(items) * (2 * number + 1 + 6)
    write(f"{what}, in 4 ways; the best of {number} students is chosen on {len(choosing)} others.\n")
    write(f"At most {most:,} calls of students.\n")


async def _compare(config: "Config", choosing: list["Item"], items: list["Item"], what: str) -> "Comparison":
    from studium.app import open_studium
    from studium.serve.comparison.measure import alone, best_of, schemes, total
    from studium.serve.comparison.report import Comparison

    async with open_studium(config) as studium:
        names = [one.name for one in studium.ensemble.team.members()]
        scores = {name: await _run(studium, alone(name), choosing, "choosing") for name in names}
        best = best_of(scores)
        ways = schemes(best)
        outcomes = {one.name: await _run(studium, one, items, "comparing") for one in ways}
    right = sum(one.score == 1.0 for one in scores[best])
    chosen = f"The best student alone is {best}: {right} of {len(choosing)} right on questions of their own."
    return Comparison(what, chosen, [total(one, outcomes[one.name]) for one in ways], outcomes)


async def _run(studium: "Studium", scheme: "Scheme", items: list["Item"], doing: str) -> list["Outcome"]:
    from studium.serve.comparison.measure import carry_out

    outcomes: list[Outcome] = []
    began = told = time.monotonic()
    async for outcome in carry_out(studium.ensemble, studium.fleet, scheme, items):
        outcomes.append(outcome)
        now = time.monotonic()
        if now - told >= 5.0 or len(outcomes) == len(items):
            told, left_s = now, (now - began) / len(outcomes) * (len(items) - len(outcomes))
            note(f"{doing}: {scheme.name}, {len(outcomes)} of {len(items)}, about {left_s:.0f} s left")
    return outcomes


def _save(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadRequest(
            f"{path} cannot be written: {error.strerror}", expected="a file in a folder that exists"
        ) from error
    note(f"wrote {path}")
