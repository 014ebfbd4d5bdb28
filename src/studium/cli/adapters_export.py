"""`studium adapters export`: what was trained here, in the form another program reads, checked by loading it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json
from studium.errors import BadRequest
from studium.records.adapters import STUDENT

if TYPE_CHECKING:
    from studium.config import Config
    from studium.train.exporting.modelfile import Manner
    from studium.train.exporting.trained import Trained

ADAPTERS, RUNS, EXPORTS, META = "adapters", "runs", "exports", "adapter_meta.json"
TargetName = Literal["ollama", "gguf", "vllm", "hf"]


def register(app: typer.Typer) -> None:
    """Add the command to the group of adapters."""
    app.command("export")(export)


def export(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="An adapter (NAME or ROLE/NAME), a training run, or a folder."),
    ],
    to: Annotated[TargetName, typer.Option("--to", help="Which program is to read it.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Else exports/ in the workspace.")
    ] = None,
    merged: Annotated[
        bool | None,
        typer.Option(
            "--merged/--adapter-only", help="One model, or the adapter beside its base; merged unless told."
        ),
    ] = None,
    precision: Annotated[
        Literal["F16", "F32"], typer.Option("--precision", help="Of a merged GGUF file.")
    ] = "F16",
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="A system prompt, else the student's.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write an earlier export again.")] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Write what was trained for another program, load it there, and compare its replies.

    Greedy replies to a few frozen problems and their log-probabilities must be those of the trained model, or nothing
    is kept. What could not be loaded here is said.

    Example: studium adapters export champion_v1 --to ollama --adapter-only
    """
    from studium.cli.checks import need_training_tools

    need_training_tools()
    resolved = settings(config, workspace)
    folder = folder_of(name, resolved.workspace)
    from studium.train.surroundings import quiet

    quiet()
    from studium.registry import build_roster
    from studium.train.exporting.carry_out import export as carried_out
    from studium.train.exporting.trained import trained_in
    from studium.train.exporting.writing import Form, Target

    sources = {name: model.source for name, model in build_roster(resolved).models.items()}
    trained = trained_in(folder, sources)
    form = Form(Target(to), merged is not False, precision)
    place = out or resolved.workspace / EXPORTS / f"{trained.name}-{to}{'' if form.merged else '-adapter'}"
    done = carried_out(
        trained, form, place.expanduser(), manner=_manner(trained, resolved, system), force=force
    )
    if json:
        write_json(
            {
                "folder": done.folder,
                "files": done.files,
                "checks": done.parities,
                "checked": done.checked,
                "use": done.written.use,
            }
        )
        return
    note(
        f"{trained.name}, {'merged' if form.merged else 'the adapter alone'}, for {to}: {', '.join(done.files)}"
    )
    for line in done.checked:
        note(f"  {line}")
    write(f"cd {done.folder}\n" + "".join(f"{line}\n" for line in done.written.use))


def folder_of(name: str, workspace: Path) -> Path:
    """Return the folder a name stands for: a path, an adapter (ROLE/NAME), or a run. Raises BadRequest."""
    path = Path(name).expanduser()
    if path.is_dir() and ((path / META).exists() or (path / "recipe.json").exists()):
        return path.resolve()
    found = _known(workspace)
    if name in found:
        return found[name]
    adapters = [one for full, one in found.items() if full.partition("/")[2] == name]
    if len(adapters) == 1:
        return adapters[0]
    from difflib import get_close_matches

    near = get_close_matches(name, [*found, *(one.name for one in found.values())], n=1)
    raise BadRequest(
        f"there {'are several adapters' if adapters else 'is no adapter and no run'} {name[:80]!r}",
        expected=f"one of {', '.join(found)}"
        if found
        else "something trained: studium train, or studium bootstrap",
        try_next=f"did you mean {near[0]!r}?" if near and not adapters else "studium adapters list",
    )


def _known(workspace: Path) -> Mapping[str, Path]:
    """Return what there is: ROLE/NAME for adapters, NAME for runs."""
    from json import loads

    found = {one.parent.name: one.parent for one in sorted((workspace / RUNS).glob("*/recipe.json"))}
    for meta in sorted((workspace / ADAPTERS).glob(f"*/*/{META}")):
        try:
            role = str(loads(meta.read_text(encoding="utf-8"))["role"])
        except (OSError, ValueError, KeyError, TypeError):
            role = meta.parent.parent.name  # exporting tells what is wrong with it
        found[f"{role}/{meta.parent.name}"] = meta.parent
    return found


def _manner(trained: "Trained", config: "Config", system: str | None) -> "Manner | None":
    """Return how the student that speaks through the base is asked; None where nobody of the roster does."""
    from studium.registry import build_roster
    from studium.train.exporting.modelfile import Manner

    students = build_roster(config).students
    base = trained.lineage.get(STUDENT) or trained.base
    student = next(
        (one for one in students.values() if base in (one.model.name, one.model.source, one.name)), None
    )
    if student is None and system is None:
        return None
    return Manner(
        student.model.context_tokens if student else None,
        (student.sampling.temperature or 0.0) if student else 0.0,
        (student.system_prompt if student else "") if system is None else system,
    )
