"""`studium improve`: the whole loop by itself, from a weakness to a proven champion that serves."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.errors import BadRequest

if TYPE_CHECKING:
    from studium.config import Config
    from studium.manage.improve.folder import Improvement, Wanted

Json = dict[str, Any]
STORE_FILE = "state.db"

app = typer.Typer(
    rich_markup_mode=None,
    invoke_without_command=True,
    help="Find what a role is weakest at, train it, compare, and promote what was proven better.\n\n"
    "Exit status: 0 promoted (in one turn at least, where there was time for several), 10 rolled back, 11 held, 12 not "
    "measured, 13 not trained, 14 promoted but not heard, 15 nothing weak, 130 stopped.\n\n"
    "Example: studium improve --role sprout --minutes 8",
)


@app.callback()
def improve(
    context: typer.Context,
    role: Annotated[
        str | None,
        typer.Option(
            "--role", metavar="ROLE", help="Whose weakness. Without: the weakest of all by its card."
        ),
    ] = None,
    on: Annotated[
        list[str] | None, typer.Option("--on", metavar="DOMAIN", help="Only this skill; repeatable.")
    ] = None,
    level: Annotated[
        list[int] | None,
        typer.Option("--level", metavar="N", help="Levels to teach; repeatable. Else those it gets some of."),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.5, max=10_000, help="How long it may take in all.")] = 10.0,
    once: Annotated[
        bool, typer.Option("--once", help="One turn, also where there is time for more.")
    ] = False,
    problems: Annotated[
        int, typer.Option(min=10, max=10_000, help="Fresh problems of each skill for the comparison.")
    ] = 300,
    lora: Annotated[
        bool, typer.Option("--lora/--whole", help="A low-rank adapter, or all weights of a small student.")
    ] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Else each turn has its own.")] = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="NAME", help="Go on with one that was stopped or killed."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Find what a role is weakest at, train it, compare, and promote what was proven better."""
    if context.invoked_subcommand is not None:
        return
    from studium.cli.checks import need_training_tools
    from studium.manage.improve.ending import EXIT, Ending, outcome
    from studium.manage.improve.folder import HOME, Wanted, begin, read

    need_training_tools()
    given = settings(config, workspace)
    if resume is not None:
        _check_name(resume)
        turns = [carried_out(given, config, read(given.workspace / HOME / resume))]
    else:
        chosen = _role(given, role, on or [])
        domains, levels = tuple(dict.fromkeys(on or ())), _levels(on or [], level or [])
        wanted = Wanted(chosen, domains, minutes, problems, lora=lora, seed=seed or 1, levels=levels)
        if dry_run:
            plan(wanted, as_json=json)
            return
        turns: list[Improvement] = []
        until = time.monotonic() + minutes * 60
        while True:
            began = time.monotonic()
            turn = begin(given.workspace, _fresh(wanted, given, seed, (until - began) / 60))
            turns.append(carried_out(given, config, turn))
            took = time.monotonic() - began
            if once or turns[-1].ending is not Ending.PROMOTED or until - time.monotonic() < took:
                break
    tell(turns, as_json=json)
    raise typer.Exit(EXIT[outcome([one.ending for one in turns])])


