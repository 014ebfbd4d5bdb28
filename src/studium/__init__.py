"""Studium: a team of small language models, asked as few at a time as settle a question.

    import studium

    print(studium.ask("What is 47 + 58?").text)          # opens a workspace, asks, closes it

    async with studium.open() as team:                   # keeps models in memory between questions
        answer = await team.ask("Sort: 7, 3, 9", complexity="simple")

    from studium.intents import open_channel             # the last intent in microseconds, for frame loops

Importing this package reads no file and starts nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studium.app import Studium
    from studium.records.answers import Answer

__version__ = "0.1.0"
__all__ = ["ask", "open"]


@asynccontextmanager
async def open(config: Path | str | None = None) -> AsyncIterator[Studium]:
    """Open a workspace: the configuration in `config`, else where the command line would find it.

    Raises ConfigurationError or StoreUnavailable.
    """
    import os

    from studium.app import open_studium
    from studium.config import load_config

    async with open_studium(load_config(Path(config) if config else None, environment=os.environ)) as opened:
        yield opened


def ask(question: str, *, config: Path | str | None = None, **choices: Any) -> Answer:
    """Ask one question and return the answer with its evidence; `choices` are fields of `Query`.

    Blocks; loads models and unloads them again. For several questions use `open`.
    """
    import asyncio

    async def once() -> Answer:
        async with open(config) as opened:
            return await opened.ask(question, **choices)

    return asyncio.run(once())
