"""`studium ask`: one question, here or at a running Studium, and on request how the answer came about.

Where a Studium already serves the workspace it is asked, so that two do not compete for the same memory.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.failures import EXIT_NO_ANSWER
from studium.cli.options import ConfigOption, JsonOption, MemoryBudgetOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.cli.running import running_server
from studium.errors import BadRequest

if TYPE_CHECKING:
    from studium.config import Config
    from studium.records.answers import Query

Json = dict[str, Any]
COMPLEXITIES = ("simple", "medium", "complex", "expert")
STRATEGIES = ("single", "committee", "cascade", "debate", "clone_dispatch", "everyone")


def ask(
    question: Annotated[str, typer.Argument(help="The question, in quotes; - reads it from stdin.")],
    explain: Annotated[bool, typer.Option("--explain", help="Show who said what, and what it cost.")] = False,
    complexity: Annotated[
        str | None, typer.Option(metavar="|".join(COMPLEXITIES), help="How much it deserves.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"How students are asked: {', '.join(STRATEGIES)}.")
    ] = None,
    student: Annotated[
        list[str] | None, typer.Option("--student", metavar="NAME", help="Ask this one; may be repeated.")
    ] = None,
    domain: Annotated[str | None, typer.Option(metavar="NAME", help="What kind of task it is.")] = None,
    refine: Annotated[
        bool | None, typer.Option("--refine/--no-refine", help="Have the oracle look at it, or not.")
    ] = None,
    cache: Annotated[
        bool | None, typer.Option("--cache/--no-cache", help="Keep and reuse the answer, or make it anew.")
    ] = None,
    session: Annotated[str | None, typer.Option(metavar="NAME", help="Whose spending it counts as.")] = None,
    stream: Annotated[
        bool | None, typer.Option("--stream/--no-stream", help="Show words as they come (on a terminal).")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Ask the Studium at this address.")] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    memory_budget: MemoryBudgetOption = None,
    json: JsonOption = False,
) -> None:
    """Put one question to the students. Exit status 6: asked, but nobody had an answer.

    Example: studium ask "What is 47 + 58?" --explain
    """
    body: Json = {
        "question": sys.stdin.read() if question == "-" else question,
        "complexity": _checked(complexity),
        "strategy": strategy,
        "students": student or None,
        "domain": domain,
        "refine": refine,
        "cache": cache,
        "session": session,
    }
    live = not json and (sys.stdout.isatty() if stream is None else stream)
    if url is None and config is None and memory_budget is None:
        url = running_server(settings(config, workspace).workspace)
    if url is not None:
        events = _there(url, body, explain=explain)
        answer = _follow(events, live=live)
    else:
        answer = asyncio.run(_here(settings(config, workspace, memory_budget), body, live=live))
    _present(answer, explain=explain, as_json=json, told=live)
    if answer["status"] == "unable":
        raise typer.Exit(EXIT_NO_ANSWER)


def _checked(complexity: str | None) -> str | None:
    if complexity in (None, *COMPLEXITIES):
        return complexity
    raise BadRequest(
        f"there is no complexity {complexity!r}",
        expected=f"one of {', '.join(COMPLEXITIES)}",
        try_next='studium ask "..." --complexity simple',
    )


async def _here(config: "Config", body: Json, *, live: bool) -> Json:
    """Open the workspace, ask, and return the answer as plain data."""
    from studium.app import open_studium
    from studium.records.answers import Answer, Delta, Progress
    from studium.serve.report import whole

    answer: Json = {}
    async with open_studium(config) as studium, aclosing(studium.ensemble.stream(_query(body))) as events:
        async for event in events:
            if isinstance(event, Answer):
                answer = whole(event, request_id=event.request_id, explain=True)
            elif live and isinstance(event, Delta):
                write(event.text)
            elif live and isinstance(event, Progress):
                _tell(event.text)
    return answer


def _query(body: Json) -> "Query":
    from studium.records.answers import Complexity, Query
    from studium.records.messages import Message

    return Query(
        messages=(Message("user", body["question"]),),
        complexity=Complexity(body["complexity"]) if body["complexity"] else None,
        strategy=body["strategy"],
        students=tuple(body["students"] or ()),
        domain=body["domain"],
        refine=body["refine"],
        cache=body["cache"],
        session=body["session"] or "",
    )


def _there(url: str, body: Json, *, explain: bool) -> Iterator[Json]:
    from studium.cli.running import post_lines

    given = {key: value for key, value in body.items() if value is not None}
    return post_lines(url, "/api/ask", given | {"stream": True, "explain": explain})


def _follow(events: Iterator[Json], *, live: bool) -> Json:
    """Pass on what a server sends and return its last word."""
    from studium.errors import EngineDied

    for event in events:
        if event["kind"] == "answer":
            return {key: value for key, value in event.items() if key != "kind"}
        if live and event["kind"] == "delta":
            write(event["text"])
        elif live and event["kind"] == "progress":
            _tell(event["text"])
    raise EngineDied(
        "the server ended its answer in the middle",
        expected="a last line with the whole answer",
        try_next="ask again; if it happens again, look at the server's log",
    )


def _tell(text: str) -> None:
    """Say what goes on, if somebody watches."""
    if sys.stderr.isatty():
        note(text)


def _present(answer: Json, *, explain: bool, as_json: bool, told: bool) -> None:
    if as_json:
        write_json(answer)
        return
    write("\n" if told else answer["text"].rstrip("\n") + "\n")
    if answer["status"] == "partial":
        note(_why_partial(answer))
    if explain:
        _explain(answer)


def _why_partial(answer: Json) -> str:
    parts = answer["notes"].get("clone_dispatch", {}).get("parts", ())
    if silent := sum(part["fate"] != "answered" for part in parts):
        return f"{silent} of {len(parts)} parts of the question were not answered"
    return "not settled: time was up, or no reply could be read; this is the best there was"


def _explain(answer: Json) -> None:
    members = answer["members"]
    roles = any(member["part"] != "member" or member["sample"] for member in members)
    write("\n")
    if members:
        write_table(
            ("student", *(("part",) if roles else ()), "fate", "answer", "sure", "seconds", "tokens", "said"),
            [_member_row(member, chosen=answer["chosen_model"], roles=roles) for member in members],
        )
    write(
        f"\n{answer['strategy']}, {answer['complexity']}: agreement {answer['agreement']:.0%}, "
        f"confidence {answer['confidence']:.0%}, {answer['seconds']:.2f} s, "
        f"{answer['calls_saved']} calls saved\n"
    )
    _explain_decision(answer)
    if (kept := answer["notes"].get("cache", {})) and kept["hit"]:
        alike = f", which means the same ({kept['similarity']:.3f})" if kept["hit"] == "meaning" else ""
        write(
            f"given again: nobody was asked now; {', '.join(kept['asked'])} answered {kept['age_s']:.0f} s ago{alike}\n"
        )
    for move in answer["moves"]:
        size = f", {move['bytes'] / 2**20:,.0f} MiB" if move["bytes"] else ""
        reason = f" ({move['reason']})" if move["reason"] else ""
        write(f"{move['kind']} {move['model']}: {move['seconds']:.2f} s{size}{reason}\n")
    rated = kept.get("of") or answer["request_id"]
    write(f'right or wrong? studium feedback {rated} good|bad|"the right answer"\n')


def _explain_decision(answer: Json) -> None:
    """Say why this way was taken, what else was weighed, and what a judge or a debate came to."""
    decision = answer["decision"]
    if decision is not None:
        write(f"why {decision['strategy']}: {decision['reason']}\n")
        if ways := [_way_row(way, taken=decision["strategy"]) for way in decision["considered"]]:
            write("\n")
            write_table(("way", "worth", "right", "seconds", "why or why not"), ways)
            write("\n")
    if answer["flags"]:
        write(f"flags: {', '.join(answer['flags'])}\n")
    notes = answer["notes"]
    if debate := notes.get("debate"):
        moved = ", ".join(debate["moved"]) or "nobody"
        write(f"debate: {debate['rounds']} rounds, {moved} moved, ended because: {debate['ended']}\n")
    if cascade := notes.get("cascade"):
        write(f"cascade: {cascade['ended']}\n")
    if judged := notes.get("judge"):
        told = "one is best" if judged["decided"] else "cannot tell"
        write(f"judge {judged['judge']}: {judged['pairs']} pairs, {judged['cannot_tell']} not told; {told}\n")
        for key in ("agreements", "differences"):
            for line in judged.get(key, ()):
                write(f"  {key[:-1]}: {line}\n")


def _way_row(way: Json, *, taken: str) -> tuple[str, ...]:
    return (
        way["strategy"] + (" *" if way["strategy"] == taken else ""),
        "by form" if way["by_form"] else "-" if way["value"] is None else f"{way['value']:.3f}",
        "-" if way["accuracy"] is None else f"{way['accuracy']:.0%}",
        "-" if way["seconds"] is None else f"{way['seconds']:.2f}",
        way["why"],
    )


def _member_row(member: Json, *, chosen: str, roles: bool) -> tuple[str, ...]:
    said = member.get("error") or " ".join(member.get("text", "").split())
    return (
        member["student"] + (" *" if member["student"] == chosen else ""),
        *((_role(member),) if roles else ()),
        member["fate"].replace("_", " "),
        member["answer"] or "-",
        "-" if member["confidence"] is None else f"{member['confidence']:.0%}",
        f"{member['seconds']:.2f}",
        str(member["completion_tokens"]),
        said if len(said) <= 160 else said[:157] + "...",
    )


def _role(member: Json) -> str:
    part = member["part"].replace("_", " ")
    return f"{part}, try {member['sample'] + 1}" if member["sample"] else part
