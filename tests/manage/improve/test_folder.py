"""What an improvement keeps on disk, and how the commands it runs are heard."""

from dataclasses import replace
from pathlib import Path

import pytest

from studium.errors import BadRequest, ConfigurationError
from studium.manage.improve.commands import Commands, OutOfTime
from studium.manage.improve.ending import EXIT, SENTENCES, Ending, outcome
from studium.manage.improve.folder import Wanted, at_work, begin, improvements, read
from studium.manage.improve.report import headline, rows, sentences, way_back, write_reports


def test_what_was_done_is_read_back_whole(tmp_path: Path):
    one = begin(tmp_path, Wanted("sprout", ("sorting",), 3.0))
    one.steps["measure"] = {"figures": [], "took_s": 1.5}
    one.ending, one.detail, one.spent_s = Ending.HELD, "not shown", 12.5
    one.keep()
    assert read(one.folder) == one
    assert [other.name for other in improvements(tmp_path)] == ["sprout-1"]


def test_improvements_are_numbered_and_none_is_overwritten(tmp_path: Path):
    names = [begin(tmp_path, Wanted("sprout")).name for _ in range(3)]
    assert names == ["sprout-1", "sprout-2", "sprout-3"]


def test_two_processes_cannot_work_on_one(tmp_path: Path):
    one = begin(tmp_path, Wanted("sprout"))
    with at_work(one), pytest.raises(ConfigurationError), at_work(read(one.folder)):
        pass


def test_a_folder_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(BadRequest):
        read(tmp_path / "nothing")


def test_every_ending_has_a_sentence_and_an_exit_status_of_its_own():
    assert set(SENTENCES) == set(Ending) == set(EXIT)
    assert len(set(EXIT.values())) == len(Ending)
    assert [one for one in Ending if EXIT[one] == 0] == [Ending.PROMOTED]


def test_a_report_says_nothing_was_done_where_nothing_was(tmp_path: Path):
    one = begin(tmp_path, Wanted("sprout"))
    one.ending = Ending.NOTHING_WEAK
    write_reports(one)
    assert "NOTHING WEAK" in headline(one)
    assert not rows(one)
    assert not way_back(one)
    assert "nothing was done" in " ".join(sentences(one))
    assert "NOTHING WEAK" in (one.folder / "report.html").read_text()


def test_a_stopped_one_says_how_to_go_on(tmp_path: Path):
    one = begin(tmp_path, Wanted("sprout"))
    stopped = replace(one, ending=Ending.STOPPED)
    assert "To go on: studium improve --resume sprout-1" in sentences(stopped)
    assert "nothing that serves was changed" in sentences(stopped)[0] and not way_back(stopped)


def test_one_stopped_after_the_promotion_does_not_say_that_nothing_was_changed(tmp_path: Path):
    one = begin(tmp_path, Wanted("sprout"))
    one.steps["promote"], one.ending = {"number": 3}, Ending.STOPPED
    said = " ".join(sentences(one))
    assert "nothing that serves was changed" not in said and "it serves" in said
    assert "studium improve --resume sprout-1" in said and "studium adapters rollback sprout" in said


@pytest.mark.parametrize(
    ("endings", "whole"),
    [
        ([Ending.PROMOTED, Ending.HELD], Ending.PROMOTED),
        ([Ending.PROMOTED, Ending.NOT_TRAINED], Ending.PROMOTED),
        ([Ending.PROMOTED, Ending.STOPPED], Ending.STOPPED),
        ([Ending.PROMOTED, Ending.NOT_ACTIVE], Ending.NOT_ACTIVE),
        ([Ending.HELD], Ending.HELD),
        ([None], Ending.STOPPED),
    ],
)
def test_a_promotion_is_not_denied_by_the_turn_after_it(endings: list[Ending | None], whole: Ending):
    assert outcome(endings) is whole


def test_a_command_tells_its_data_or_its_error(tmp_path: Path):
    said: list[str] = []
    commands = Commands(tmp_path / "ws", None, said.append)
    told = commands.run("adapters", "history", timeout_s=60.0)
    assert (told.status, told.data) == (0, {"items": []})
    told = commands.run("adapters", "register", "nothing", "--role", "sprout", timeout_s=60.0)
    assert told.status != 0
    assert "nothing" in told.error


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path):
    with pytest.raises(OutOfTime, match="not done within its 0.01 s"):
        Commands(tmp_path / "ws", None, lambda _: None).run("adapters", "list", timeout_s=0.01)
