"""Asking a Studium that is already running, and one that is not."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from tests.cli.roster import studium, write_roster

QUESTION = "What is 47 + 58?"

# Each test starts a server and a command: processes of their own.
pytestmark = pytest.mark.slow


@pytest.fixture
def served(tmp_path):
    write_roster(tmp_path)
    with running(tmp_path) as url:
        yield url


def test_a_question_to_an_address_is_answered_there(tmp_path, served):
    answered = studium("ask", QUESTION, "--url", served, "--json", folder=tmp_path)
    assert answered.returncode == 0, answered.stderr
    answer = json.loads(answered.stdout)
    assert answer["text"] == "105"
    assert answer["request_id"]


def test_the_server_of_the_workspace_is_found_and_explains_itself(tmp_path, served):
    answer = json.loads(studium("ask", QUESTION, "--json", folder=tmp_path).stdout)
    assert answer["request_id"], "it was answered by the server, which numbers its requests"
    explained = studium("ask", QUESTION, "--explain", folder=tmp_path)
    assert explained.stdout.startswith("105\n")
    assert "alpha" in explained.stdout and "agreement" in explained.stdout


def test_what_the_server_refuses_is_told(tmp_path, served):
    refused = studium("ask", QUESTION, "--student", "nobody", folder=tmp_path)
    assert refused.returncode == 4
    assert "nobody" in refused.stderr


def test_words_are_passed_on_as_they_come(tmp_path, served):
    assert studium("ask", QUESTION, "--stream", folder=tmp_path).stdout == "105\n"


def test_no_server_at_an_address_is_told_with_the_command_that_starts_one(tmp_path):
    refused = studium("ask", QUESTION, "--url", "http://127.0.0.1:9", folder=tmp_path)
    assert refused.returncode == 3
    assert "studium up" in refused.stderr


def test_a_server_that_died_without_a_word_is_not_waited_for(tmp_path):
    write_roster(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "server.json").write_text('{"url": "http://127.0.0.1:9", "pid": 1}')
    answer = json.loads(studium("ask", QUESTION, "--json", folder=tmp_path).stdout)
    assert answer["text"] == "105"


@contextmanager
def running(folder):
    """Run `studium up` on a free port until the block ends, and yield its address."""
    command = [sys.executable, "-m", "studium.cli.main", "up", "--port", "0"]
    environment = os.environ | {"HOME": str(folder), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            first = server.stdout.readline()
            assert first.startswith("Studium listens on "), first
            yield first.split()[-1]
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=30)