@app.command("list")
def listing(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List the improvements that were begun, and how each ended.

    Example: studium improve list
    """
    from studium.manage.improve.folder import improvements

    found = improvements(settings(None, workspace).workspace)
    if json:
        write_json([_data(one) for one in found])
        return
    if not found:
        note("nothing was improved here yet: studium improve")
        return
    write_table(
        ("name", "began", "skill", "before", "after", "minutes", "ended"),
        [
            (
                one.name,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(one.began_at)),
                *_change(one),
                f"{one.spent_s / 60:.1f}",
                one.ending or "not yet",
            )
            for one in found
        ],
    )


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="See studium improve list.")],
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show what an improvement did, step by step, what it found and the way back.

    Example: studium improve show sprout-1
    """
    from studium.manage.improve.folder import HOME, read

    _check_name(name)
    one = read(settings(None, workspace).workspace / HOME / name)
    if json:
        write_json(_data(one))
    else:
        _show(one)


@app.command("criteria")
def criteria(
    role: Annotated[str | None, typer.Option("--role", metavar="ROLE", help="Only this role.")] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show whether each role's student should be trained again, criterion by criterion.

    Example: studium improve criteria
    """
    from studium.manage.retraining import WORDS, criteria_of, due
    from studium.registry import build_roster
    from studium.store import open_store

    given = settings(config, workspace)
    roles = [_role(given, role, [])] if role else list(build_roster(given).students)
    if not (given.workspace / STORE_FILE).is_file():
        note("nobody was asked anything in this workspace yet")
        roles = []
    found = {}
    if roles:
        store = open_store(given.workspace / STORE_FILE)
        try:
            found = {name: criteria_of(given, store, name) for name in roles}
        finally:
            store.close()
    if json:
        write_json({name: {"due": due(one), "criteria": one} for name, one in found.items()})
        return
    if found:
        write_table(
            ("role", "criterion", "", "what was found"),
            [(name, one.name, WORDS[one.holds], one.says) for name, each in found.items() for one in each],
        )
        for name, each in found.items():
            if due(each):
                write(f"{name} should be trained again: studium improve --role {name}\n")
    note(f"by itself: improve.automatic is {'on' if given.improve.automatic else 'off'}")


def _role(config: "Config", role: str | None, wanted: list[str]) -> str:
    """Return whose weakness is looked for. Raises BadRequest for a role there is not."""
    from difflib import get_close_matches

    from studium.domains.catalogue import domain
    from studium.registry import build_roster
    from studium.serve.team.routing import holders_of

    for name in wanted:
        domain(name)
    students = build_roster(config).students
    holders = holders_of(students, {name: one.student for name, one in config.roles.items()})
    able = {name: one for name, one in holders.items() if not one.model.embeddings}
    if role is None:
        known = {name: _least(one.skills) for name, one in students.items() if any(one.skills.values())}
        if not known:
            raise BadRequest(
                "no student says what it can do",
                expected="--role ROLE",
                try_next=f"studium improve --role {next(iter(able), 'NAME')}",
            )
        return min(known, key=lambda name: (known[name], name))
    if role not in able:
        near = get_close_matches(role, able, n=1)
        raise BadRequest(
            f"there is no role {role[:80]!r}",
            expected=f"one of {', '.join(able)}",
            try_next=f"did you mean {near[0]!r}?" if near else "studium adapters state",
        )
    return role


def _levels(wanted: list[str], levels: list[int]) -> tuple[int, ...]:
    """Return the levels to teach. Raises BadRequest where one domain does not have them all."""
    from studium.domains.catalogue import domain

    there = domain(wanted[0]).levels if len(wanted) == 1 else ()
    if not set(levels) <= set(there):
        raise BadRequest(
            f"--level {', '.join(map(str, levels))} of {' and '.join(wanted) or 'a skill that is not named'}",
            expected=f"levels of {', '.join(map(str, there))}"
            if there
            else "one skill whose levels they are",
            try_next=f"studium domains show {wanted[0]}" if there else "--on DOMAIN, once",
        )
    return tuple(dict.fromkeys(levels))


def _least(skills: Any) -> float:
    return min(share for share in skills.values() if share > 0)


def _fresh(wanted: "Wanted", config: "Config", seed: int | None, minutes: float) -> "Wanted":
    """Return what a turn wants: what is left of the time, and a seed that no turn before it had."""
    from dataclasses import replace

    from studium.manage.improve.folder import improvements

    taken = [one.wanted.seed for one in improvements(config.workspace) if one.wanted.role == wanted.role]
    return replace(wanted, minutes=minutes, seed=max(taken, default=0) + 1 if seed is None else seed)


def carried_out(config: "Config", config_file: str | None, improvement: "Improvement") -> "Improvement":
    """Carry an improvement out, or go on with it, unless it has ended; return it. Tells what it does on stderr."""
    from studium.manage.improve.commands import Commands
    from studium.manage.improve.folder import at_work
    from studium.manage.improve.loop import Loop
    from studium.manage.improve.report import write_reports

    if improvement.ending is not None and improvement.ending.value != "stopped":
        note(f"{improvement.name} has ended: {improvement.ending}")
        return improvement
    config.workspace.mkdir(parents=True, exist_ok=True)
    with at_work(improvement):
        began = time.monotonic() - improvement.spent_s

        def say(line: str) -> None:
            note(f"[{time.monotonic() - began:4.0f} s] {line}")

        commands = Commands(config.workspace.absolute(), config_file, lambda line: note(f"         {line}"))
        Loop(improvement, commands, _trainable(config, improvement), say).run()
        write_reports(improvement)
    return improvement


def _trainable(config: "Config", improvement: "Improvement") -> str:
    """Return what serves the role now as a recipe names it: the student's name, or the champion's whole model."""
    from studium.manage.improve.champion import trainable

    return trainable(config, improvement.wanted.role)


def _check_name(name: str) -> None:
    from studium.registry.registry import check_name

    check_name("improvement", name)


def plan(wanted: "Wanted", *, as_json: bool) -> None:
    """Tell what an improvement would do."""
    from dataclasses import asdict

    from studium.manage.improve.loop import STEPS

    if as_json:
        write_json({"wanted": asdict(wanted), "steps": list(STEPS)})
        return
    what = ", ".join(wanted.domains) or "its weakest skill"
    write(f"{wanted.role}: {what}, within {wanted.minutes:g} minutes\n")
    for step, about in STEPS.items():
        write(f"  {step:10} {about}\n")


def tell(turns: list["Improvement"], *, as_json: bool) -> None:
    """Tell what became of improvements."""
    if as_json:
        write_json([_data(one) for one in turns] if len(turns) > 1 else _data(turns[-1]))
        return
    for one in turns:
        _show(one)


def _data(one: "Improvement") -> Json:
    from dataclasses import asdict

    from studium.manage.improve.ending import sentence
    from studium.manage.improve.report import way_back, way_on

    return {
        "name": one.name,
        "ending": one.ending,
        "sentence": sentence(one.ending, promoted="promote" in one.steps) if one.ending else "",
        "detail": one.detail,
        "wanted": asdict(one.wanted),
        "spent_s": round(one.spent_s, 1),
        "steps": one.steps,
        "folder": one.folder,
        "way_on": way_on(one),
        "way_back": way_back(one),
    }


def _change(one: "Improvement") -> tuple[str, str, str]:
    from studium.manage.improve.report import trained_domain

    row = trained_domain(one)
    if row is None:
        return "-", "-", "-"
    return row["domain"], f"{row['baseline']:.1%}", f"{row['tuned']:.1%}"


def _show(one: "Improvement") -> None:
    from studium.manage.improve.report import COLUMNS, headline, rows, sentences

    write(f"{headline(one)}\n\n")
    write("".join(f"  {line}\n" for line in sentences(one)))
    if table := rows(one):
        write("\n")
        write_table(COLUMNS, table)
    note(f"report: {one.folder / 'report.html'}")
