"""What an improvement did, for people: a headline, sentences, a table of before and after, cost, and the way back."""

from html import escape
from typing import Any

from studium.evals.charts import Bar, bar_chart
from studium.manage.improve.ending import Ending, sentence
from studium.manage.improve.folder import Improvement

Json = dict[str, Any]
COLUMNS = ("skill", "pairs", "before", "after", "difference", "95 % interval", "won", "lost")
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1c1c1e}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.3rem .8rem;border-bottom:1px solid #ddd}"
    ".a{fill:#2f6fb0}.b{fill:#9cc3e6}.grid{stroke:#ddd}svg{width:100%;height:auto}"
)


def headline(one: Improvement) -> str:
    """Return in one line how it ended, of whom and in what."""
    row = trained_domain(one)
    change = f", {row['domain']} {row['baseline']:.1%} -> {row['tuned']:.1%}" if row else ""
    return f"{(one.ending or 'not ended').upper()}: {one.name}{change}"


def sentences(one: Improvement) -> list[str]:
    """Return what became of it, why, what it took, and the way back."""
    said = [sentence(one.ending, promoted="promote" in one.steps)] if one.ending else []
    if one.detail:
        said.append(f"{one.detail[0].upper()}{one.detail[1:].rstrip('.')}.")
    for reason in one.steps.get("compare", {}).get("reasons", ()) if one.ending is Ending.PROMOTED else ():
        said.append(f"{reason[0].upper()}{reason[1:].rstrip('.')}.")
    trained = one.steps.get("train", {})
    if trained:
        said.append(f"Trained {trained.get('step', 0)} steps in {trained.get('seconds', 0.0):.0f} s.")
    said.append(f"It took {one.spent_s:.0f} s in all.")
    if on := way_on(one):
        said.append(f"To go on: {on}")
    if back := way_back(one):
        said.append(f"The way back: {back}")
    return said


def way_back(one: Improvement) -> str:
    """Return the command that undoes it, "" where nothing was changed."""
    return f"studium adapters rollback {one.wanted.role}" if "promote" in one.steps else ""


def way_on(one: Improvement) -> str:
    """Return the command that goes on with it, "" where it has ended for good."""
    return f"studium improve --resume {one.name}" if one.ending is Ending.STOPPED else ""


def rows(one: Improvement) -> list[tuple[str, ...]]:
    """Return before and after of each skill on the comparison's problems, under COLUMNS."""
    return [
        (
            row["domain"],
            str(row["pairs"]),
            f"{row['baseline']:.1%}",
            f"{row['tuned']:.1%}",
            f"{100 * row['difference']:+.1f}",
            f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}",
            str(row["won"]),
            str(row["lost"]),
        )
        for row in _domains(one)
    ]


def trained_domain(one: Improvement) -> Json | None:
    """Return the comparison's row of the skill that was trained: the first; None where nothing was compared."""
    return next(iter(_domains(one)), None)


def write_reports(one: Improvement) -> None:
    """Write report.md and report.html into the improvement's folder."""
    (one.folder / "report.md").write_text(markdown(one), encoding="utf-8")
    (one.folder / "report.html").write_text(page(one), encoding="utf-8")


def markdown(one: Improvement) -> str:
    table = [COLUMNS, ["---"] * len(COLUMNS), *rows(one)] if rows(one) else []
    lines = [f"# {headline(one)}", "", *(f"- {line}" for line in sentences(one)), ""]
    lines += [f"| {' | '.join(row)} |" for row in table]
    lines += ["", *(f"- {name}: {found.get('took_s', 0.0):.1f} s" for name, found in one.steps.items())]
    return "\n".join(lines) + "\n"


def page(one: Improvement) -> str:
    """Return one HTML page that needs nothing else."""
    bars = [
        bar
        for row in _domains(one)
        for bar in (
            Bar(f"{row['domain']} before", 100 * row["baseline"]),
            Bar(f"{row['domain']} after", 100 * row["tuned"]),
        )
    ]
    steps = [Bar(name, found.get("took_s", 0.0)) for name, found in one.steps.items()]
    cells = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in (COLUMNS, *rows(one))
    )
    parts = [
        f"<h1>{escape(headline(one))}</h1>",
        *(f"<p>{escape(line)}</p>" for line in sentences(one)),
        f"<table>{cells}</table>" if bars else "",
        bar_chart(bars, "of 100 right") if bars else "",
        "<h2>Where the time went</h2>" + bar_chart(steps, "s") if steps else "",
    ]
    head = f"<meta charset='utf-8'><title>{escape(one.name)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _domains(one: Improvement) -> list[Json]:
    """Return the comparison's rows of whole domains, the trained one first."""
    told = one.steps.get("compare", {}).get("differences", ())
    return [
        row for row in told if row["level"] is None and row["domain"] != "all" and row["baseline"] is not None
    ]
