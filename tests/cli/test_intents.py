"""`studium intents` where there is no server, and with what it cannot use."""

import pytest
from tests.cli.roster import studium, write_roster

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("arguments", [["list"], ["create", "npc-1"], ["observe", "npc-1", "a wolf"]])
def test_without_a_server_the_command_that_starts_one_is_told(tmp_path, arguments):
    write_roster(tmp_path)
    refused = studium("intents", *arguments, folder=tmp_path)
    assert refused.returncode == 3
    assert "studium up" in refused.stderr


def test_a_name_that_could_leave_the_folder_is_refused(tmp_path):
    write_roster(tmp_path)
    refused = studium("intents", "watch", "../../etc", folder=tmp_path)
    assert refused.returncode == 4
    assert "cannot name a channel" in refused.stderr


def test_a_schema_that_is_no_json_is_refused_before_anybody_is_asked(tmp_path):
    write_roster(tmp_path)
    (tmp_path / "schema.json").write_text("{")
    refused = studium("intents", "create", "npc-1", "--schema", "schema.json", folder=tmp_path)
    assert refused.returncode == 4
    assert "schema.json" in refused.stderr
