"""The Studium that serves a workspace: where it said it is, whether it answers, and what it means by an error.

The standard library's client is enough for this and is quick to import.
"""

import json
import os
from pathlib import Path

from studium.config.loading import SERVER_FILE
from studium.errors import CallerError, EngineFailure, OperatorError, StudiumError

KEY_VARIABLE = "STUDIUM_API_KEY"
REACH_S = 2.0


def running_server(workspace: Path) -> str | None:
    """Return the URL of the server that announced itself in `workspace` and answers; else None."""
    url = _announced(workspace).get("url")
    return url if isinstance(url, str) and is_alive(url) else None


def may_be_busy(workspace: Path) -> bool:
    """Say whether the process that announced itself in `workspace` lives, though it may not answer just now."""
    pid = _announced(workspace).get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)  # asks, and sends nothing
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def _announced(workspace: Path) -> dict[str, object]:
    try:
        told = json.loads((workspace / SERVER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def is_alive(url: str) -> bool:
    """Say whether a Studium answers there within two seconds."""
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(url.rstrip("/") + "/healthz", timeout=REACH_S) as response:
            return response.status == 200
    except (URLError, OSError, ValueError):
        return False


def headers() -> dict[str, str]:
    """Return what to send with a request: the type of its body, and the key in STUDIUM_API_KEY if there is one."""
    key = os.environ.get(KEY_VARIABLE)
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def refusal(status: int, body: bytes) -> StudiumError:
    """Return what a server's answer with an error status means here."""
    try:
        told = json.loads(body)["error"]
        message = told["message"] if isinstance(told, dict) else str(told)
    except (ValueError, KeyError, TypeError):
        message = f"the server answered with status {status}"
    if status == 401:
        return CallerError(message, expected="a key the server knows", try_next=f"export {KEY_VARIABLE}=...")
    if status == 503:
        return OperatorError(message)
    return CallerError(message) if status < 500 else EngineFailure(message)


def told_error(event: dict[str, object]) -> StudiumError:
    """Return the error that the last line of a stream tells, of the class it had over there."""
    family = {one.code: one for one in _family(StudiumError)}.get(str(event.get("code")), EngineFailure)
    if "happened" not in event:
        return family(str(event.get("error")), try_next="see: studium doctor")
    parts = {part: str(event.get(part) or "") for part in ("expected", "try_next")}
    return family(str(event["happened"]), **parts)


def _family(root: type[StudiumError]) -> list[type[StudiumError]]:
    return [one for child in root.__subclasses__() for one in (*_family(child), child)]
