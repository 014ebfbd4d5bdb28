"""A champion is promoted over HTTP while real workers answer, its worker is killed, and all are answered."""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import aiohttp

from studium.app import open_studium
from studium.config import load_config
from studium.records.adapters import AdapterKind
from studium.registry import EMBEDDED
from studium.web.server import serve

CONFIG = "server: {port: 0}\ncache: {enabled: no}\n"


async def test_promoted_under_traffic_killed_and_rolled_back(tmp_path: Path):
    (tmp_path / "studium.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "studium.yaml", environment={}, overrides={"workspace": tmp_path / "w"})
    (tmp_path / "made").mkdir()
    shutil.copy(EMBEDDED / "clerk.gguf", tmp_path / "made" / "model.gguf")
    async with open_studium(config) as studium, serve(studium) as url, aiohttp.ClientSession() as http:

        async def ask(number: int) -> tuple[str, str | None]:
            messages = [{"role": "user", "content": f"What is {number} + 8?"}]
            body: dict[str, Any] = {"model": "sprout", "messages": messages}
            async with http.post(f"{url}/v1/chat/completions", json=body) as response:
                assert response.status == 200
                said = (await response.json())["choices"][0]["message"]["content"]
                return said, response.headers.get("x-studium-adapter")

        async def change(what: str, **body: Any) -> dict[str, Any]:
            async with http.post(f"{url}/api/adapters/{what}/sprout", json=body) as response:
                assert response.status == 200
                return await response.json()

        assert (await ask(41))[1] is None
        await asyncio.to_thread(
            lambda: studium.registry.register(
                tmp_path / "made",
                "sprout",
                name="v1",
                base="",
                base_sha256="",
                kind=AdapterKind.MODEL,
                lineage={},
            )
        )
        traffic = [asyncio.create_task(ask(number)) for number in range(10, 30)]
        assert (await change("promote", name="v1", force=True, reason="a journey"))["answers"] == "sprout@v1"
        assert len(await asyncio.gather(*traffic)) == 20
        said, adapter = await ask(47)
        assert (adapter, said.endswith("Answer: 55")) == ("sprout/v1", True)

        (worker,) = (one for one in await studium.fleet.residences() if one.model == "sprout@v1")
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        assert (await ask(48))[0]
        async with http.get(f"{url}/api/rollouts") as response:
            told = await response.json()
        assert told["rollouts"] == [] and {"sprout", "sprout@v1"} <= told["health"].keys()
        async with http.get(f"{url}/readyz") as response:
            assert (await response.json())["models"]["sprout@v1"]["state"] == "closed"

        await change("rollback")
        assert (await ask(49))[1] is None
