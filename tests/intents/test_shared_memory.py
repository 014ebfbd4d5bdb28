"""Channels between real processes: nobody sees half an intent, and nobody waits for a writer that is gone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studium.errors import BadRequest, OperatorError
from studium.intents import Channel, IntentState, layout, open_channel
from studium.intents.channel import intent_file, observation_file
from studium.intents.layout import Frame
from studium.intents.ring import Ring, created, opened

WRITER = """
import random, sys, time, zlib
from pathlib import Path
from studium.intents.layout import Frame
from studium.intents.ring import created
ring = created(Path(sys.argv[1]))
until, number = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < until:
    number += 1
    body = random.choice("abcdefghij") * random.randint(1, 3000)
    text = f"{zlib.crc32(body.encode()):08x}{body}"
    ring.publish(Frame(text, observed_ns=time.monotonic_ns(), horizon_s=0.2, fallback="stay"))
    if number == 1:
        print("written", flush=True)
"""
READER = """
import json, sys, time, zlib
from studium.intents import open_channel
reads = torn = backwards = last = seen = 0
with open_channel(sys.argv[1], "npc") as channel:
    until = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < until:
        intent = channel.read()
        text = intent.text
        reads += 1
        torn += text != "stay" and f"{zlib.crc32(text[8:].encode()):08x}" != text[:8]
        backwards += intent.sequence < last
        seen += intent.sequence != last
        last = intent.sequence
