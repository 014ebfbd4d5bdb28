"""The comparison as a user runs it: real students, real problems."""

import json

from studium.cli.main import run


def test_the_ways_are_compared_on_the_embedded_students(tmp_path, capsys):
    html = tmp_path / "page.html"
    options = [
        "--domain",
        "sorting",
        "--problems",
        "3",
        "--workspace",
        str(tmp_path / "w"),
        "--html",
        str(html),
    ]
    assert run(["compare-ensembles", *options, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    ways = {one["scheme"]: one for one in data["ways"]}
    assert set(ways) == {"adaptive", "everyone", "best single", "best, several tries"}
    assert all(one["asked"] == one["scored"] == 3 for one in ways.values())
    assert ways["adaptive"]["calls"] < ways["everyone"]["calls"]
    assert ways["best single"]["calls"] == 1.0
    assert html.read_text().count("<svg") == 3


def test_a_dry_run_asks_nobody(tmp_path, capsys):
    assert (
        run(["compare-ensembles", "--domain", "sorting", "--dry-run", "--workspace", str(tmp_path / "w")])
        == 0
    )
    assert "At most" in capsys.readouterr().out
    assert not (tmp_path / "w" / "state.db").exists()


def test_two_sources_of_questions_are_refused(tmp_path, capsys):
    assert (
        run(["compare-ensembles", "--domain", "sorting", "--file", "x.jsonl", "--workspace", str(tmp_path)])
        != 0
    )
    assert "one of them" in capsys.readouterr().err
