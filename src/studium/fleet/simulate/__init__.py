"""Simulated scheduling: the very same `plan` and other policies on a virtual clock, over a trace of asks.

`replay` runs policies over a trace; traces come from a file (`traces`) or are made (`workloads`).
"""

from studium.fleet.simulate.measures import Outcome
from studium.fleet.simulate.policies import PEERS, POLICIES
from studium.fleet.simulate.policy import Named
from studium.fleet.simulate.run import replay, simulate
from studium.fleet.simulate.table import Row, tabulate
from studium.fleet.simulate.traces import parse_trace, read_trace
from studium.fleet.simulate.workloads import WORKLOADS
from studium.fleet.simulate.world import Trace

__all__ = [
    "PEERS",
    "POLICIES",
    "WORKLOADS",
    "Named",
    "Outcome",
    "Row",
    "Trace",
    "parse_trace",
    "read_trace",
    "replay",
    "simulate",
    "tabulate",
]
