"""One client of `studium bench intents`, in a process of its own: reads at a steady rate and times every read.

Between two reads it sleeps as a frame loop does, so that every read begins with cold caches and a scheduler that has
other work. Whether the kernel took the processor away while a read was timed is asked before and after it (the
involuntary switches of getrusage(2)); the clocks are the innermost of the two.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from studium.intents import Intent, open_channel
from studium.intents.channel import FOLDER, intent_file
from studium.intents.layout import Frame
from studium.intents.ring import created

NS = 1_000_000_000
Read = Callable[[], object]


def main() -> None:
    """Run what the one argument, a JSON object, says, and print what was measured as JSON."""
    order = json.loads(sys.argv[1])
    source = _over_http(order) if order["way"] == "http" else _in_memory(order)
    with source as (reads, age_s):
        print("ready", flush=True)
        sys.stdin.readline()
        json.dump(measure(reads, order["rate"], order["seconds"], order["phase"], age_s), sys.stdout)


def measure(
    reads: dict[str, Read], rate: float, seconds: float, phase: float, age_s: Callable[[Any], float | None]
) -> dict[str, Any]:
    """Do each of `reads` `rate` times a second, and return nanoseconds, disturbances and ages of every one."""
    took_ns: dict[str, list[int]] = {name: [] for name in reads}
    disturbed: dict[str, list[int]] = {name: [] for name in reads}
    ages_s: list[float | None] = []
    late_ns: list[int] = []
    turns = list(reads.items())
    period_ns = int(NS / rate)
    began_ns = time.monotonic_ns() + int(phase * period_ns)
    for number in range(int(seconds * rate)):
        due_ns = began_ns + number * period_ns
        if (wait_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(wait_ns / NS)
        late_ns.append(max(0, time.monotonic_ns() - due_ns))
        if late_ns[-1] > seconds * NS:  # it cannot keep up: twice the time is enough
            break
        turns.reverse()  # whoever reads first after the sleep finds the caches cold
        for name, read in turns:
            before = _disturbances()
            from_ns = time.perf_counter_ns()
            found = read()
            took_ns[name].append(time.perf_counter_ns() - from_ns)
            disturbed[name].append(_disturbances() - before)
            if name in ("shared", "http"):
                ages_s.append(age_s(found))
    elapsed_s = (time.monotonic_ns() - began_ns) / NS
    return {
        "took_ns": took_ns,
        "disturbed": disturbed,
        "ages_s": ages_s,
        "late_ns": late_ns,
        "elapsed_s": elapsed_s,
    }


@contextmanager
def _in_memory(order: dict[str, Any]) -> Iterator[tuple[dict[str, Read], Callable[[Any], float | None]]]:
    """The channel, and as a control the same code on a channel that is this process's own and never written."""
    with tempfile.TemporaryDirectory() as folder:
        private = Path(folder)
        (private / FOLDER).mkdir()
        ring = created(intent_file(private, "control"))
        ring.publish(Frame("hold the line", observed_ns=time.monotonic_ns(), horizon_s=4.0, fallback="stay"))
        with (
            open_channel(Path(order["workspace"]), order["name"]) as shared,
            open_channel(private, "control") as own,
        ):
            yield {"control": own.read, "shared": shared.read}, _age_s


@contextmanager
def _over_http(order: dict[str, Any]) -> Iterator[tuple[dict[str, Read], Callable[[Any], float | None]]]:
    """One kept-alive connection; a read is a request, its answer, and that as a mapping."""
    from http.client import HTTPConnection

    address = urlsplit(order["url"])
    connection = HTTPConnection(address.hostname or "", address.port, timeout=30)

    def read() -> object:
        connection.request("GET", f"/api/intents/{order['name']}")
        return json.loads(connection.getresponse().read())

    yield {"http": read}, lambda found: found["intent"]["observation_age_s"]
    connection.close()


def _age_s(intent: Intent) -> float | None:
    return intent.observation_age_s


def _disturbances() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_nivcsw + used.ru_majflt


if __name__ == "__main__":
    main()
