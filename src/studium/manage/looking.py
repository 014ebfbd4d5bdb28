"""Something that a running Studium looks after now and then, and that no answer depends on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

log = logging.getLogger(__name__)


@asynccontextmanager
async def looking(what: str, look: Callable[[], Awaitable[None]], every_s: float) -> AsyncIterator[None]:
    """Await `look` at once and every so often until the block ends; what goes wrong is logged, and looked at again."""
    task = asyncio.create_task(_work(what, look, every_s), name=what)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _work(what: str, look: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        try:
            await look()
        except Exception:
            log.exception("%s went wrong", what)
        await asyncio.sleep(every_s)