print(json.dumps({"reads": reads, "torn": torn, "backwards": backwards, "seen": seen}))
"""


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    (tmp_path / "intents").mkdir()
    return created(intent_file(tmp_path, "npc"))


def start(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)


def now_and(text: str, *, horizon_s: float = 60.0, **more: object) -> Frame:
    return Frame(text, observed_ns=time.monotonic_ns(), horizon_s=horizon_s, **more)  # type: ignore[arg-type]


def test_readers_never_see_half_an_intent_while_a_writer_writes_without_pause(tmp_path, ring):
    ring.publish(now_and("stay"))
    with start(WRITER, ring.path, 2.0) as writer, start(READER, tmp_path, 1.5) as one:
        with start(READER, tmp_path, 1.5) as other:
            found = [json.loads(one.communicate(timeout=30)[0]), json.loads(other.communicate(timeout=30)[0])]
        writer.communicate(timeout=30)
    assert [each["torn"] for each in found] == [0, 0]
    assert [each["backwards"] for each in found] == [0, 0]
    assert all(each["seen"] > 100 for each in found), "they did read while it wrote"


def test_a_writer_killed_at_work_leaves_an_intent_that_grows_stale(tmp_path, ring):
    ring.publish(now_and("stay"))
    with start(WRITER, ring.path, 30.0) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "written\n"
        writer.send_signal(signal.SIGKILL)
        writer.wait(timeout=30)
    with open_channel(tmp_path, "npc") as channel:
        while (intent := channel.read()).state is IntentState.FRESH:
            time.sleep(0.01)
        assert intent.state is IntentState.STALE
        assert intent.text == "stay"
        assert intent.previous[8:], "the last intent is still told"


def test_a_frame_half_written_is_passed_over_for_the_one_before(ring):
    ring.publish(now_and("first"))
    second = layout.pack(layout.numbered(now_and("second"), 2, 1))
    ring.map[layout.slot_at(2) : layout.slot_at(2) + 70] = second[:70]
    newest = ring.newest()
    assert newest is not None and newest.text == "first"


@pytest.mark.parametrize("at", [0, 8, 24, 40, 48, 52, 60, 64, 67])
def test_a_flipped_bit_anywhere_in_a_slot_is_noticed(at):
    slot = bytearray(layout.pack(layout.numbered(now_and("text", fallback="f"), 5, 7)))
    assert layout.unpack(bytes(slot), 5) is not None
    slot[at] ^= 1
    assert layout.unpack(bytes(slot), 5) is None


def test_a_reader_keeps_its_intent_where_the_file_was_damaged(tmp_path, ring):
    ring.publish(now_and("whole"))
    with open_channel(tmp_path, "npc") as channel:
        assert channel.read().text == "whole"
        ring.publish(now_and("damaged"))
        ring.map[layout.slot_at(2) + 64] ^= 1
        assert channel.read().text == "whole"


def test_a_new_file_has_its_first_frame_from_the_beginning(tmp_path):
    """Found by reading channels while they were made: for a moment there was no fallback to go by."""
    (tmp_path / "intents").mkdir()
    path = intent_file(tmp_path, "npc")
    first = created(path, Frame("", empty=True, fallback="stay"))
    assert first.count == 1
    with open_channel(tmp_path, "npc") as channel:
        assert (channel.read().state, channel.read().text) == (IntentState.EMPTY, "stay")
    assert created(path, Frame("another")).count == 1, "what is there is taken up as it is"


def test_an_observer_is_alone_and_lets_go_when_it_ends(tmp_path, ring):
    observations = created(observation_file(tmp_path, "npc"))
    with open_channel(tmp_path, "npc") as one, open_channel(tmp_path, "npc") as other:
        one.observe("a wolf")
        with pytest.raises(OperatorError, match="another process"):
            other.observe("a bear")
        one.close()
        other.observe("a bear")
        newest = observations.newest()
        assert newest is not None and newest.text == "a bear"


def test_what_is_too_long_is_refused_and_changes_nothing(tmp_path, ring):
    created(observation_file(tmp_path, "npc"))
    with open_channel(tmp_path, "npc") as channel:
        channel.observe("é" * 2048)
        with pytest.raises(BadRequest, match="4,097 bytes"):
            channel.observe("x" * 4097)
        with pytest.raises(BadRequest, match="Unicode"):
            channel.observe("\ud800")
    newest = opened(observation_file(tmp_path, "npc")).newest()
    assert newest is not None and newest.text == "é" * 2048


@pytest.mark.parametrize("name", ["../npc", "a/b", "", ".hidden", "UPPER", "x" * 65, "a\0b", "a\n"])
def test_a_name_that_could_leave_the_folder_is_refused(tmp_path, name):
    with pytest.raises(BadRequest, match="cannot name"), open_channel(tmp_path, name):
        pass


def test_a_channel_nobody_made_and_a_file_of_another_kind_are_told_apart(tmp_path, ring):
    with pytest.raises(BadRequest, match="there is no channel"), open_channel(tmp_path, "other"):
        pass
    intent_file(tmp_path, "other").write_bytes(b"something else")
    with pytest.raises(BadRequest, match="no channel of this version"), open_channel(tmp_path, "other"):
        pass


def test_times_of_an_earlier_boot_count_for_nothing(tmp_path, ring):
    ring.publish(now_and("from before", fallback="stay"))
    ring.map[layout.BOOT_AT : layout.BOOT_AT + 16] = b"an earlier boot."
    with open_channel(tmp_path, "npc") as channel:
        intent = channel.read()
    assert (intent.state, intent.text, intent.age_s) == (IntentState.EMPTY, "stay", None)


def test_a_reader_of_a_removed_channel_takes_up_the_next_one_of_its_name(tmp_path, ring):
    ring.publish(now_and("old", fallback="stay"))
    with open_channel(tmp_path, "npc") as channel:
        assert channel.read().text == "old"
        ring.retire()
        ring.path.unlink()
        gone = channel.read()
        assert (gone.state, gone.text) == (IntentState.REMOVED, "stay")
        created(ring.path).publish(now_and("new"))
        intent = _read_until(channel, IntentState.FRESH)
    assert intent.text == "new"


def test_the_reader_imports_nothing_of_the_server():
    code = "import sys, studium.intents; print(*sorted(n for n in sys.modules if n.startswith('studium.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == [
        "studium.errors",
        "studium.intents",
        "studium.intents.channel",
        "studium.intents.layout",
        "studium.intents.moment",
        "studium.intents.ring",
    ]


def _read_until(channel: Channel, state: IntentState):
    limit = time.monotonic() + 10
    while (intent := channel.read()).state is not state and time.monotonic() < limit:
        time.sleep(0.01)
    return intent
