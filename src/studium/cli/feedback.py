"""`studium feedback`: say whether an answer was right, so that its students are asked and weighed accordingly."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json

if TYPE_CHECKING:
    from studium.config import Config

Json = dict[str, Any]
_WORDS = ("good", "bad")


def feedback(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="The answer's request_id.")],
    verdict: Annotated[str, typer.Argument(metavar='good|bad|"corrected text"', help="What you say of it.")],
    remark: Annotated[str, typer.Option("--note", help="Why, for people.")] = "",
    url: Annotated[str | None, typer.Option(help="The Studium that gave the answer.")] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Say of an answer that it was good, bad, or what would have been right. Saying it again replaces it.

    `studium ask --explain` and --json show the ID; by HTTP it is the header x-studium-request-id.

    Example: studium feedback 3f2a9c1b0d4e5f67 good
    """
    from studium.cli.running import post, running_server

    body = _body(request_id, verdict, remark)
    if url is None and config is None:
        url = running_server(settings(None, workspace).workspace)
    told = post(url, "/api/feedback", body) if url else _here(settings(config, workspace), body)
    if json:
        write_json(told)
        return
    grades = ", ".join(f"{name} {'right' if score else 'wrong'}" for name, score in told["grades"].items())
    write(f"noted: {told['rating']} ({told['kind']}){'; ' + grades if grades else ''}\n")
    if not told["comparable"]:
        note("no answer could be read from the correction, so nobody was graded by it")


def _body(request_id: str, verdict: str, remark: str) -> Json:
    given = {"rating": verdict} if verdict in _WORDS else {"correction": verdict}
    return {"request_id": request_id, "note": remark, **given}


def _here(config: "Config", body: Json) -> Json:
    """Write to the workspace's store; no model and no engine is needed for that."""
    import time

    from studium.app import STORE_FILE
    from studium.records.grades import Feedback, Rating
    from studium.registry import build_roster
    from studium.serve.history.history import History
    from studium.store import open_store

    rating = Rating(body["rating"]) if "rating" in body else Rating.CORRECTED
    store = open_store(config.workspace / STORE_FILE)
    try:
        history = History(store, build_roster(config).students, config.store)
        said = Feedback(body["request_id"], time.time(), rating, "", body.get("correction", ""), body["note"])
        return history.rate(said)
    finally:
        store.close()
