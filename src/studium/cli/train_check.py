"""`studium train check`: the preflight alone, and the first rows as training sees them, token by token."""

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import JsonOption
from studium.cli.output import note, printable, write, write_json
from studium.errors import BadRequest
from studium.train.stages.catalogue import STAGES

if TYPE_CHECKING:
    from studium.train.preflight.findings import Finding, Inputs

EXIT_FAULT = 2
_MARKS = {True: "ok", False: "FAILED", None: "not tried"}
# Trained on: green; masked: dim; the end token: white on green.
_COLOURS = {"trained": "32", "masked": "2", "end": "97;42"}


def register(app: typer.Typer) -> None:
    """Add the command to `studium train`."""
    app.command("check")(check)


def check(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The recipe (see recipes/).")],
    stage: Annotated[str, typer.Option(metavar="STAGE", help=f"One of {', '.join(STAGES)}.")],
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="In place of the recipe's value.")
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", min=0, max=100, help="So many rows are shown.")] = 3,
    drills: Annotated[
        bool, typer.Option("--drills/--no-drills", help="Also train a few steps, to compare.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Check what a run would use, and show its first rows: what carries loss, what is masked, where replies end.

    Exit status 2 where a check fails; a run refuses to begin then.

    Example: studium train check --config recipes/sft.yaml --stage sft
    """
    from studium.cli.checks import need_training_tools
    from studium.train.surroundings import quiet

    need_training_tools()
    quiet()
    from studium.train import surroundings
    from studium.train.preflight.checking import CHECKS, DRILLS, inputs_of
    from studium.train.preflight.checking import check as run_checks
    from studium.train.recipe_file import read_told

    if stage not in STAGES:
        raise BadRequest(f"there is no stage {stage!r}", expected=f"one of {', '.join(STAGES)}")
    told = read_told(config, stage, sets or ())
    surroundings.choose_threads(0)
    inputs = inputs_of(told)
    findings = run_checks(inputs, (*CHECKS, *DRILLS) if drills else CHECKS)
    if json:
        found = list(findings)
        write_json({"findings": [asdict(one) for one in found], "rows": list(_rows(inputs, rows))})
    else:
        for one in _rows(inputs, rows):
            _show_row(one)
        found = [_shown(finding) for finding in findings]
    if any(one.ok is False for one in found):
        raise typer.Exit(EXIT_FAULT)


def _shown(finding: "Finding") -> "Finding":
    row = f" row {finding.row_id}:" if finding.row_id else ""
    write(f"{_MARKS[finding.ok]:<10}{finding.name:<16}{row} {finding.says}\n")
    if finding.ok is False:
        note(f"  try: {finding.try_next}")
    return finding


def _rows(inputs: "Inputs", most: int) -> Iterator[dict[str, Any]]:
    """Yield rows as the stage's own rendering makes them; a drawn stage's reply is the expert's."""
    from studium.train.preflight.gold import gold_of
    from studium.train.rows import IGNORED, encode, with_completion

    for row in list(inputs.every)[:most]:
        drawn = not row.completion
        full = with_completion(row, gold_of(row, inputs.told.recipe) or "") if drawn else row
        encoded = encode(inputs.tokenizer, full)
        tokens = [
            {
                "text": str(inputs.tokenizer.decode([token])),
                "as": "masked"
                if label == IGNORED
                else "end"
                if token == inputs.tokenizer.eos_token_id
                else "trained",
            }
            for token, label in zip(encoded.ids, encoded.labels, strict=True)
        ]
        limit = inputs.told.recipe.max_tokens
        yield {"id": row.id, "drawn": drawn, "tokens": tokens, "too_long": len(tokens) > limit}


def _show_row(row: dict[str, Any]) -> None:
    trained = sum(one["as"] != "masked" for one in row["tokens"])
    what = "reply drawn; the expert's is shown" if row["drawn"] else "carry loss"
    write(f"{row['id']}: {trained} of {len(row['tokens'])} tokens {what}")
    write(" - TOO LONG\n" if row["too_long"] else "\n")
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    # Tokens are made harmless one by one: only our own colours may steer the terminal.
    parts = (_coloured(one) if coloured else _marked(one) for one in _runs(row["tokens"]))
    sys.stdout.write("".join(parts) + "\n\n")


def _runs(tokens: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Yield neighbouring tokens of a kind as one."""
    held: dict[str, str] = {}
    for one in tokens:
        if held and held["as"] == one["as"]:
            held = {"as": held["as"], "text": held["text"] + one["text"]}
        else:
            if held:
                yield held
            held = one
    if held:
        yield held


def _coloured(one: dict[str, str]) -> str:
    return f"\x1b[{_COLOURS[one['as']]}m{printable(one['text'])}\x1b[0m"


def _marked(one: dict[str, str]) -> str:
    text = printable(one["text"])
    return {"masked": text, "trained": f"[{text}]", "end": f"[{text}]"}[one["as"]]
