"""`studium domains`: the kinds of task there are, and junk put to what checks their answers."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import JsonOption
from studium.cli.output import note, write, write_json, write_table

if TYPE_CHECKING:
    from studium.domains.protocol import Domain
    from studium.domains.stress import Stress

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Kinds of task: what they are measured by, and how their checks stand up to junk.\n\n"
    "Example: studium domains stress sentiment",
)
Json = dict[str, Any]
BROKEN = 1
"""The exit status where a domain gives junk a score."""


@app.command("list")
def list_domains(json: JsonOption = False) -> None:
    """List the domains, those that installed packages add among them.

    Example: studium domains list
    """
    from studium.domains.catalogue import all_domains, shipped_domains

    shipped = shipped_domains()
    rows = [_about(domain, domain.name in shipped) for domain in all_domains().values()]
    if json:
        write_json(rows)
        return
    columns = ("name", "levels", "from", "own rows", "steps", "metrics")
    write_table(columns, [_cells(row) for row in rows])
    note("how a domain stands up to junk: studium domains stress NAME")


@app.command("show")
def show(name: Annotated[str, typer.Argument(metavar="NAME")], json: JsonOption = False) -> None:
    """Show a domain: its rules, a problem of each level with its solution, and the form of your own rows.

    Example: studium domains show moderation
    """
    from random import Random

    from studium.domains.catalogue import domain as domain_named
    from studium.domains.catalogue import shipped_domains

    domain = domain_named(name)
    problems = [domain.make(Random(1), level) for level in domain.levels]
    told = _about(domain, name in shipped_domains()) | {
        "rules": {rule.name: rule.text for rule in domain.rules},
        "examples": [
            {"level": one.level, "prompt": one.prompt, "solution": domain.solution(one)} for one in problems
        ],
        "schema": getattr(domain, "schema", None),
    }
    if json:
        write_json(told)
        return
    write_table(("rule", "says"), list(told["rules"].items()))
    for one in told["examples"]:
        write(f"\nlevel {one['level']}: {one['prompt']}\n{one['solution']}\n")
    if told["schema"]:
        import orjson

        write(f"\na row of your own file: {orjson.dumps(told['schema']).decode()}\n")


@app.command("stress")
def stress(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A domain, also one a package adds.")],
    problems: Annotated[int, typer.Option(min=1, max=1000, help="Problems of each level.")] = 12,
    seed: Annotated[int, typer.Option(help="Another seed draws other problems.")] = 0,
    json: JsonOption = False,
) -> None:
    """Put junk to a domain's verify: what gets a score without solving anything would be learnt from it.

    Ends with status 1 where an attack gets more than it may. A domain that a package adds is used for training and
    evaluation only while it holds.

    Example: studium domains stress arithmetic
    """
    from studium.domains.catalogue import domain as domain_named
    from studium.domains.stress import stress as put_junk

    found = put_junk(domain_named(name), per_level=problems, seed=seed)
    if json:
        write_json(_told(found))
    else:
        columns = ("attack", "tried", "may get", "got more", "example")
        rows = [
            (row.attack, str(row.tried), f"{row.most:g}", _share(row.fooled, row.tried), row.example)
            for row in found.rows
        ]
        write_table(columns, rows)
        verdict = "holds" if found.holds else f"is fooled by {', '.join(row.attack for row in found.broken)}"
        write(f"{name} {verdict} ({found.problems} problems)\n")
    if not found.holds:
        raise typer.Exit(BROKEN)


def _about(domain: "Domain", ships: bool) -> Json:
    from studium.domains.protocol import ReadsRows, VerifiesSteps, metrics_of

    return {
        "name": domain.name,
        "levels": list(domain.levels),
        "ships": ships,
        "metrics": list(metrics_of(domain)),
        "reads_rows": isinstance(domain, ReadsRows),
        "verifies_steps": isinstance(domain, VerifiesSteps),
    }


def _cells(row: Json) -> tuple[str, ...]:
    return (
        row["name"],
        ", ".join(map(str, row["levels"])),
        "Studium" if row["ships"] else "a package",
        "yes" if row["reads_rows"] else "no",
        "verified" if row["verifies_steps"] else "-",
        ", ".join(row["metrics"]),
    )


def _told(found: "Stress") -> Json:
    rows = [row._asdict() | {"holds": row.holds} for row in found.rows]
    return {"domain": found.domain, "problems": found.problems, "holds": found.holds, "attacks": rows}


def _share(fooled: int, tried: int) -> str:
    return f"{fooled} ({fooled / tried:.0%})" if fooled else "0"
