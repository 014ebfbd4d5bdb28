"""All channels a server keeps: made, changed, told and removed, and remembered in the workspace across restarts."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studium.errors import CallerError, OperatorError, StudiumError
from studium.intents import settings as files
from studium.intents.channel import FOLDER, intent_file, observation_file
from studium.intents.layout import Frame, checked_name, checked_text
from studium.intents.moment import Intent, seen, view_of
from studium.intents.refresher import Ask, Refresher, dressed
from studium.intents.ring import claimed, created, unwritable
from studium.intents.settings import MOST_CHANNELS, Settings

GLANCE_S = 0.02
"""How often shared memory is looked at for observations: a hundredth of the time between two asks."""

_log = logging.getLogger("studium.intents")


class UnknownChannel(CallerError):
    code = "channel_not_found"


class Channels:
    """The channels of one workspace. From `keep_channels`."""

    def __init__(self, workspace: Path, ask: Ask) -> None:
        self._workspace = workspace
        self._folder = workspace / FOLDER
        self._ask = ask
        self._refreshers: dict[str, Refresher] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._claim = ExitStack()
        self._trouble: StudiumError | None = None

    def open(self) -> None:
        """Take up the channels of the workspace. Where another server keeps them, only say so when asked."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._claim.enter_context(claimed(self._folder / "owner.lock", "the intents of this workspace"))
        except (OSError, StudiumError) as error:
            self._trouble = unwritable(self._folder, error) if isinstance(error, OSError) else error
            return
        for name in files.kept(self._folder):
            try:
                self._begin(name, files.load(self._folder, name))
            except StudiumError as error:
                _log.warning("the channel %s is left out: %s", name, error)

    async def close(self) -> None:
        """Stop asking and let go of the files; the channels stay."""
        for name in list(self._refreshers):
            await self._stop(name)
        self._claim.close()

    def names(self) -> list[str]:
        """Return the channels there are, sorted. Raises OperatorError where another server keeps them."""
        return sorted(self._there())

    def put(self, name: str, settings: Settings) -> bool:
        """Create a channel, or change one; say whether it is new. On disk when this returns.

        Raises BadRequest, CallerError (too many), OperatorError.
        """
        there, is_new = self._there(), checked_name(name) not in self._refreshers
        if is_new and len(there) >= MOST_CHANNELS:
            raise CallerError(
                f"there are {len(there)} channels",
                expected=f"at most {MOST_CHANNELS}",
                try_next="studium intents delete NAME",
            )
        files.save(self._folder, name, settings)
        if is_new:
            self._begin(name, settings)
        else:
            there[name].change(settings)
        return is_new

    def observe(self, name: str, text: str) -> None:
        """Tell what is the case now; only the newest counts. Raises UnknownChannel, BadRequest."""
        self._one(name).observe(checked_text(text, "observation"))

    async def delete(self, name: str) -> None:
        """Remove a channel; whoever reads it is told. Raises UnknownChannel."""
        refresher = self._one(name)
        files.forget(self._folder, name)
        refresher.intents.retire()
        refresher.observations.retire()
        for path in (intent_file(self._workspace, name), observation_file(self._workspace, name)):
            path.unlink(missing_ok=True)
        await self._stop(name)

    def state(self, name: str) -> Mapping[str, Any]:
        """Return a channel's intent, settings and tally, ready for JSON. Waits for nobody. Raises UnknownChannel."""
        refresher = self._one(name)
        frame = refresher.intents.newest() or Frame("", empty=True)
        earlier = refresher.intents.frame(frame.sequence - 1)
        return {
            "name": name,
            "intent": _told(seen(view_of(frame, None), time.monotonic_ns()), earlier),
            "refreshed_hz": refresher.refreshed_hz,
            "refresh": asdict(refresher.tally),
            "settings": asdict(refresher.settings),
        }

    async def glance(self) -> None:
        """Look for observations in shared memory until cancelled."""
        while True:
            for refresher in self._refreshers.values():
                refresher.glance()
            await asyncio.sleep(GLANCE_S)

    def _begin(self, name: str, settings: Settings) -> None:
        intents = created(intent_file(self._workspace, name), dressed(Frame("", empty=True), settings))
        observations = created(observation_file(self._workspace, name))
        last = intents.newest() if intents.is_of_this_boot() else None
        intents.publish(dressed(last or Frame("", empty=True), settings))
        for ring in (intents, observations):  # only now: nobody is to take old times for this boot's
            ring.adopt()
        refresher = self._refreshers[name] = Refresher(settings, intents, observations, self._ask)
        self._tasks[name] = asyncio.create_task(refresher.run(), name=f"intents of {name}")

    async def _stop(self, name: str) -> None:
        refresher, task = self._refreshers.pop(name), self._tasks.pop(name)
        task.cancel()
        try:
            await asyncio.wait({task})
        finally:
            refresher.intents.close()
            refresher.observations.close()

    def _there(self) -> dict[str, Refresher]:
        if self._trouble is not None:
            raise OperatorError(
                self._trouble.happened, expected=self._trouble.expected, try_next=self._trouble.try_next
            ) from self._trouble
        return self._refreshers

    def _one(self, name: str) -> Refresher:
        refresher = self._there().get(checked_name(name))
        if refresher is None:
            raise UnknownChannel(
                f"there is no channel {name!r}",
                expected=f"one of {', '.join(self.names())}" if self._refreshers else "a channel",
                try_next=f"studium intents create {name}",
            )
        return refresher


def _told(intent: Intent, earlier: Frame | None) -> dict[str, Any]:
    """An intent for JSON. `data` is left out: it is in `text`, and may hold numbers that others cannot write."""
    told = {name: value for name, value in asdict(intent).items() if not name.endswith("data")}
    return told | {
        "previous": intent.previous or (earlier.text if earlier else ""),
        "step": intent.step,
        "ahead": [step._asdict() for step in intent.ahead],
        "steps": [step._asdict() for step in intent.steps],
    }


@asynccontextmanager
async def keep_channels(workspace: Path, ask: Ask) -> AsyncIterator[Channels]:
    """Keep the channels of a workspace fresh with `ask` (an ensemble's `answer`) while the block runs."""
    channels = Channels(workspace, ask)
    channels.open()
    watch = asyncio.create_task(channels.glance(), name="observations")
    try:
        yield channels
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        await channels.close()
