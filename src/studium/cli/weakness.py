"""`studium weakness`: where a model fails, how that changed, and the data that would help."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.errors import BadRequest

if TYPE_CHECKING:
    from studium.config import Config
    from studium.evals.weakness import Seen, Weakness

Json = dict[str, Any]
_HEAD = """# What {model} gets wrong, as training data (studium weakness --recipe)
#   studium train check --config FILE --stage sft
"""


def weakness(
    model: Annotated[str, typer.Option(metavar="NAME", help="Only of this student or model.")] = "",
    role: Annotated[
        str,
        typer.Option(metavar="ROLE", help="Only of this role, its adapters taken together with its student."),
    ] = "",
    domain: Annotated[
        list[str] | None, typer.Option("--domain", metavar="NAME", help="Only of it; repeatable.")
    ] = None,
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, help="So many clusters at most.")] = 10,
    least: Annotated[
        int, typer.Option(metavar="N", min=1, help="Clusters of fewer questions are left out.")
    ] = 5,
    recipe: Annotated[
        bool, typer.Option("--recipe", help="Only a recipe for studium train sft, as YAML.")
    ] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show clusters of failures, from evaluations, comparisons and graded answers, with what to train on.

    Example: studium weakness --model sprout --recipe > sums.yaml
    """
    from studium.evals.weakness import COLUMNS, data_request, table, weaknesses

    given = settings(config, workspace)
    seen = _chosen(_seen(given), model, role, domain or [])
    model = role or model
    if not seen:
        raise BadRequest(
            f"nothing graded{f' of {model}' if model else ''} was found in {given.workspace}",
            expected="an evaluation, a comparison, or answers that were graded",
            try_next=f"studium eval run --model {model or 'sprout'}",
        )
    weak = weaknesses(seen, least=least)[:most]
    if recipe:
        write(_recipe(model, seen, weak))
        return
    if json:
        write_json(
            {"weaknesses": [_row(one) for one in weak], "data": data_request(weak), "replies": len(seen)}
        )
        return
    write_table(COLUMNS, table(weak))
    for one in weak:
        _show(one)
    note("a recipe of it: studium weakness --model NAME --recipe")


def _seen(config: "Config") -> "list[Seen]":
    from studium.evals.weakness import Seen, of_evaluations
    from studium.store import open_store

    found = of_evaluations(config.workspace)
    path = config.workspace / "state.db"
    if not path.is_file():
        return found
    store = open_store(path)
    try:
        graded = store.answers.graded()
    finally:
        store.close()
    return found + [
        Seen(one.at, one.student, one.domain or one.kind, None, one.question, one.reply, "", one.score)
        for one in graded
    ]


def _chosen(seen: "list[Seen]", model: str, role: str, domains: list[str]) -> "list[Seen]":
    """Return the replies that count; of a role, those of its student and of its adapters (ROLE/NAME) as one's."""
    found = [one for one in seen if not domains or one.domain in domains]
    if role:
        return [replace(one, model=role) for one in found if one.model.partition("/")[0] == role]
    return [one for one in found if not model or one.model == model]


def _recipe(model: str, seen: "list[Seen]", weak: "list[Weakness]") -> str:
    import yaml

    from studium.evals.weakness import data_request, strong

    data = data_request(weak)
    if not model or not data:
        raise BadRequest(
            "a recipe needs one model or role with a weakness in a domain that makes problems",
            expected="--model NAME" if not model else "failures in a domain",
            try_next="studium weakness shows all there are; studium domains list the domains",
        )
    asked = {(one["domain"], level) for one in data for level in one.get("levels", [None])}
    kept = [one for one in strong(seen) if (one["domain"], one["levels"][0]) not in asked]
    told: Json = {
        "model": model.partition("/")[0],
        "name": f"{model.partition('/')[0]}-weakness",
        "data": data,
    }
    if kept:
        told["replay"] = {"share": 0.3, "data": kept}
    validated = [{"domain": one["domain"], "levels": list(one.get("levels", []))} for one in data]
    told["validation"] = {"every_steps": 50, "problems": 100, "data": validated}
    return _HEAD.format(model=model) + yaml.safe_dump(told, sort_keys=False, default_flow_style=None)


def _row(one: "Weakness") -> Json:
    from studium.evals.weakness import data_request

    row = asdict(one) | {"share": one.share._asdict(), "change": one.change and one.change._asdict()}
    spans = {
        name: value and value._asdict()
        for name in ("now", "before", "lately")
        for value in [getattr(one, name)]
    }
    return row | spans | {"data": data_request([one])}


def _show(one: "Weakness") -> None:
    import yaml

    from studium.evals.weakness import data_request

    level = f", level {one.level}" if one.level else ""
    write(f"\n{one.model}: {one.domain}{level}, {one.kind}\n")
    for example in one.examples:
        write(f"  asked {_short(example.question)}\n  said  {_short(example.reply)}\n")
        write(f"  right {_short(example.expected)}\n" if example.expected else "")
    data = data_request([one])
    flow = (
        yaml.safe_dump(data[0], default_flow_style=True, sort_keys=False, width=200).strip() if data else ""
    )
    write(
        f"  data: [{flow}]\n"
        if data
        else "  no domain makes such questions: give rows of your own in a file\n"
    )


def _short(text: str) -> str:
    plain = " / ".join(text.split("\n")).strip()
    return plain if len(plain) <= 100 else plain[:97] + "..."
