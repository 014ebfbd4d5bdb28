"""`studium version`."""

import platform

import studium
from studium.cli.options import JsonOption
from studium.cli.output import write_json


def version(json: JsonOption = False) -> None:
    """Say which Studium and which Python this is.

    Example: studium version
    """
    if json:
        write_json({"studium": studium.__version__, "python": platform.python_version()})
        return
    print(f"studium {studium.__version__}, Python {platform.python_version()}")
