"""One server of `benchmarks.swap`: a whole Studium whose scripted models stand behind registered adapters.

    python -m benchmarks.swap_house FOLDER ROLE NAME...

Serves FOLDER/studium.yaml on a free port, with each FOLDER/NAME registered as adapter ROLE/NAME; prints its address.
Scripts cannot be registered, so each is a real GGUF file, and where the roster is scripted, the engine is told what the
model made of it says. Each line on standard input asks for the models in memory, and gets one line of JSON: their
workers' process ids by name. Ends with standard input.
"""

import asyncio
import json
import sys
from pathlib import Path

from studium.app import open_studium
from studium.config import load_config
from studium.engines.scripted import ModelScript, ScriptedEngine
from studium.records.adapters import AdapterKind
from studium.telemetry import configure_logging
from studium.web.server import serve

FIRST_TOKEN_S, TOKEN_S = 0.02, 0.02
WORDS = "word by word"


def script(name: str) -> ModelScript:
    """Return a model that says who it is, in some 150 ms."""
    return ModelScript(default=(f"I am {name}, {WORDS}.",), first_token_s=FIRST_TOKEN_S, token_s=TOKEN_S)


async def main(folder: Path, role: str, names: list[str]) -> None:
    """Serve until standard input ends."""
    configure_logging(sys.stderr, level="error")
    config = load_config(
        folder / "studium.yaml", environment={}, overrides={"workspace": folder / "workspace"}
    )
    served = {str(config.workspace / "adapters" / role / name / "model.gguf"): script(name) for name in names}
    engines = {"scripted": ScriptedEngine({role: script("own"), **served})} if config.students else None
    loop = asyncio.get_running_loop()
    asked = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    async with open_studium(config, engines) as studium, serve(studium) as url:
        for name in names:
            studium.registry.register(
                folder / name,
                role,
                name=name,
                base=role,
                base_sha256="",
                kind=AdapterKind.MODEL,
                lineage={},
            )
        print(url, flush=True)
        while await asked.readline():
            print(json.dumps({one.model: one.pid for one in await studium.fleet.residences()}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
