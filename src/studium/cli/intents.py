"""`studium intents`: channels that serve the last intent at frame rate while students refresh it (TIER-1).

Making and removing is the running server's affair; reading is done as programs do it, in shared memory.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table
from studium.errors import BadRequest, EngineMissing

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The channel's name, such as npc-1.")]
Json = dict[str, Any]
_TIMEOUT_S = 10.0
_SHOWN = 60

app = typer.Typer(
    help="Keep the last intent at hand for callers at frame rate, and look at it.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command("create")
def create(
    name: NameArgument,
    question: Annotated[
        str | None, typer.Option(help="Template with {observation}, {horizon_s} and {previous}.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the students are told beforehand.")] = None,
    student: Annotated[list[str] | None, typer.Option(help="Ask this student; may be repeated.")] = None,
    model: Annotated[str | None, typer.Option(help="auto, a complexity, or a student.")] = None,
    complexity: Annotated[str | None, typer.Option(help="How much an intent deserves.")] = None,
    strategy: Annotated[str | None, typer.Option(help="How the students are asked.")] = None,
    hz: Annotated[float | None, typer.Option(help="Ask at most so often a second, 0.1 to 4.")] = None,
    horizon: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long an intent holds after its observation.")
    ] = None,
    blend: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long the transition to it takes.")
    ] = None,
    fallback: Annotated[str | None, typer.Option(help="What to do without a fresh intent.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Ask for timed steps as JSON.")] = False,
    schema: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON schema that intents must follow.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="How long an intent may be.")] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How long an answer is waited for.")
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Create a channel in the running Studium, or change one. It is kept across restarts.

    Example: studium intents create npc-1 --student abacus --hz 2 --fallback "stay where you are"
    """
    body = {
        "question": question,
        "system": system,
        "students": student or None,
        "model": model,
        "complexity": complexity,
        "strategy": strategy,
        "hz": hz,
        "horizon_s": horizon,
        "blend_s": blend,
        "fallback": fallback,
        "plan": plan,
        "json_schema": None if schema is None else _schema(schema),
        "max_tokens": max_tokens,
        "timeout_s": timeout,
    }
    state = call(
        _folder(config, workspace), "PUT", _path(name), {k: v for k, v in body.items() if v is not None}
    )
    if json:
        write_json(state)
        return
    write(f"{name}: asked at most {state['settings']['hz']:g} times a second\n")
    note(f"tell it what is the case: studium intents observe {name} TEXT")


@app.command("list")
def list_channels(
    config: ConfigOption = None, workspace: WorkspaceOption = None, json: JsonOption = False
) -> None:
    """List the channels with their intents, how old those are, and how often they are refreshed.

    Example: studium intents list
    """
    channels = call(_folder(config, workspace), "GET", "")["channels"]
    if json:
        write_json(channels)
        return
    if not channels:
        note("There are no channels. Create one: studium intents create NAME")
        return
    write_table(("channel", "state", "age s", "Hz", "asked", "failed", "late", "intent"), map(_row, channels))


@app.command("show")
def show(
    name: NameArgument,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show a channel: its intent now, what became of its asks, and its settings.

    Example: studium intents show npc-1
    """
    state = call(_folder(config, workspace), "GET", _path(name))
    if json:
        write_json(state)
        return
    for title in ("intent", "refresh", "settings"):
        write(f"{title}\n" + "".join(_lines(state[title])))
    write(f"refreshed {state['refreshed_hz']:.2f} times a second over the last ten seconds\n")


@app.command("observe")
def observe(
    name: NameArgument,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is the case now.")],
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Tell a channel what is the case now. Only the newest observation counts.

    Example: studium intents observe npc-1 "What is 47 + 58?"
    """
    call(_folder(config, workspace), "POST", _path(name) + "/observation", {"text": text})


@app.command("watch")
def watch(
    name: NameArgument,
    seconds: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="End after so long; else with Ctrl-C.")
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Print every new intent as it comes, read from shared memory 60 times a second. --json prints one moment.

    Example: studium intents watch npc-1 --seconds 10
    """
    from dataclasses import asdict

    from studium.intents import open_channel

    with open_channel(_folder(config, workspace), name) as channel:
        if json:
            write_json(asdict(channel.read()) | {"name": name})
            return
        try:
            _watch(channel, seconds)
        except KeyboardInterrupt:
            return


@app.command("delete")
def delete(name: NameArgument, config: ConfigOption = None, workspace: WorkspaceOption = None) -> None:
    """Remove a channel. Whoever reads it is told.

    Example: studium intents delete npc-1
    """
    call(_folder(config, workspace), "DELETE", _path(name))


def _watch(channel: Any, seconds: float | None) -> None:
    import time

    began, shown = time.monotonic(), None
    while seconds is None or time.monotonic() - began < seconds:
        intent = channel.read()
        if (intent.sequence, intent.state) != shown:
            shown = (intent.sequence, intent.state)
            seen = "-" if intent.observation_age_s is None else f"{intent.observation_age_s:.2f}"
            write(f"#{intent.sequence} {intent.state.value}, observed {seen} s ago: {_brief(intent.text)}\n")
        time.sleep(1 / 60)


def _row(state: Json) -> tuple[str, ...]:
    intent, refresh = state["intent"], state["refresh"]
    age_s = intent["age_s"]
    error = f"   ({refresh['error']})" if refresh["error"] else ""
    return (
        state["name"],
        intent["state"],
        "-" if age_s is None else f"{age_s:.1f}",
        f"{state['refreshed_hz']:.2f}",
        *(str(refresh[count]) for count in ("asked", "failed", "late")),
        _brief(intent["text"]) + error,
    )


def _lines(values: Json) -> list[str]:
    return [f"  {name:18} {value}\n" for name, value in values.items() if value not in (None, "", [])]


def _brief(text: str) -> str:
    line = " | ".join(text.splitlines())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."


def _schema(path: Path) -> Json:
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadRequest(f"{path} cannot be read: {error}", expected="a JSON schema") from error


def _folder(config: str | None, workspace: str | None) -> Path:
    return settings(config, workspace).workspace


def _path(name: str) -> str:
    from urllib.parse import quote

    return "/" + quote(name, safe="")


def call(workspace: Path, method: str, path: str, body: Json | None = None) -> Json:
    """Ask the workspace's server. Raises EngineMissing where none runs, or the error it tells."""
    import json
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from studium.config.running import headers, refusal, running_server

    url = running_server(workspace)
    if url is None:
        raise EngineMissing(
            f"no Studium serves the workspace {workspace}",
            expected="a running server: it is what keeps intents fresh",
            try_next="studium up",
        )
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(
            Request(f"{url}/api/intents{path}", data, headers(), method=method), timeout=_TIMEOUT_S
        ) as response:
            return json.loads(response.read() or b"{}")
    except HTTPError as error:
        raise refusal(error.code, error.read(65536)) from error
    except (OSError, ValueError, HTTPException) as error:
        raise EngineMissing(
            f"the server at {url} did not answer: {error}", try_next="studium doctor"
        ) from error
