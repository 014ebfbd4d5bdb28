"""`studium train`: a stage of training from its recipe, in a process of its own, and the runs there have been.

A run gives way to questions: its process ends when somebody needs the memory and goes on from where it was (see
`fleet.borrow`). Exit status: 0 done, 130 stopped, 8 stopped by a watcher, else as everywhere.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studium.cli import train_check, train_pairs, train_rehearse, train_watch
from studium.cli.options import JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.cli.train_folders import RunName, runs_of, the_run
from studium.errors import BadRequest, ConfigurationError
from studium.train.stages.catalogue import STAGES

if TYPE_CHECKING:
    from studium.train.forecast import Forecast
    from studium.train.recipe_file import Told
    from studium.train.run_folder import RunFolder

RecipeOption = Annotated[Path, typer.Option("--config", metavar="FILE", help="The recipe (see recipes/).")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="In place of the recipe's value; may be repeated."),
]
ShapeOption = Annotated[
    Path | None,
    typer.Option(
        "--shape", metavar="FILE", help="A config.json, for a forecast where the model is not here."
    ),
]
AtOption = Annotated[
    str | None,
    typer.Option("--at", metavar="URL", help="Another Studium that trains, such as http://box:8377."),
]
_ABOUT = {
    "sft": "Learn replies: supervised fine-tuning.",
    "weighted_sft": "Learn an expert's steps, each weighed by how well it is known.",
    "srl": "Learn an expert's steps from likeness to them (SRL).",
    "rlvr": "Learn from verified rewards: GRPO, or PPO.",
    "dpo": "Learn from pairs of replies: direct preference optimisation.",
    "kto": "Learn from replies that were liked or not, unpaired.",
    "distil": "Learn from a teacher's replies.",
}

app = typer.Typer(
    help="Train a student from a recipe, and look at training runs.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


def _stage_command(stage: str) -> Callable[..., None]:
    def train(
        config: RecipeOption,
        name: Annotated[
            str | None, typer.Option(metavar="NAME", help="The run's name; else the recipe's.")
        ] = None,
        sets: SetOption = None,
        shape: ShapeOption = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only say what memory and time it will take.")
        ] = False,
        at: AtOption = None,
        workspace: WorkspaceOption = None,
        json: JsonOption = False,
    ) -> None:
        from studium.cli.checks import need_training_tools
        from studium.train.recipe_file import read_told

        if at is None:
            need_training_tools()
        told = read_told(config, stage, [*(sets or ()), *([f"name={name}"] if name else ())])
        if at is not None:
            raise typer.Exit(_elsewhere(told, at, workspace, dry_run=dry_run, json=json))
        runs = settings(None, workspace).workspace / "runs"
        forecast = _foreseen(told, runs, shape, quiet=json and not dry_run)
        if dry_run:
            if json:
                write_json(forecast.data())
            return
        from studium.train.run_folder import RunFolder

        raise typer.Exit(_run(told, RunFolder(runs / told.recipe.name), forecast, json=json))

    train.__doc__ = f"{_ABOUT[stage]}\n\nExample: studium train {stage} --config recipes/{stage}.yaml"
    return train


for _stage in STAGES:
    app.command(_stage)(_stage_command(_stage))


def _elsewhere(told: "Told", at: str, workspace: str | None, *, dry_run: bool, json: bool) -> int:
    """Have another Studium train, bring the run home and say how it ended; return the exit status."""
    from studium.cli.train_at import train_there
    from studium.manage.box import Box
    from studium.train.run_folder import RunFolder

    home = settings(None, workspace).workspace
    status = train_there(told, Box(at, note), home, dry_run=dry_run, json=json)
    folder = RunFolder(home / "runs" / told.recipe.name)
    return _tell(folder, told.stage, status, json=json) if status == 0 and not dry_run else status


def _foreseen(told: "Told", runs: Path, shape: Path | None, *, quiet: bool) -> "Forecast":
    from studium.train.forecast import foresee

    forecast = foresee(told, runs_of(runs), str(shape) if shape else told.recipe.model)
    if not quiet:
        for line in forecast.lines():
            note(line)
    return forecast


def _run(told: "Told", folder: "RunFolder", forecast: "Forecast", *, json: bool) -> int:
    """Run a stage under a lease and say how it ended; return the exit status."""
    from studium.fleet.leased_command import run_leased
    from studium.train.recipe_file import is_told, write_told
    from studium.train.run_folder import State

    if folder.told() and not is_told(told, folder.path):
        raise ConfigurationError(
            f"there is a run {folder.path.name} of another recipe",
            expected="a new name for a new run, or the same recipe to go on",
            try_next=f"--name NAME, or remove {folder.path}",
        )
    if folder.status().state is State.DONE and folder.checkpoint.exists():
        note(f"the run {folder.path.name} is done already; --name NAME makes another")
        return _tell(folder, told.stage, 0, json=json)
    _must_be_free(folder)
    write_told(told, folder.path)
    command = [sys.executable, "-m", "studium.train", told.stage, str(folder.path)]
    workspace = folder.path.parent.parent
    status = run_leased(
        workspace,
        f"train-{folder.path.name}",
        command,
        forecast.memory_bytes,
        tell=lambda line: note(f"lease: {line}"),
        on_gpu=forecast.on_gpu,
        or_main_memory=True,
    )
    return _tell(folder, told.stage, status, json=json)


def _must_be_free(folder: "RunFolder") -> None:
    """Raise BadRequest where a process is at the run: a second one would wait for it, and fail."""
    status = folder.status()
    if status.at_work:
        raise BadRequest(
            f"the run {folder.path.name} is at work in process {status.process}",
            expected="a run that was stopped, or another name",
            try_next=f"studium train watch {folder.path.name}",
        )


def _tell(folder: "RunFolder", stage: str, exit_status: int, *, json: bool) -> int:
    """Say how a run stands and what can be done next."""
    status = folder.status()
    following = list(_next(folder, stage))
    if json:
        write_json(
            {
                "run": folder.path.name,
                "stage": stage,
                "folder": folder.path,
                **_fields(status),
                "next": following,
            }
        )
        return exit_status
    note(
        f"{folder.path.name}: {status.state} after {status.step} of {status.steps} steps, {status.seconds:.0f} s"
    )
    if status.message:
        note(f"  {status.message}")
    for line in following:
        write(f"{line}\n")
    return exit_status


def _next(folder: "RunFolder", stage: str) -> Iterator[str]:
    """Yield the commands that may come next, with real paths."""
    from studium.train.run_folder import State

    name, status = folder.path.name, folder.status()
    if status.state is State.DONE:
        recipe = folder.told().get("recipe", {})
        sources = [*recipe.get("data", ()), *recipe.get("validation", {}).get("data", ())]
        domains = dict.fromkeys(source["domain"] for source in sources if source.get("domain"))
        asked = "".join(f" --domain {one}" for one in domains) or " --suite core"
        yield f"studium eval run --model {folder.path}{asked}"
        if (gguf := folder.checkpoint / "model.gguf").exists():
            yield f"studium up --config {_serving(folder, gguf)}"
        yield f"studium train report {name}"
    elif status.at_work:
        yield f"studium train watch {name}"
    elif not folder.told():
        yield f"studium train check --config {folder.path / 'recipe.yaml'} --stage {stage}"
    else:
        if status.state is State.HALTED:
            yield f"studium train why {name}"
        yield f"studium train resume {name}"


def _serving(folder: "RunFolder", gguf: Path) -> Path:
    """Write a configuration that serves a run's model; return where."""
    import yaml

    name = folder.path.name
    served = {
        "workspace": str(folder.path.parent.parent),
        "models": [{"name": name, "engine": "llamacpp", "source": str(gguf)}],
        "students": [{"name": name}],
    }
    path = folder.path / "studium.yaml"
    path.write_text(yaml.safe_dump(served, sort_keys=False))
    return path


