"""Reports for people: one HTML page that needs nothing else, and tables in HTML and Markdown.

What a model wrote is text and nothing but: escaped here, so that no page runs it and no Markdown follows it. There is
no script and no address of anything outside.
"""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1c1e;background:#fff}
h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.1rem;margin-top:2rem}svg{width:100%;height:auto}
svg text{font-size:11px;fill:#555}.grid{stroke:#ddd}.a{fill:#2f6fb0}.b{fill:#9cc3e6}circle{fill:#2f6fb0}
.line{fill:none;stroke:#2f6fb0;stroke-width:2}.limit{fill:none;stroke:#b3541e;stroke-width:1.5;stroke-dasharray:5 4}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;
border-bottom:1px solid #ddd}pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;font-size:13px}
.quiet{color:#555}
"""


def page(title: str, sections: Iterable[str]) -> str:
    """Return a whole page of sections that are HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows of text as an HTML table; lines within a cell stay lines."""
    head = "".join(f"<th>{escape(one)}</th>" for one in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table of rows of text."""
    cells = [[plain(cell).replace("|", "\\|").replace("\n", "<br>") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *cells)]


def plain(text: str) -> str:
    """Return text so that Markdown shows it as it is."""
    text = escape(text, quote=False)
    for mark in "`[*_":
        text = text.replace(mark, f"\\{mark}")
    return text


def _cell(text: str) -> str:
    return f"<td><pre>{escape(text)}</pre></td>" if "\n" in text else f"<td>{escape(text)}</td>"
