"""`studium train rehearse`: a model's own replies to what it can do, to be replayed beside a new skill."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json

if TYPE_CHECKING:
    from studium.config import Config
    from studium.train.rehearsal import Question, Rehearsed

TELL_S = 5.0


def register(app: typer.Typer) -> None:
    """Add the command to `studium train`."""
    app.command("rehearse")(rehearse)


def rehearse(
    model: Annotated[str, typer.Option(help="A student, a role, a GGUF file or a run's folder.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the rows go, as JSON lines.")],
    domain: Annotated[
        list[str] | None,
        typer.Option("--domain", help="Asks; repeatable. Without: every skill and what is none."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=100_000, help="Questions of each domain.")] = 600,
    beside: Annotated[
        str, typer.Option(metavar="DOMAIN", help="The skill to be trained: what it could ask is left out.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0)] = 1,
    timeout: Annotated[float, typer.Option(min=0.1, max=3600.0, help="Seconds for one answer.")] = 60.0,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a model what it can do already and keep what it says, right answers and refusals, as rows for `replay`.

    Example: studium train rehearse --model sprout --out datasets/sprout-own.jsonl
    """
    from studium.domains.catalogue import skills
    from studium.train.rehearsal import OUTSIDE, questions, write_rows

    asked = questions(domain or [*skills(), OUTSIDE], rows, seed, beside)
    found = asyncio.run(_ask(settings(config, workspace), model, asked, timeout))
    number = write_rows(found, out)
    by_domain = {name: [0, 0] for name in dict.fromkeys(one.domain for one in asked)}
    for one in found:
        by_domain[one.question.domain][0] += one.kept
        by_domain[one.question.domain][1] += 1
    if json:
        kept = {name: {"kept": kept, "asked": total} for name, (kept, total) in by_domain.items()}
        write_json({"file": out, "rows": number, "asked": len(asked), "domains": kept})
        return
    write(f"{out}: {number} rows of {len(asked)} replies\n")
    for name, (kept, total) in by_domain.items():
        write(f"  {name}: {kept} of {total} right or declined\n")


async def _ask(
    config: "Config", model: str, asked: Sequence["Question"], timeout_s: float
) -> list["Rehearsed"]:
    from studium.cli.eval_asking import Choice, asking
    from studium.domains.open_question import OPEN_QUESTION
    from studium.evals.items import Item
    from studium.evals.runner import tries
    from studium.train.rehearsal import rehearsed

    found: list[Rehearsed] = []
    began = told = time.monotonic()
    async with asking(config, Choice(model, timeout_s)) as ready:
        for number, question in enumerate(asked, start=1):
            item = Item(question.prompt, "", OPEN_QUESTION)
            said = await ready.way.ask(tries([item], 1, 0.0)[0])
            if not said.error:
                found.append(rehearsed(question, said.text))
            if (now := time.monotonic()) - told >= TELL_S:
                told = now
                note(
                    f"{number}/{len(asked)}, about {(now - began) / number * (len(asked) - number):.0f} s left"
                )
    return found
