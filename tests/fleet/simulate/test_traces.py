"""Recorded traces: what is read, and that a bad line is named."""

import json

import pytest

from studium.errors import ConfigurationError
from studium.fleet.simulate import POLICIES, parse_trace, read_trace, replay, tabulate
from studium.fleet.simulate import traces as traces_module
from studium.records.scheduling import Priority

HEADER = {
    "trace": "monday",
    "contention": 0.25,
    "devices": [{"name": "gpu", "budget_bytes": 11_000_000_000}],
    "models": [
        {"name": "alpha", "bytes": 4_100_000_000, "load_seconds": 4.9, "unload_seconds": 1, "slots": 2},
        {"name": "tuning", "bytes": 6_000_000_000, "load_seconds": 6.5, "preemptible": True},
    ],
}
ASKS = [
    {"at_s": 100.0, "model": "alpha", "priority": "interactive", "run_seconds": 6.2},
    {"at_s": 103.5, "model": "tuning", "priority": "training", "run_seconds": 20, "deadline_s": 60},
    {"at_s": 100.0, "model": "alpha", "run_seconds": 2, "after": [1, 2], "announced": 0.5},
]


def lines(header=HEADER, asks=ASKS) -> list[bytes]:
    return [json.dumps(one).encode() for one in [header, *asks]]


def test_a_trace_is_read_with_all_its_fields_and_starts_at_0():
    trace = parse_trace([*lines()[:2], b"\n", *lines()[2:]], name="x.jsonl")
    assert (trace.name, trace.contention, trace.devices[0].slowdown) == ("monday", 0.25, 1.0)
    assert trace.models["alpha"].slots == 2 and not trace.models["alpha"].preemptible
    assert trace.models["tuning"].preemptible and trace.models["tuning"].unload_seconds == 0.0
    assert [ask.at_s for ask in trace.asks] == [0.0, 3.5, 0.0]
    assert [ask.number for ask in trace.asks] == [1, 2, 3]
    assert [ask.priority for ask in trace.asks] == [
        Priority.INTERACTIVE,
        Priority.TRAINING,
        Priority.INTERACTIVE,
    ]
    assert (trace.asks[1].deadline_s, trace.asks[0].deadline_s) == (60, None)
    assert (trace.asks[2].after, trace.asks[2].announced) == ((1, 2), 0.5)


def test_the_example_of_the_format_can_be_read():
    """The documentation's example, its header joined to the one line it stands for."""
    shown = [line.strip() for line in (traces_module.__doc__ or "").splitlines() if line.startswith("    ")]
    trace = parse_trace([(shown[0] + shown[1]).encode(), *(line.encode() for line in shown[2:])], name="doc")
    assert [ask.model for ask in trace.asks] == ["alpha", "alpha"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (b"{", "line 3: not JSON"),
        (b"[1]", "line 3: a list"),
        (b'{"at_s": 1, "run_seconds": 2}', "line 3: model is missing"),
        (b'{"at_s": 1, "model": "beta", "run_seconds": 2}', "line 3: the model 'beta' is not in the header"),
        (b'{"at_s": "1", "model": "alpha", "run_seconds": 2}', "line 3: at_s is '1'"),
        (b'{"at_s": true, "model": "alpha", "run_seconds": 2}', "line 3: at_s is True"),
        (b'{"at_s": 1, "model": "alpha", "run_seconds": -2}', "line 3: run_seconds is -2"),
        (b'{"at_s": 1, "model": "alpha", "run_seconds": 1e999}', "line 3"),
        (b'{"at_s": 1, "model": "alpha", "run_seconds": 2, "priority": "now"}', "line 3: priority is 'now'"),
        (b'{"at_s": 1, "model": "alpha", "run_seconds": 2, "after": [2]}', "line 3: after is \\[2\\]"),
        (b'{"at_s": 1, "model": "alpha", "run_seconds": 2, "after": 1}', "line 3: after is 1"),
        (b'{"at_s": 1, "model": "alpha", "run_seconds": 2, "runseconds": 2}', "unknown field 'runseconds'"),
        (b'{"at_s": 1, "model": "alpha", "run_seconds": 2, "announced": 2}', "announced is 2"),
        (b'{"at_s": 1, "model": "alpha", "run_seconds": 2, "deadline_s": -1}', "deadline_s is -1"),
    ],
)
def test_a_bad_ask_is_named_by_its_line(changed, says):
    with pytest.raises(ConfigurationError, match=says) as refused:
        parse_trace([*lines()[:2], changed], name="x.jsonl")
    assert refused.value.expected and refused.value.try_next


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("devices", [], "devices is \\[\\]"),
        ("devices", [{"name": "gpu", "budget_bytes": 0}], "devices\\[0\\]: budget_bytes is 0"),
        ("devices", [{"name": "gpu", "budget_bytes": 1.5}], "a whole number|budget_bytes is 1.5"),
        ("models", [{"name": "alpha", "bytes": 1}], "models\\[0\\]: load_seconds is missing"),
        ("models", [HEADER["models"][0]] * 2, "same name"),
        ("models", [HEADER["models"][0] | {"slots": 0}], "slots is 0"),
        ("contention", 1.5, "contention is 1.5"),
        ("budget", 3, "unknown field 'budget'"),
        ("trace", 7, "trace is 7"),
    ],
)
def test_a_bad_header_is_named(key, value, says):
    with pytest.raises(ConfigurationError, match=says):
        parse_trace(lines(header=HEADER | {key: value}), name="x.jsonl")


def test_a_trace_without_asks_or_without_anything_is_refused():
    with pytest.raises(ConfigurationError, match="no ask follows"):
        parse_trace(lines(asks=[]), name="x.jsonl")
    with pytest.raises(ConfigurationError, match="x.jsonl is empty"):
        parse_trace([b"\n"], name="x.jsonl")


def test_answers_after_their_deadline_are_counted_as_late():
    """alpha loads in 4.9 s and takes 6.2: done at 11.1, and the second at 13.1."""
    asks = [
        ASKS[0] | {"deadline_s": 11.2},
        {"at_s": 100, "model": "alpha", "run_seconds": 8.2, "deadline_s": 13},
    ]
    header = HEADER | {"contention": 0}
    [row] = tabulate(replay(parse_trace(lines(header, asks), name="x"), [POLICIES["fifo"]]))
    assert (row.asks, row.late) == (2, 1)


def test_an_announced_ask_that_never_came_is_not_served():
    trace = parse_trace(lines(asks=[*ASKS, ASKS[2] | {"comes": False}]), name="x")
    [outcome] = replay(trace, [POLICIES["byte-lru"]])
    assert [one.number for one in outcome.served] == [1, 2, 3]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        read_trace(tmp_path / "none.jsonl")


def test_a_recorded_trace_is_replayed_by_every_policy(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_bytes(b"\n".join(lines()))
    trace = read_trace(file)
    outcomes = replay(trace, [POLICIES["fifo"], POLICIES["byte-lru"]], seeds=[0, 1])
    assert [(one.policy, one.seed) for one in outcomes] == [
        ("fifo", 0),
        ("fifo", 1),
        ("byte-lru", 0),
        ("byte-lru", 1),
    ]
    rows = tabulate(outcomes)
    assert [(row.policy, row.asks_of, row.asks) for row in rows] == [
        ("fifo", "all", 3),
        ("fifo", "interactive", 2),
        ("fifo", "training", 1),
        ("byte-lru", "all", 3),
        ("byte-lru", "interactive", 2),
        ("byte-lru", "training", 1),
    ]
