"""All channels of a workspace: kept across restarts, owned by one server, bounded in number."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
from tests.web.conftest import answer_of

from studium.errors import BadRequest, CallerError, OperatorError
from studium.intents import IntentState, layout, open_channel
from studium.intents.channel import intent_file
from studium.intents.channels import UnknownChannel, keep_channels
from studium.intents.ring import opened
from studium.intents.settings import MOST_CHANNELS, Settings
from studium.records.answers import Answer, Query

NPC = Settings(question="{observation}", hz=4.0, fallback="stay")


async def echo(query: Query) -> Answer:
    return answer_of(f"do {query.question}")


async def test_an_observation_in_shared_memory_becomes_an_intent_there(tmp_path: Path):
    async with keep_channels(tmp_path, echo) as channels:
        assert channels.put("npc", NPC)
        with open_channel(tmp_path, "npc") as channel:
            assert (channel.read().text, channel.read().state) == ("stay", IntentState.EMPTY)
            channel.observe("a wolf")
            async with asyncio.timeout(60):
                while channel.read().state is not IntentState.FRESH:
                    await asyncio.sleep(0.005)
            assert (channel.read().text, channel.read().previous) == ("do a wolf", "stay")


async def test_channels_and_their_last_intents_outlive_the_server(tmp_path):
    async with keep_channels(tmp_path, echo) as channels:
        channels.put("npc", NPC)
        channels.observe("npc", "a wolf")
        with open_channel(tmp_path, "npc") as channel:
            async with asyncio.timeout(60):
                while not channels.state("npc")["refresh"]["published"]:
                    await asyncio.sleep(0.005)
            before = channel.read()
            async with keep_channels(tmp_path, echo) as second:
                with pytest.raises(OperatorError, match="another process"):
                    second.names()
    (tmp_path / "intents" / "broken.json").write_text("{")
    with open_channel(tmp_path, "npc") as reader:
        async with keep_channels(tmp_path, echo) as channels:
            assert channels.names() == ["npc"]
            assert channels.state("npc")["settings"]["fallback"] == "stay"
            after = reader.read()
    assert (after.text, after.state) == (before.text, IntentState.FRESH)
    assert after.sequence > before.sequence


async def test_changed_settings_hold_for_the_intent_that_is_there(tmp_path):
    async with keep_channels(tmp_path, echo) as channels:
        channels.put("npc", NPC)
        with open_channel(tmp_path, "npc") as channel:
            assert not channels.put("npc", Settings(fallback="flee"))
            assert channel.read().text == "flee"


async def test_an_intent_of_another_form_does_not_survive_a_change_of_form(tmp_path):
    let = asyncio.Event()

    async def plan(query: Query) -> Answer:
        if query.json_schema is None:
            await let.wait()
            return answer_of("run")
        return answer_of('{"steps": [{"at_s": 0, "do": "run"}, {"at_s": 60, "do": "hide"}]}')

    async with keep_channels(tmp_path, plan) as channels:
        channels.put("npc", NPC)
        channels.observe("npc", "a wolf")
        async with asyncio.timeout(60):
            while not channels.state("npc")["refresh"]["asking"]:
                await asyncio.sleep(0.005)
        channels.put("npc", Settings(plan=True, hz=4.0))
        let.set()
        async with asyncio.timeout(60):
            while not channels.state("npc")["refresh"]["dropped"]:
                await asyncio.sleep(0.005)
        assert channels.state("npc")["intent"]["state"] == "empty"
        channels.observe("npc", "a bear")
        with open_channel(tmp_path, "npc") as channel:
            async with asyncio.timeout(60):
                while channel.read().state is not IntentState.FRESH:
                    await asyncio.sleep(0.005)
            assert channel.read().step == "run"
            assert [step.do for step in channel.read().ahead] == ["hide"]
        assert channels.state("npc")["intent"]["steps"][1] == {"at_s": 60.0, "do": "hide"}


async def test_a_deleted_channel_is_gone_for_good_and_its_readers_are_told(tmp_path):
    async with keep_channels(tmp_path, echo) as channels:
        channels.put("npc", NPC)
        with open_channel(tmp_path, "npc") as channel:
            channel.observe("a wolf")
            await channels.delete("npc")
            assert channel.read().state is IntentState.REMOVED
            with pytest.raises(BadRequest, match="there is no channel"):
                channel.observe("told into a file nobody reads")
        with pytest.raises(UnknownChannel):
            channels.state("npc")
        assert [path.name for path in (tmp_path / "intents").iterdir()] == ["owner.lock"]


async def test_an_observer_goes_on_with_a_channel_made_anew(tmp_path):
    async with keep_channels(tmp_path, echo) as channels:
        channels.put("npc", NPC)
        with open_channel(tmp_path, "npc") as channel:
            channel.observe("a wolf")
            await channels.delete("npc")
            channels.put("npc", NPC)
            channel.observe("a bear")
            async with asyncio.timeout(60):
                while channel.read().text != "do a bear":
                    await asyncio.sleep(0.005)


async def test_after_a_restart_of_the_machine_old_intents_are_forgotten(tmp_path):
    async with keep_channels(tmp_path, echo) as channels:
        channels.put("npc", NPC)
        channels.observe("npc", "a wolf")
        async with asyncio.timeout(60):
            while channels.state("npc")["intent"]["state"] != "fresh":
                await asyncio.sleep(0.005)
    with closing(opened(intent_file(tmp_path, "npc"), writable=True)) as ring:
        ring.map[layout.BOOT_AT : layout.BOOT_AT + 16] = b"an earlier boot."
    async with keep_channels(tmp_path, echo) as channels:
        assert channels.state("npc")["intent"]["state"] == "empty"


async def test_there_is_a_limit_to_channels(tmp_path):
    async with keep_channels(tmp_path, echo) as channels:
        for number in range(MOST_CHANNELS):
            channels.put(f"npc-{number}", NPC)
        with pytest.raises(CallerError, match="64 channels"):
            channels.put("one-more", NPC)
        channels.put("npc-3", Settings(hz=2.0))


async def test_a_full_or_closed_disk_is_told_when_a_channel_is_asked_for(tmp_path):
    (tmp_path / "intents").write_text("a file where the folder should be")
    async with keep_channels(tmp_path, echo) as channels:
        with pytest.raises(OperatorError, match="cannot be written"):
            channels.put("npc", NPC)


async def test_names_that_leave_the_folder_are_refused(tmp_path):
    async with keep_channels(tmp_path, echo) as channels:
        for act in (lambda: channels.put("../npc", NPC), lambda: channels.state("../npc")):
            with pytest.raises(BadRequest, match="cannot name"):
                act()
        with pytest.raises(BadRequest, match="cannot name"):
            await channels.delete("..")


async def test_an_ask_under_way_does_not_hold_up_the_end(tmp_path):
    begun = asyncio.Event()

    async def never(query: Query) -> Answer:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with asyncio.timeout(60), keep_channels(tmp_path, never) as channels:
        channels.put("npc", NPC)
        channels.observe("npc", "a wolf")
        await begun.wait()
        assert channels.state("npc")["refresh"]["asking"], "the state is there while a model is at work"
