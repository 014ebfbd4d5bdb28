"""`studium compare`: is the tuned model better than the baseline, and may it take its place?"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, MemoryBudgetOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.errors import BadRequest, ConfigurationError
from studium.records.adapters import Evidence, Verdict

if TYPE_CHECKING:
    from studium.cli.compare_run import Wanted
    from studium.config import Config

Json = dict[str, Any]
EXIT = {Verdict.PROMOTE: 0, Verdict.ROLL_BACK: 10, Verdict.HOLD: 11, Verdict.NOT_MEASURED: 12}
DEFAULT_PROBLEMS = 200


def compare(
    baseline: Annotated[str | None, typer.Argument(metavar="BASELINE", help="Who serves now.")] = None,
    tuned: Annotated[str | None, typer.Argument(metavar="TUNED", help="Who would take its place.")] = None,
    on: Annotated[
        list[str] | None, typer.Option("--on", metavar="DOMAIN", help="Fresh problems of it; repeatable.")
    ] = None,
    level: Annotated[
        list[int] | None, typer.Option("--level", "--levels", metavar="N", help="Only of this level.")
    ] = None,
    problems: Annotated[
        int, typer.Option(min=1, max=10_000, help="Of each domain, at most.")
    ] = DEFAULT_PROBLEMS,
    seed: Annotated[int, typer.Option(help="Another seed draws other problems.")] = 1,
    suite: Annotated[
        str, typer.Option(metavar="NAME", help="The frozen suite on which nothing may be lost.")
    ] = "core",
    narrow: Annotated[
        bool,
        typer.Option("--narrow", help="Of the suite, only the domains compared: others may be forgotten."),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Ask every problem, also when the verdict is certain.")
    ] = False,
    role: Annotated[str, typer.Option(metavar="ROLE", help="The role this is about; else found.")] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write report.md, .html and .json there.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="A text for a pull request.")] = False,
    replay: Annotated[
        str | None, typer.Option(metavar="ID|FILE", help="Compute a verdict again from its evidence.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=3600.0, help="Seconds for one answer.")] = 60.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be asked.")] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    memory_budget: MemoryBudgetOption = None,
    json: JsonOption = False,
) -> None:
    """Ask two models the same fresh problems, and say in one word whether the tuned one may take the place.

    Each is a student or role (who serves it now), ROLE/NAME of a registered adapter, a GGUF file, or the folder of a
    training run. It stops once the gate is certain; the same command goes on where it was interrupted.

    Exit status: 0 promote, 10 roll back, 11 hold, 12 not measured.

    Example: studium compare sprout runs/my-run --on arithmetic
    """
    given = settings(config, workspace, memory_budget)
    if replay is not None:
        _replay(given, replay, json)
        return
    if baseline is None or tuned is None:
        raise BadRequest(
            "two models are needed",
            expected="BASELINE and TUNED, or --replay",
            try_next="studium compare sprout clerk --on arithmetic",
        )
    from studium.cli import compare_models
    from studium.cli.compare_run import Wanted, compare_two
    from studium.domains.catalogue import skills

    domains = tuple(dict.fromkeys(on or ())) or tuple(skills())
    wanted = Wanted(domains, tuple(level or ()), problems, seed, suite, narrow, everything)
    two = compare_models.both(given, baseline, tuned, role)
    if dry_run:
        _announce(two.baseline.said, two.tuned.said, wanted, json)
        return
    try:
        told = asyncio.run(compare_two(two.config, two, wanted, timeout, out))
    except KeyboardInterrupt:
        note("what was asked is kept: the same command goes on")
        raise
    _show(told, json, markdown)
    raise typer.Exit(EXIT[Verdict(told["verdict"])])


def _announce(baseline: str, tuned: str, wanted: "Wanted", as_json: bool) -> None:
    from studium.cli.compare_run import contest_of

    contest, asked = contest_of(wanted)
    most = 2 * (len(contest.fresh) + len(contest.suite))
    if as_json:
        write_json({"baseline": baseline, "tuned": tuned, "asked": asked, "questions_at_most": most})
        return
    write(f"{len(contest.fresh)} fresh problems of {', '.join(wanted.domains)} and {len(contest.suite)} of ")
    write(f"the suite {wanted.suite}, to {baseline} and to {tuned}: {most} questions at most\n")


def _replay(config: "Config", named: str, as_json: bool) -> None:
    from studium.cli.compare_run import head_now
    from studium.evals.gate import evidence

    found = _evidence(config, named)
    decision = evidence.replay(found)
    if changed := evidence.changed(found.body, head_now(config, dict(found.body))):
        raise ConfigurationError(
            f"the evidence {found.id[:12]} is of other models, data or settings: {', '.join(changed)}",
            expected="what was compared, as it was",
            try_next="compare them again",
        )
    if as_json:
        write_json({"evidence": found.id, "verdict": decision.verdict, "reasons": decision.reasons})
    else:
        write(f"{decision.verdict.upper()}: {found.body['said']['challenger']}\n\n")
        write("".join(f"  {reason}\n" for reason in decision.reasons))
    raise typer.Exit(EXIT[decision.verdict])


def _evidence(config: "Config", named: str) -> Evidence:
    """Return evidence by its file, or by its id or the beginning of it."""
    from studium.cli import compare_models
    from studium.cli.compare_run import EVIDENCE
    from studium.evals.gate import evidence

    path = Path(named).expanduser()
    if path.is_file():
        return evidence.read(path)
    if not (len(named) >= 8 and all(one in "0123456789abcdef" for one in named)):
        raise BadRequest(
            f"there is no evidence {named[:80]!r}", expected="an id of at least 8 letters, or a file"
        )
    files = sorted((config.workspace / EVIDENCE).glob(f"{named}*.json"))
    if len(files) == 1:
        return evidence.read(files[0])
    stored = compare_models.kept(config, named) if not files else None
    if stored is None:
        raise BadRequest(
            f"{len(files)} files of evidence begin with {named}",
            expected="one",
            try_next=f"look into {config.workspace / EVIDENCE}",
        )
    return stored


def _show(told: Json, as_json: bool, as_markdown: bool) -> None:
    from studium.evals.comparing import words
    from studium.evals.comparing.report import COLUMNS, table

    if as_json:
        write_json(told)
        return
    if as_markdown:
        write(words.markdown(told))
        return
    write(f"{words.headline(told)}\n\n")
    write("".join(f"  {one}\n" for one in words.sentences(told)) + "\n")
    write_table(COLUMNS, table(told["differences"]))
    write(f"\n{words.suite_line(told)}\n\n")
    write_table(words.COSTS, words.costs(told))
    _show_examples(told)
    if told["verdict"] == Verdict.HOLD and told["gate"]["at_pair"] is None:
        note(
            f"more problems may decide it: the same command with --problems {2 * told['asked']['problems']} goes on"
        )
    note(f"report: {told['folder']}/report.html; again: studium compare --replay {told['evidence'][:16]}")


def _show_examples(told: Json) -> None:
    """Show one problem won and one lost, side by side: the page has more."""
    for what in ("won", "lost", "lost_on_suite"):
        for one in told[what][:1]:
            write(
                f"\n{what.replace('_', ' ')}: {_short(one['question'])}  (right: {_short(one['expected'])})\n"
            )
            write(f"  baseline: {_short(one['baseline'])}\n  tuned:    {_short(one['tuned'])}\n")


def _short(text: str) -> str:
    plain = " / ".join(text.split("\n")).strip()
    return plain if len(plain) <= 110 else plain[:107] + "..."