def _fields(status: object) -> dict[str, object]:
    from dataclasses import asdict

    found = asdict(status)  # pyright: ignore[reportArgumentType]
    return {key: found[key] for key in ("state", "step", "steps", "seconds", "eta_s", "message")}


@app.command("list")
def list_runs(workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """List training runs, the latest first.

    Example: studium train list
    """
    runs = sorted(runs_of(settings(None, workspace).workspace / "runs"), key=lambda one: -one.status().at)
    if json:
        write_json(
            [
                {"run": one.path.name, "stage": one.told().get("stage", ""), **_fields(one.status())}
                for one in runs
            ]
        )
        return
    if not runs:
        note("no runs yet: studium train sft --config recipes/sft.yaml")
        return
    write_table(
        ("run", "stage", "state", "step", "s", "score", "folder"),
        [
            (
                one.path.name,
                one.told().get("stage", ""),
                status.state,
                f"{status.step}/{status.steps}",
                f"{status.seconds:.0f}",
                _score(one),
                str(one.path),
            )
            for one in runs
            for status in [one.status()]
        ],
    )


def _score(folder: "RunFolder") -> str:
    scores = [line["validation"]["score"] for line in folder.lines("metrics.jsonl") if "validation" in line]
    # What is not finite is kept as null.
    known = [score for score in scores if score is not None]
    return f"{max(known):.3f}" if known else "-"


@app.command("stop")
def stop(
    name: RunName, at: AtOption = None, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """Ask a run to stop after the step at work, or before its first one; it can be resumed.

    Example: studium train stop sft-sorting
    """
    if at is not None:
        from studium.manage.box import Box
        from studium.train.run_folder import RunFolder

        job = Box(at, note).post(f"/api/jobs/train-{RunFolder(Path(name)).path.name}/stop", {})
        note(f"{name} is {job['state']} at {at}; the same train command goes on with it")
        if json:
            write_json(job)
        return
    folder = the_run(name, workspace)
    if not folder.status().at_work:
        raise BadRequest(
            f"the run {name} is not running: it is {folder.status().state}",
            expected="a run that is at work",
            try_next="studium train list",
        )
    folder.ask_to_stop()
    if json:
        write_json({"run": name, "asked_to_stop": True})
    else:
        note(f"{name} stops after its step; studium train resume {name} goes on")


@app.command("resume")
def resume(name: RunName, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Go on with a run that was stopped or killed, from its last saved state, exactly.

    Example: studium train resume sft-sorting
    """
    from studium.cli.checks import need_training_tools
    from studium.train.recipe_file import FILE_NAME, read_told

    need_training_tools()
    folder = the_run(name, workspace)
    _must_be_free(folder)
    stage = str(folder.told().get("stage", ""))
    if not stage:
        raise BadRequest(
            f"the run {name} never began",
            expected="a run with a first step",
            try_next=f"see {folder.path / 'log.txt'}",
        )
    told = read_told(folder.path / FILE_NAME, stage)
    forecast = _foreseen(told, folder.path.parent, None, quiet=json)
    raise typer.Exit(_run(told, folder, forecast, json=json))


train_check.register(app)
train_watch.register(app)
train_pairs.register(app)
train_rehearse.register(app)
