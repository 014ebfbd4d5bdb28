"""`studium train watch`, `why` and `report`: a run seen from its files, while it works and afterwards."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import JsonOption, WorkspaceOption
from studium.cli.output import note, write, write_json
from studium.cli.train_folders import RunName, the_run
from studium.errors import StudiumError

if TYPE_CHECKING:
    from studium.train.run_folder import RunFolder

LOOK_S = 1.0
_SHOWN_EVENTS = 5
_NO_METRICS = ("step", "seconds", "validation")


def register(app: typer.Typer) -> None:
    """Add the commands to `studium train`."""
    app.command("watch")(watch)
    app.command("why")(why)
    app.command("report")(report)


def watch(
    name: RunName,
    once: Annotated[bool, typer.Option("--once", help="Say it once instead of until the run ends.")] = False,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show how a run stands, again whenever it has moved on. Reads its files only.

    Example: studium train watch sft-sorting --once
    """
    folder = the_run(name, workspace)
    shown: tuple[object, ...] = ()
    while True:
        status = folder.status()
        if (now := (status.state, status.step, status.message)) != shown:
            shown = now
            view = _view(folder)
            if json:
                write_json(view)
            else:
                _show(view)
        if once or not status.at_work:
            return
        time.sleep(LOOK_S)


def _view(folder: "RunFolder") -> dict[str, Any]:
    status = folder.status()
    lines = list(folder.lines("metrics.jsonl"))
    steps = [line for line in lines if "validation" not in line]
    validations = [{"step": line["step"], **line["validation"]} for line in lines if "validation" in line]
    return {
        "run": folder.path.name,
        "stage": folder.told().get("stage", ""),
        "state": status.state,
        "step": status.step,
        "steps": status.steps,
        "seconds": round(status.seconds, 1),
        "eta_s": None if status.eta_s is None else round(status.eta_s, 1),
        "message": status.message,
        "metrics": {k: v for k, v in steps[-1].items() if k not in _NO_METRICS} if steps else {},
        "validations": validations,
        "events": list(folder.lines("events.jsonl"))[-_SHOWN_EVENTS:],
        "folder": str(folder.path),
    }


def _show(view: Mapping[str, Any]) -> None:
    left = (
        "" if view["eta_s"] is None or view["state"] != "running" else f", about {view['eta_s']:.0f} s left"
    )
    steps = f", step {view['step']}/{view['steps']}" if view["steps"] else ""
    stage = f" ({view['stage']})" if view["stage"] else ""
    write(f"{view['run']}{stage}: {view['state']}{steps}, {view['seconds']:.0f} s{left}\n")
    if view["message"]:
        write(f"  {view['message']}\n")
    if view["metrics"]:
        write("  " + "  ".join(f"{name} {_number(value)}" for name, value in view["metrics"].items()) + "\n")
    for scored in ("score", "steps_right", "second_verifier"):
        values = [one for one in view["validations"][-8:] if scored in one]
        if values:
            shown = "  ".join(f"{one['step']}: {_number(one[scored], '.3f')}" for one in values)
            write(f"  {scored} at step  {shown}\n")
    for event in view["events"]:
        write(f"  {_event(event)}\n")


def _number(value: float | None, form: str = ".4g") -> str:
    """Return a measured number for people. What was not finite is null in a run's files: JSON has no word for it."""
    return "not finite" if value is None else format(value, form)


def _event(event: Mapping[str, Any]) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(event["at"])) if "at" in event else ""
    said = event.get("advice") or event.get("why") or ""
    action = f" ({event['action']})" if "action" in event else ""
    step = f" step {event['step']}" if "step" in event else ""
    return f"{at}{step} {event['kind']}: {said}{action}".rstrip(": ")


def why(
    name: RunName,
    step: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The step; else the highest spike.")
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="So many rows are shown.")] = 5,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Name the rows behind a spike, those first whose loss is furthest above what it mostly is, with their text.

    Example: studium train why sft-sorting --step 120
    """
    from studium.train.spikes import spikes, suspects

    folder = the_run(name, workspace)
    highest = spikes(folder)
    if step is None and not highest:
        write(f"{name}: no step stands out; --step N shows the rows of any\n")
        return
    chosen = step or highest[0].step
    texts = _texts(folder)
    found = [
        {"row": one.row_id, "loss": one.loss, "usual": one.usual, **texts.get(one.row_id, {})}
        for one in suspects(folder, chosen)[:rows]
    ]
    if json:
        write_json({"run": name, "step": chosen, "spikes": highest, "rows": found})
        return
    for one in highest:
        mark = "*" if one.step == chosen else " "
        usual = "" if one.usual is None else f", usually {one.usual:.4g}"
        write(f"{mark} step {one.step}: {one.metric} {_number(one.value)}{usual}\n")
    write(f"rows of step {chosen}:\n")
    for one in found:
        usual = "no other to compare with" if one["usual"] is None else f"usually {one['usual']:.4g}"
        write(f"{_number(one['loss']):>10}  {one['row']}  ({usual})\n")
        if "prompt" in one:
            write(f"{'':12}{one['source']}: {one['prompt'][:200]!r} -> {one['reply'][:200]!r}\n")


def _texts(folder: "RunFolder") -> dict[str, dict[str, str]]:
    """Return the run's rows as text by id, made or read again from its recipe."""
    from studium.train.data import rows_of
    from studium.train.recipe_file import FILE_NAME, read_told
    from studium.train.stage_rows import stage_rows

    stage = str(folder.told().get("stage", ""))
    recipe = read_told(folder.path / FILE_NAME, stage).recipe
    try:
        rows = [*stage_rows(stage, recipe), *rows_of(recipe.replay.data)]
    except StudiumError as error:
        note(f"the rows' text cannot be shown: {error.happened}")
        return {}
    return {
        row.id: {
            "prompt": row.messages[-1].content,
            "reply": row.prefix + (row.completion or "(drawn)"),
            "source": row.source,
        }
        for row in rows
    }


def report(name: RunName, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Write a run's report.md with its curves, and say where.

    Example: studium train report sft-sorting
    """
    from studium.train.report import write_report

    path = write_report(the_run(name, workspace))
    if json:
        write_json({"run": name, "report": path, "curves": sorted(path.parent.glob("*.svg"))})
    else:
        write(f"{path}\n")
