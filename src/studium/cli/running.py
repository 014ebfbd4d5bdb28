"""Talking to a Studium that is already running: what it sends is read line by line (see `config.running`).

The standard library's client is enough for one question and is quick to import.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studium.errors import BadReply, EngineMissing

TIMEOUT_S = 600.0

Json = dict[str, Any]


def running_server(workspace: Path) -> str | None:
    """Return the URL of the server that announced itself in `workspace` and answers; else None."""
    from studium.config import running

    return running.running_server(workspace)


def is_alive(url: str) -> bool:
    """Say whether a Studium answers there within two seconds."""
    from studium.config import running

    return running.is_alive(url)


def post_lines(url: str, path: str, body: Json | None, request_id: str = "") -> Iterator[Json]:
    """Post `body` (None: only get) and yield the JSON objects of the reply, one per line, as they come.

    The key is taken from STUDIUM_API_KEY. Raises EngineMissing (nobody there), or the error the server tells.
    """
    import json
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    from studium.config.running import headers, refusal, told_error

    try:
        data = None if body is None else json.dumps(body).encode()
        named = {"X-Request-Id": request_id} if request_id else {}
        request = Request(url.rstrip("/") + path, data, headers() | named)
        with urlopen(request, timeout=TIMEOUT_S) as response:
            for line in response:
                event = _event(line)
                if event.get("kind") == "error":
                    raise told_error(event)
                yield event
    except HTTPError as error:
        raise refusal(error.code, error.read(65536)) from error
    except (URLError, OSError, ValueError, HTTPException) as error:
        raise EngineMissing(
            f"no Studium answers at {url} ({getattr(error, 'reason', None) or error})",
            expected="the address of a running Studium",
            try_next="start one with: studium up",
        ) from error


def post(url: str, path: str, body: Json, request_id: str = "") -> Json:
    """Post `body` and return the one JSON object of the reply. Raises as `post_lines` does."""
    return next(post_lines(url, path, body, request_id))


def get(url: str, path: str) -> Json:
    """Get one JSON object. Raises as `post_lines` does."""
    return next(post_lines(url, path, None))


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
