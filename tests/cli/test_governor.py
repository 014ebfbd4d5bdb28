"""`studium governor` without a running server: the store tells, and keeps what is changed."""

import json

import pytest
from tests.cli.roster import studium, write_roster


def test_a_cap_is_set_shown_and_reset(tmp_path):
    write_roster(tmp_path)
    done = studium("governor", "set", "usd_per_day=2", "force_arbiter=on", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = studium("governor", folder=tmp_path).stdout
    assert "changed at run time" in next(line for line in shown.splitlines() if "usd_per_day" in line)
    assert "force_arbiter: on (changed at run time)" in shown
    reset = studium("governor", "reset", "usd_per_day", "--json", folder=tmp_path)
    standing = json.loads(reset.stdout)
    assert standing["settings"]["usd_per_day"] is None and standing["settings"]["force_arbiter"] is True
    assert standing["changes"][0]["name"] == "usd_per_day"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "usd_per_day"), "says no value"),
        (("set", "usd_per_day=-3"), "usd_per_day cannot be '-3'"),
        (("set", "usd_per_week=3"), "no setting 'usd_per_week'"),
        (("reset", "usd_pr_day"), "did you mean 'usd_per_day'?"),
    ],
)
def test_what_is_wrong_is_said_with_what_was_expected(tmp_path, arguments, said):
    write_roster(tmp_path)
    done = studium("governor", *arguments, folder=tmp_path)
    assert done.returncode == 4
    assert said in done.stderr and "expected:" in done.stderr
    assert not json.loads(studium("governor", "--json", folder=tmp_path).stdout)["changes"]
