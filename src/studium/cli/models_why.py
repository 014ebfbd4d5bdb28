"""`studium models why`: whom a question would be asked, in which order, and what is known of each."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table

if TYPE_CHECKING:
    from studium.config import Config

Json = dict[str, Any]


def why(
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    url: Annotated[str | None, typer.Option(help="The Studium to look into.")] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show how reliable each student is at a kind of question, and who would be asked first. Asks nobody.

    Example: studium models why "What is 47 + 58?"
    """
    from studium.cli.running import post, running_server

    if url is None and config is None:
        url = running_server(settings(None, workspace).workspace)
    body = {"question": question}
    told = post(url, "/api/why", body) if url else asyncio.run(_here(settings(config, workspace), question))
    if json:
        write_json(told)
        return
    write(f"kind: {told['described']}\n")
    shared = told["in_common"]
    write(f"in common: {shared['commons']:.2f}; wrong answers to hit on: {shared['wrong_answers']:.1f}\n\n")
    write_table(
        (
            "",
            "student",
            "tier",
            "right",
            "90 %",
            "grades",
            "card",
            "echo",
            "seconds",
            "of it loading",
            "nats",
            "nats/s",
        ),
        [_row(place, one) for place, one in enumerate(told["students"], start=1)],
    )
    note(
        "right: expected share at this kind, from grades (old ones fade), the card, and else the student's and its "
        "tier's level; echo: how far a further try says the same again (1: nothing new); nats: what its reply would "
        "tell of which answer is right, the first to be asked"
    )


def _row(place: int, one: Json) -> tuple[str, ...]:
    return (
        str(place),
        one["student"],
        one["tier"],
        f"{one['reliability']:.0%}",
        f"{one['low']:.0%} to {one['high']:.0%}",
        f"{one['grades']:.1f}",
        "-" if one["card"] is None else f"{one['card']:.0%}",
        "-" if one["echo"] is None else f"{one['echo']:.2f}",
        f"{one['seconds']:.2f}",
        "in memory" if one["resident"] else f"{one['load_seconds']:.2f}",
        f"{one['information']:.2f}",
        f"{one['information_per_second']:.2f}",
    )


async def _here(config: "Config", question: str) -> Json:
    from studium.app import open_studium
    from studium.serve.choosing.why import why as explained

    async with open_studium(config) as studium:
        members = studium.ensemble.team.members()
        return asdict(explained(question, members, studium.history, studium.fleet))
