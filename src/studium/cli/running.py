"""Talking to a Studium that is already running: finding it, and reading what it sends line by line.

The standard library's client is enough for one question and is quick to import.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studium.errors import BadReply, CallerError, EngineFailure, EngineMissing, StudiumError

KEY_VARIABLE = "STUDIUM_API_KEY"
TIMEOUT_S = 600.0
REACH_S = 2.0

Json = dict[str, Any]


def running_server(workspace: Path) -> str | None:
    """Return the URL of the server that announced itself in `workspace` and answers; else None."""
    import json

    from studium.config import SERVER_FILE

    try:
        url = json.loads((workspace / SERVER_FILE).read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if isinstance(url, str) and is_alive(url) else None


def is_alive(url: str) -> bool:
    """Say whether a Studium answers there within two seconds."""
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(url.rstrip("/") + "/healthz", timeout=REACH_S) as response:
            return response.status == 200
    except (URLError, OSError, ValueError):
        return False


def post_lines(url: str, path: str, body: Json) -> Iterator[Json]:
    """Post `body` and yield the JSON objects of the reply, one per line, as they come.

    The key is taken from STUDIUM_API_KEY. Raises EngineMissing (nobody there), or the error the server tells.
    """
    import json
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"
    try:
        request = Request(url.rstrip("/") + path, json.dumps(body).encode(), headers)
        with urlopen(request, timeout=TIMEOUT_S) as response:
            for line in response:
                event = _event(line)
                if event.get("kind") == "error":
                    raise EngineFailure(str(event.get("error")), try_next="see: studium doctor")
                yield event
    except HTTPError as error:
        raise _refusal(error.code, error.read(65536)) from error
    except (URLError, OSError, ValueError, HTTPException) as error:
        raise EngineMissing(
            f"no Studium answers at {url} ({getattr(error, 'reason', None) or error})",
            expected="the address of a running Studium",
            try_next="start one with: studium up",
        ) from error


def _event(line: bytes) -> Json:
    import json

    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise BadReply(
            f"the server sent {line[:80]!r}",
            expected="one JSON object per line",
            try_next="check that the address is Studium's",
        )
    return event


def _refusal(status: int, body: bytes) -> StudiumError:
    import json

    try:
        told = json.loads(body)["error"]
        message = told["message"] if isinstance(told, dict) else str(told)
    except (ValueError, KeyError, TypeError):
        message = f"the server answered with status {status}"
    if status == 401:
        return CallerError(message, expected="a key the server knows", try_next=f"export {KEY_VARIABLE}=...")
    return CallerError(message) if status < 500 else EngineFailure(message)
