"""`studium train pairs` and `studium train lint`: preferences made and looked at before anything is trained on them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json
from studium.errors import BadRequest

if TYPE_CHECKING:
    from studium.train.preferences.lint import Report

Levels = Annotated[list[int] | None, typer.Option("--level", help="Only this level; may be repeated.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `studium train`."""
    app.command("pairs")(pairs)
    app.command("lint")(lint)


def pairs(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write the pairs.")],
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Model, data and the rest, as YAML.")
    ] = None,
    model: Annotated[str, typer.Option(help="The model whose replies are compared.")] = "",
    domain: Annotated[str, typer.Option(help="The domain that asks and verifies.")] = "",
    levels: Levels = None,
    prompts: Annotated[int, typer.Option(min=1, help="How many prompts.")] = 512,
    steps: Annotated[bool, typer.Option("--steps", help="Pairs of single steps, not of replies.")] = False,
    candidates: Annotated[int, typer.Option(min=2, help="Replies drawn for each prompt.")] = 4,
    temperature: Annotated[float, typer.Option(min=0.01, help="Above 0; higher is more varied.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="From what was said of answers here, not from a model.")
    ] = False,
    thumbs: Annotated[
        Path | None, typer.Option("--thumbs", metavar="FILE", help="With --feedback: where thumbs go.")
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Make pairs for DPO: a model's better against its worse replies, as the domain verifies, or from feedback.

    Example: studium train pairs --model sprout --domain arithmetic --out pairs.jsonl
    """
    if feedback:
        _from_feedback(out, thumbs, domain, settings(None, workspace).workspace, json=json)
        return
    from studium.cli.checks import need_training_tools

    need_training_tools()
    from studium.train.config import Source
    from studium.train.preferences.maker import Making, make, read_making
    from studium.train.preferences.pairs import write_pairs

    if config is None and not (model and domain):
        raise BadRequest(
            "nothing says whose replies to what are compared",
            expected="--model and --domain, or --config, or --feedback",
            try_next="studium train pairs --model sprout --domain arithmetic --out pairs.jsonl",
        )
    teach = "step-prompts" if steps else "prompts"
    source = Source(domain=domain, levels=tuple(levels or ()), rows=prompts, seed=seed + 1, teach=teach)
    told = (
        read_making(config)
        if config
        else Making(model, (source,), candidates=candidates, temperature=temperature, seed=seed)
    )
    made = make(told, note)
    number = write_pairs(made.pairs, out)
    if json:
        write_json(
            {
                "file": out,
                "pairs": number,
                "prompts": made.prompts,
                "tied": made.tied,
                "unscored": made.unscored,
            }
        )
        return
    note(
        f"{number} pairs from {made.prompts} prompts; {made.tied} had replies all about as good, "
        f"{made.unscored} could not be scored"
    )
    write(f"studium train lint {out}\n")


def lint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Pairs, or thumbs.")],
    json: JsonOption = False,
) -> None:
    """Look for faults in pairs or thumbs; exit status 3 where a gross one would stop training.

    Example: studium train lint pairs.jsonl
    """
    from studium.train.config import Source
    from studium.train.data import numbered_lines
    from studium.train.preferences.lint import lint_pairs, lint_thumbs
    from studium.train.preferences.pairs import read_pairs, read_thumbs

    source = (Source(file=str(file), rows=0),)
    first = next((line for _, line in numbered_lines(file)), None)
    if first is None:
        raise BadRequest(f"{file} is empty", expected="pairs or thumbs as JSON lines")
    is_pairs = "chosen" in first
    report = lint_pairs(read_pairs(source)) if is_pairs else lint_thumbs(read_thumbs(source))
    if json:
        write_json(_told(report))
    else:
        _show(report, "pairs" if is_pairs else "thumbs")
    raise typer.Exit(3 if report.gross else 0)


def _from_feedback(out: Path, thumbs: Path | None, domain: str, workspace: Path, *, json: bool) -> None:
    from studium.app import STORE_FILE
    from studium.store import open_store
    from studium.train.preferences.feedback import from_feedback
    from studium.train.preferences.pairs import write_pairs, write_thumbs

    store = open_store(workspace / STORE_FILE)
    try:
        found = from_feedback(store, domain=domain)
    finally:
        store.close()
    told: dict[str, Any] = {"rated": found.rated, "file": out, "pairs": write_pairs(found.pairs, out)}
    if thumbs:
        told |= {"thumbs_file": thumbs, "thumbs": write_thumbs(found.thumbs, thumbs)}
    if json:
        write_json(told)
        return
    note(f"{found.rated} rated answers gave {len(found.pairs)} pairs and {len(found.thumbs)} thumbs")
    for file in (out, thumbs):
        if file:
            write(f"studium train lint {file}\n")


def _told(report: "Report") -> dict[str, Any]:
    from dataclasses import asdict

    length = report.length._asdict() if report.length else None
    return {"rows": report.rows, "length_effect": length, "faults": [asdict(one) for one in report.faults]}


def _show(report: "Report", kind: str) -> None:
    if report.length:
        effect = report.length
        write(f"length: Cohen's d {effect.value:.2f} ({effect.low:.2f} to {effect.high:.2f})\n")
    for fault in report.faults:
        rows = f"  {', '.join(fault.rows[:5])}{', ...' if len(fault.rows) > 5 else ''}" if fault.rows else ""
        write(f"{'REFUSED' if fault.gross else 'warning'}  {fault.kind}: {fault.says}\n")
        write(f"{rows}\n" if rows else "")
        write(f"  {fault.try_next}\n")
    if not report.faults:
        write(f"no fault found in {report.rows} {kind}\n")
