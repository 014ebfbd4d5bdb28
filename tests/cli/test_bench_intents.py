"""What `studium bench intents` counts, and that it runs."""

import json

import pytest
from tests.cli.roster import studium

from studium.cli.bench_intents import quantile, summary


def test_a_quantile_is_a_value_that_was_measured():
    assert [quantile([1, 2, 3, 4], share) for share in (0.0, 0.25, 0.5, 0.51, 1.0)] == [1, 1, 2, 3, 4]


def test_slow_reads_are_counted_and_told_apart_by_whether_the_system_was_to_blame():
    way = summary("x", [1_000, 1_000_001, 3_000_000, 1_000_000], [1, 0, 2, 0], 300.0)
    assert (way.reads, way.above_1_ms, way.disturbed, way.max_us) == (4, 2, 1, 3_000.0)


@pytest.mark.slow
def test_reads_in_memory_and_over_http_are_measured_under_the_same_load(tmp_path):
    run = studium("bench", "intents", "--clients", "2", "--seconds", "1", "--json", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    shared, control, http = found["ways"]
    assert shared["reads"] == control["reads"] == 600
    assert shared["p50_us"] < http["p50_us"]
    assert found["phases"][0]["loads"] > 0, "models were swapped meanwhile"
    assert found["phases"][0]["age_p95_s"] > 0
