"""A bill that cannot run away: a real server, a paid model behind a real socket, and students that cost nothing."""

import asyncio
import json
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from benchmarks.servers import studium_up
from tests.cli.roster import studium

from studium.engines.scripted.script import Script, says
from studium.engines.scripted.server import serving
from studium.registry import EMBEDDED

CONFIG = """
workspace: state
server: {{port: 0}}
engines:
  cloud:
    kind: openai_api
    url: {url}/v1
    prices: {{large-1: {{prompt_usd_per_million: 5, completion_usd_per_million: 20}}}}
models:
  - {{name: large, engine: cloud, source: large-1}}
  - {{name: clerk, engine: llamacpp, source: {embedded}/clerk.gguf}}
  - {{name: abacus, engine: llamacpp, source: {embedded}/abacus.gguf}}
students: [{{name: large}}, {{name: clerk}}, {{name: abacus}}]
governor: {{usd_per_day: 0.025, max_tokens: 1000}}
"""
FRANCE = {"model": "large", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
SUM = {
    "model": "auto",
    "messages": [{"role": "user", "content": "What is 47 + 58?"}],
    "studium": {"students": ["large", "clerk", "abacus"]},
}


def post(url: str, path: str, body: dict[str, Any]) -> tuple[int, Any, Any]:
    request = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response), response.headers
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers


def governor(folder: Path, *arguments: str) -> Any:
    done = studium("governor", *arguments, "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def of_day(standing: Any) -> Any:
    return next(use for use in standing["usage"] if use["name"] == "usd_per_day")


@pytest.fixture
async def place(tmp_path):
    async with serving(Script({"large-1": says("It is Paris, as everybody knows.")})) as cloud:
        (tmp_path / "studium.yaml").write_text(CONFIG.format(url=cloud.url, embedded=EMBEDDED))
        yield tmp_path, cloud.seen


async def test_after_the_cap_paid_students_are_refused_and_the_others_answer(place):
    folder, seen = place
    await asyncio.to_thread(walk, folder, seen)


def walk(folder: Path, seen: Any) -> None:
    with studium_up(folder) as (url, process):
        status, answer, _ = post(url, "/v1/chat/completions", FRANCE)
        told = answer["studium"]["notes"]["governor"]
        assert status == 200 and 0 < told["spent_usd"] < told["reserved_usd"] <= 0.025
        assert told["shortened"] == {"large": 1000}
        spent = told["spent_usd"]
        assert of_day(governor(folder))["spent"] == pytest.approx(spent)

        governor(folder, "set", "usd_per_day=0.01")
        asked = sum(one.path.endswith("completions") for one in seen)
        status, answer, headers = post(url, "/v1/chat/completions", FRANCE)
        assert status == 402 and headers["x-should-retry"] == "false"
        assert answer["error"]["code"] == "spending_limit"
        assert "usd_per_day is 0.01 USD" in answer["error"]["message"]

        status, answer, _ = post(url, "/v1/chat/completions", SUM)
        fates = {member["student"]: member["fate"] for member in answer["studium"]["members"]}
        assert status == 200 and "105" in answer["choices"][0]["message"]["content"]
        assert fates.get("large", "refused") == "refused" and "answered" in fates.values()
        assert sum(one.path.endswith("completions") for one in seen) == asked, "a refused model was called"
        process.send_signal(signal.SIGKILL)

    standing = governor(folder)  # nobody runs: the store tells
    assert standing["settings"]["usd_per_day"] == 0.01
    assert standing["sources"]["usd_per_day"] == "changed at run time"
    assert of_day(standing)["spent"] == pytest.approx(spent)
    with studium_up(folder) as (url, _):
        assert post(url, "/v1/chat/completions", FRANCE)[0] == 402
        status, standing, _ = post(url, "/api/config/governor", {"reset": ["usd_per_day"]})
        assert status == 200 and standing["settings"]["usd_per_day"] == 0.025
        assert post(url, "/v1/chat/completions", FRANCE)[0] == 200
        changes = [(one["name"], one["new"], one["by"]) for one in standing["changes"]]
        assert changes[0] == ("usd_per_day", None, "local")
