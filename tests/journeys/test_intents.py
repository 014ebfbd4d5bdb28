"""Real students behind a channel: made by the command line, told and read in shared memory, through a kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studium.intents import Channel, Intent, IntentState, open_channel

pytestmark = pytest.mark.slow


@pytest.fixture
def servers():
    started: list[subprocess.Popen[str]] = []
    yield started
    for server in started:
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=30)


def serve(workspace: Path, servers: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    command = ["up", "--port", "0", "--workspace", str(workspace), "--memory-budget", "130MiB"]
    server = subprocess.Popen(
        [sys.executable, "-m", "studium.cli.main", *command],
        cwd=workspace.parent,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    servers.append(server)
    assert server.stdout is not None and server.stdout.readline().startswith("Studium listens on ")
    return server


def intents(workspace: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "studium.cli.main", "intents", *arguments, "--workspace", str(workspace)],
        cwd=workspace.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_until(channel: Channel, wanted: str, state: IntentState) -> Intent:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        intent = channel.read()
        if intent.state is state and wanted in intent.text:
            return intent
        time.sleep(1 / 300)
    pytest.fail(f"the intent is still {channel.read()}")


def test_a_frame_loop_goes_on_through_swaps_a_killed_server_and_a_restart(tmp_path, servers):
    workspace = tmp_path / "state"
    server = serve(workspace, servers)
    options = ["--student", "abacus", "--question", "{observation}", "--hz", "4", "--fallback", "stay"]
    intents(workspace, "create", "npc-1", *options)
    with open_channel(workspace, "npc-1") as channel:
        assert channel.read().text == "stay"
        channel.observe("What is 47 + 58?")
        first = read_until(channel, "105", IntentState.FRESH)
        assert first.previous == "stay"
        watched = json.loads(intents(workspace, "watch", "npc-1", "--json"))
        assert "105" in watched["text"] or watched["state"] == "stale"
        shown = json.loads(intents(workspace, "show", "npc-1", "--json"))
        assert shown["refresh"]["chosen_model"] == "abacus"
        assert "npc-1" in intents(workspace, "list")

        server.kill()
        server.communicate(timeout=30)
        assert read_until(channel, "stay", IntentState.STALE).sequence == first.sequence

        serve(workspace, servers)
        channel.observe("What is 12 + 30?")
        assert read_until(channel, "42", IntentState.FRESH).sequence > first.sequence
        intents(workspace, "observe", "npc-1", "What is 11 + 22?")
        read_until(channel, "33", IntentState.FRESH)
        intents(workspace, "delete", "npc-1")
        assert channel.read().state is IntentState.REMOVED
