"""A session seen from a second terminal (requirement SES-9): reads its status file and its database, writes nothing."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studium.cli.output import printable, write_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from studium.serve.sessions.ledger import Ledger

Json = dict[str, Any]
MIB = 2**20
CYCLES_SHOWN = 8
BAR = 24


def watch(workspace: Path, name: str, *, once: bool, every_s: float, as_json: bool) -> None:
    """Show a session until it ends. Raises CallerError where there is none, StoreUnavailable."""
    from studium.serve.sessions.folder import SessionFolder
    from studium.serve.sessions.ledger import read_ledger

    folder = SessionFolder(workspace, name)
    ledger = read_ledger(folder.database)
    try:
        if as_json:
            write_json(look(workspace, name, ledger))
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(file=sys.stdout, highlight=False)
        if once or not console.is_terminal:
            console.print(picture(look(workspace, name, ledger)))
            return
        with Live(console=console, auto_refresh=False, screen=False) as live:
            while True:
                moment = look(workspace, name, ledger)
                live.update(picture(moment), refresh=True)
                if moment["owner_pid"] is None:
                    return
                time.sleep(every_s)
    except KeyboardInterrupt:
        return
    finally:
        ledger.close()


def look(workspace: Path, name: str, ledger: "Ledger") -> Json:
    """Return what can be seen of a session at this moment."""
    import json

    from studium.serve.sessions.folder import SessionFolder
    from studium.serve.sessions.glance import summary_json
    from studium.serve.sessions.ownership import owner_of

    folder = SessionFolder(workspace, name)
    owner = owner_of(folder.lock)
    now: Json | None = None
    if owner is not None:
        try:
            now = json.loads(folder.status.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            now = None  # it starts or ends just now
    snapshots = ledger.snapshots()
    return summary_json(ledger.summary(owner.pid if owner else None)) | {
        "now": now,
        "last_snapshot": snapshots[-1] if snapshots else None,
        "cycles_shown": [
            {
                "cycle": one.cycle,
                "ended": one.ended,
                "runs": one.runs,
                "failed": one.failed,
                "useful": one.useful,
                "tokens": one.tokens,
                "seconds": one.seconds,
                "tokens_per_second": one.tokens / one.seconds if one.seconds > 0 else None,
                "useful_per_hour": one.useful_per_hour,
                "skipped": [{"student": skip.student, "reason": skip.reason} for skip in one.plan.skips],
            }
            for one in ledger.cycles(last=CYCLES_SHOWN)
        ],
    }


def picture(moment: Json) -> "RenderableType":
    """Return the moment as it is drawn: head, hardware, who runs and waits, what each cycle yielded."""
    from rich.console import Group
    from rich.text import Text

    now = moment["now"]
    parts: list[RenderableType] = [Text(_head(moment)), Text("")]
    if now is not None:
        parts += [Text(_hardware(now)), Text(""), _at_work(now), Text("")]
    parts.append(_cycles(moment["cycles_shown"]))
    return Group(*parts)


def _head(moment: Json) -> str:
    total_s = moment["plan"]["duration_s"]
    active_s = moment["now"]["active_seconds"] if moment["now"] else moment["active_seconds"]
    by = f" by process {moment['owner_pid']}" if moment["owner_pid"] else ""
    phase = f", {moment['now']['phase']}" if moment["now"] else ""
    tokens = moment["plan"]["token_budget"]
    of_tokens = f" of {tokens:,}" if tokens else ""
    reason = f" ({moment['reason']})" if moment["reason"] else ""
    return printable(
        f"{moment['name']}: {moment['title']}   {moment['state']}{by}{phase}{reason}\n"
        f"time   {_bar(active_s, total_s)} {active_s / 60:.1f} of {total_s / 60:g} minutes\n"
        f"useful {moment['useful']} of {moment['runs']} runs, {moment['failed']} failed, "
        f"{moment['tokens']:,}{of_tokens} tokens"
    )


def _hardware(now: Json) -> str:
    hardware = now["hardware"]
    lines = [
        f"models {_bar(now['reserved_bytes'], now['budget_bytes'])} "
        f"{now['reserved_bytes'] / MIB:,.0f} of {now['budget_bytes'] / MIB:,.0f} MiB ({now['budget_source']}); "
        f"in memory: {', '.join(now['resident']) or 'none'}"
    ]
    for gpu in hardware.get("gpus", ()):
        lines.append(
            f"VRAM   {_bar(gpu['vram_used_bytes'], gpu['vram_total_bytes'])} "
            f"{gpu['vram_used_bytes'] / MIB:,.0f} of {gpu['vram_total_bytes'] / MIB:,.0f} MiB ({gpu['name']})"
        )
    if hardware:
        lines += [
            f"RAM    {_bar(hardware['ram_used_bytes'], hardware['ram_total_bytes'])} "
            f"{hardware['ram_used_bytes'] / MIB:,.0f} of {hardware['ram_total_bytes'] / MIB:,.0f} MiB",
            f"CPU    {_bar(hardware['cpu_percent'], 100.0)} {hardware['cpu_percent']:.0f} %",
        ]
    return printable("\n".join(lines))


def _at_work(now: Json) -> "RenderableType":
    table = _table(f"cycle {now['cycle']}", "student", "state", "seconds", "tokens", "tokens/s", "")
    for one in now["running"]:
        speed = one["tokens_per_second"]
        state = "waits for its model" if one["waiting"] else "speaks"
        table.add_row(
            *map(
                printable,
                (
                    one["student"],
                    state,
                    f"{one['seconds']:.1f}",
                    str(one["tokens"]),
                    "-" if speed is None else f"{speed:.1f}",
                    "",
                ),
            )
        )
    for place, turn in enumerate(now["queue"], start=1):
        table.add_row(*map(printable, (turn["student"], f"queued {place}", "", "", "", turn["reason"])))
    return table


def _cycles(cycles: list[Json]) -> "RenderableType":
    table = _table("yield", "cycle", "useful", "runs", "useful/hour", "tokens/s", "seconds", "waited")
    for one in reversed(cycles):
        rate, speed = one["useful_per_hour"], one["tokens_per_second"]
        table.add_row(
            str(one["cycle"]) + ("" if one["ended"] else " ..."),
            str(one["useful"]),
            str(one["runs"]) + (f" ({one['failed']} failed)" if one["failed"] else ""),
            "-" if rate is None else f"{rate:,.0f}",
            "-" if speed is None else f"{speed:,.1f}",
            f"{one['seconds']:.1f}",
            printable(", ".join(skip["student"] for skip in one["skipped"])) or "-",
        )
    return table


def _table(title: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns[:-1]:
        table.add_column(column, no_wrap=True)
    table.add_column(columns[-1], overflow="fold")
    return table


def _bar(part: float, whole: float) -> str:
    filled = round(BAR * min(1.0, part / whole)) if whole > 0 else 0
    return "#" * filled + "." * (BAR - filled)
