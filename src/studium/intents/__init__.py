"""Intents: what a caller at frame rate should be doing now, while models think about what comes next (TIER-1).

    from studium.intents import open_channel

    with open_channel("studium-workspace", "npc-1") as channel:    # once
        channel.observe("an enemy at 12 m, health 40 %")            # as often as you like
        intent = channel.read()                                     # every frame: microseconds, never waits

A **channel** is two small files that the server and its callers map into memory. The server asks its students
about the newest observation, at most `hz` times a second, and publishes what they say; readers see the last
intent, its age, and how far the way from the one before it has been gone. After `horizon_s` an intent is stale
and the channel's fallback takes its place.

`layout` says what lies where in a file, `ring` maps it, `channel` is the caller's side and imports nothing of the
server; `settings`, `refresher` and `channels` are the server's side.
"""

from studium.intents.channel import Channel, open_channel
from studium.intents.moment import Intent, IntentState, Step

__all__ = ["Channel", "Intent", "IntentState", "Step", "open_channel"]
