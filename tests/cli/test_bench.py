"""`studium bench schedule`: tables for people, JSON for programs, and plain refusals."""

import json

from tests.cli.roster import studium

from studium.fleet.simulate import POLICIES, WORKLOADS


def test_two_policies_are_compared_on_one_workload(tmp_path):
    shown = studium(
        "bench", "schedule", "--workload", "burst", "--policy", "fifo", "--policy", "byte-lru", "--seeds", "1",
        folder=tmp_path,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "wait p95 s" in shown.stdout
    assert "byte-lru" in shown.stdout and "ollama" not in shown.stdout
    assert "simulating burst" in shown.stderr
    assert "re-implemented" in shown.stderr


def test_json_holds_the_rows_and_what_each_policy_is(tmp_path):
    shown = studium(
        "bench",
        "schedule",
        "--workload",
        "burst",
        "--policy",
        "fifo",
        "--seeds",
        "2",
        "--json",
        folder=tmp_path,
    )
    result = json.loads(shown.stdout)
    [row] = result["rows"]
    assert (row["workload"], row["policy"], row["seeds"], row["asks"]) == ("burst", "fifo", 2, 60)
    assert row["wait_p95_s"] >= row["wait_mean_s"] > 0
    assert "fifo" in result["policies"]


def test_a_recorded_trace_is_simulated(tmp_path):
    header = {
        "devices": [{"name": "gpu", "budget_bytes": 8_000_000_000}],
        "models": [{"name": "alpha", "bytes": 4_000_000_000, "load_seconds": 5}],
    }
    asks = [{"at_s": 3 * n, "model": "alpha", "run_seconds": 2} for n in range(3)]
    (tmp_path / "week.jsonl").write_text("\n".join(map(json.dumps, [header, *asks])))
    shown = studium(
        "bench",
        "schedule",
        "--trace",
        "week.jsonl",
        "--policy",
        "fifo",
        "--seeds",
        "1",
        "--json",
        folder=tmp_path,
    )
    [row] = json.loads(shown.stdout)["rows"]
    assert (row["workload"], row["loads"], row["asks"]) == ("week.jsonl", 1, 3)
    assert row["makespan_s"] == 11.0
    assert row["wait_max_s"] == 5.0


def test_a_bad_line_is_named_and_the_status_says_that_the_input_was_wrong(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"devices": 3}\n')
    refused = studium("bench", "schedule", "--trace", "bad.jsonl", folder=tmp_path)
    assert refused.returncode == 2
    assert "bad.jsonl, line 1" in refused.stderr


def test_an_unknown_workload_or_policy_is_answered_with_the_nearest(tmp_path):
    refused = studium("bench", "schedule", "--workload", "brust", folder=tmp_path)
    assert refused.returncode == 2
    assert "--workload burst" in refused.stderr
    refused = studium("bench", "schedule", "--policy", "olama", folder=tmp_path)
    assert "--policy ollama" in refused.stderr


def test_a_trace_and_a_workload_are_not_both_taken(tmp_path):
    refused = studium("bench", "schedule", "--trace", "x", "--workload", "burst", folder=tmp_path)
    assert refused.returncode == 2
    assert "one of them" in refused.stderr


def test_help_shows_an_example_and_every_name(tmp_path):
    shown = studium("bench", "schedule", "--help", folder=tmp_path)
    assert not [name for name in (*WORKLOADS, *POLICIES) if name not in shown.stdout]
    assert "Example: studium bench schedule --workload burst" in shown.stdout
