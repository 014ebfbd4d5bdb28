"""The policies there are, by name."""

from collections.abc import Mapping

from studium.fleet.simulate.llama_swap import group, ideal_matrix
from studium.fleet.simulate.ollama import Ollama
from studium.fleet.simulate.plain import ByteLru, Fifo, Parallel
from studium.fleet.simulate.policy import Named
from studium.fleet.simulate.studium import Studium

OURS = "studium"
WITHOUT_HINTS = "studium-without-hints"

POLICIES: Mapping[str, Named] = {
    one.name: one
    for one in (
        Named(
            OURS,
            "Studium's own plan(), told what sessions and committees know of their next asks",
            lambda machine, seed: Studium(machine, seed, hints=True),
        ),
        Named(
            WITHOUT_HINTS,
            "Studium's own plan(), told nothing of what comes",
            lambda machine, seed: Studium(machine, seed, hints=False),
        ),
        Named("parallel", "re-implemented: everybody asks at once, idle LRU", lambda _m, _s: Parallel()),
        Named("fifo", "re-implemented: strict order of arrival, idle LRU", lambda _m, _s: Fifo()),
        Named("byte-lru", "re-implemented: least recently used, aware of bytes", lambda _m, _s: ByteLru()),
        Named("ollama", "re-implemented from its public source of August 2026", lambda _m, _s: Ollama()),
        Named(
            "llama-swap-group",
            "re-implemented from its public source of August 2026: one model at a time",
            lambda machine, _s: group(machine),
            most_devices=1,
        ),
        Named(
            "llama-swap-matrix",
            "re-implemented from its public source of August 2026, with the ideal sets for the trace",
            lambda machine, _s: ideal_matrix(machine),
            most_devices=1,
        ),
    )
}
PEERS = tuple(name for name in POLICIES if name not in (OURS, WITHOUT_HINTS))
