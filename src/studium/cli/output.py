"""What reaches the terminal: one JSON document for programs, tables for people, notes on stderr."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any


def write_json(data: object) -> None:
    """Write `data` (records, mappings, lists) to stdout as one indented JSON document."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    sys.stdout.write(orjson.dumps(data, default=_plain, option=options).decode())


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table to stdout. The last column takes the rest of the line and is wrapped."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    # A pipe has no width: then no line is cut.
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 400, highlight=False).print(table)


def printable(text: str) -> str:
    """Return `text` without what could steer a terminal: models and files are not to be trusted with that."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def write(text: str) -> None:
    """Write model-made text to stdout at once, harmless to the terminal and to its encoding."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(printable(text).encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def note(text: str) -> None:
    """Write a line for people to stderr."""
    print(printable(text).encode("utf-8", "replace").decode(), file=sys.stderr, flush=True)


def _plain(value: Any) -> object:
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
