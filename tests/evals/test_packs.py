"""Fresh problems by seed, frozen suites that notice a change, and rows of a user's file."""

import json
from collections import Counter
from pathlib import Path

import pytest

from studium.domains.catalogue import domain
from studium.domains.protocol import Split, split
from studium.errors import BadRequest, CallerError
from studium.evals.items import fresh_items, items_of_file
from studium.evals.packs import Pack, freeze, read_suite, shipped, suite


def test_a_pack_is_the_same_for_equal_seeds_and_nobody_was_trained_on_it():
    pack = Pack(("arithmetic", "moderation"), 30, seed=4)
    items = pack.items()
    assert [one.id for one in items] == [one.id for one in pack.items()]
    assert {one.id for one in items}.isdisjoint(one.id for one in Pack(("sentiment",), 30).items())
    assert all(one.problem and split(one.problem) is Split.FRESH for one in items)
    assert len({one.id for one in items}) == len(items) == 60
    assert set(Counter((one.domain.name, one.level) for one in items).values()) == {10}


def test_levels_can_be_chosen_and_one_there_is_not_is_refused():
    assert {one.level for one in fresh_items(["sentiment"], 12, 1, levels=(2, 3))} == {2, 3}
    with pytest.raises(CallerError, match="sentiment has no level 9; levels of 1, 2, 3"):
        fresh_items(["sentiment"], 3, 1, levels=(2, 9))


def test_more_problems_than_there_are_is_refused_with_how_many_there_are():
    with pytest.raises(
        CallerError, match=r"chains gave [\d,]+ different fresh problems, and 9,000 were asked for"
    ):
        fresh_items(["chains"], 9_000, 1, levels=(1,))


def test_a_frozen_suite_reads_back_and_grades_as_before(tmp_path: Path):
    pack = Pack(("arithmetic", "sorting", "moderation"), 6, seed=2)
    made = freeze(pack, tmp_path / "mine.jsonl")
    again = read_suite(tmp_path / "mine.jsonl")
    assert (again.name, again.sha256) == ("mine", made.sha256)
    assert [one.id for one in again.items] == [one.id for one in pack.items()]
    for item in again.items:
        assert item.grade(item.reference) == 1.0
        assert item.grade("I cannot answer that.") == 0.0


def test_a_suite_that_was_changed_is_noticed_and_none_is_overwritten(tmp_path: Path):
    path = tmp_path / "mine.jsonl"
    freeze(Pack(("arithmetic",), 3), path)
    with pytest.raises(BadRequest, match="never overwritten"):
        freeze(Pack(("arithmetic",), 3), path)
    head, *lines = path.read_text().splitlines()
    row = json.loads(lines[0]) | {"expected": "7"}
    path.write_text("\n".join([head, json.dumps(row), *lines[1:]]) + "\n")
    with pytest.raises(BadRequest, match="was changed"):
        read_suite(path)
    with pytest.raises(BadRequest, match="is no suite"):
        suite(str(tmp_path / "absent.jsonl"))


def test_the_suites_that_ship_are_whole():
    for name in shipped():
        found = suite(name)
        assert found.name == name
        assert len(found.items) > 50
        assert all(item.problem and split(item.problem) is Split.FRESH for item in found.items)


def test_the_core_suite_is_the_one_that_was_frozen():
    """Figures of different days are compared on it: whoever wants other problems freezes another suite."""
    assert suite("core").sha256 == "6dfbebb79137833d3de2df7dfb4ead6dde0e77fcc5234e3ee98166b3642f10db"


def test_rows_in_the_form_of_a_domain_are_read_and_a_wrong_one_is_named_by_line_and_field(tmp_path: Path):
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '{"text": "Not bad at all.", "label": "positive"}\n\n{"text": "Awful", "label": "poor"}\n'
    )
    with pytest.raises(
        BadRequest, match=r"mine.jsonl:3: field 'label' is 'poor'; one of positive, negative, mixed"
    ):
        items_of_file(path, domain("sentiment"))
    path.write_text('{"text": "Not bad at all.", "label": "Positive"}\n')
    (item,) = items_of_file(path, domain("sentiment"))
    assert (item.expected, item.grade("Answer: positive"), item.level) == ("positive", 1.0, 0)
