"""A Studium of its own for one benchmark: fresh workspace, declared budget, gone afterwards."""

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from studium.app import Studium, open_studium
from studium.config import load_config


@asynccontextmanager
async def fresh_studium(text: str = "", **overrides: object) -> AsyncIterator[Studium]:
    """Open a Studium on an empty workspace; `text` is its studium.yaml, `overrides` dotted settings."""
    with tempfile.TemporaryDirectory(prefix="studium-benchmark-") as folder:
        file = Path(folder) / "studium.yaml"
        file.write_text(text or "{}\n")
        given: Mapping[str, object] = {"workspace": folder, "cache.enabled": "false", **overrides}
        config = load_config(file, environment={}, overrides=given)
        async with open_studium(config) as studium:
            yield studium
