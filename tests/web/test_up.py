"""`studium up` as a process: it says where it is, and leaves nothing behind."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import typer
from typer.testing import CliRunner

from studium.web import up

CONFIG = """
workspace: workspace
server: {port: 0}
engines: {scripted: {kind: scripted}}
models:
  - {name: echo, engine: scripted, source: echo}
  - {name: slow, engine: scripted, source: 'slow.yaml#slow'}
students: [{name: echo}, {name: slow}]
"""
SLOW = "models: {slow: {default: 'at last', first_token_s: 30}}"
PROGRAM = "import typer; from studium.web.up import up; typer.run(up)"
SOURCES = Path(__file__).parents[2] / "src"
BOUND_S = 90


@asynccontextmanager
async def running(folder, *options):
    """Run `up` in a process of its own; yield it and the URL it announces."""
    (folder / "studium.yaml").write_text(CONFIG.replace("slow.yaml", str(folder / "slow.yaml")))
    (folder / "slow.yaml").write_text(SLOW)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        *options,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        first = (await asyncio.wait_for(process.stdout.readline(), BOUND_S)).decode()
        yield process, first.split()[-1] if first else ""
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ask(url, model):
    body = {"model": model, "messages": [{"role": "user", "content": "hello there"}]}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url + "/v1/chat/completions", json=body) as answer,
    ):
        return answer.status


async def test_up_announces_itself_serves_and_leaves_no_trace_of_running(tmp_path):
    async with running(tmp_path, "--memory-budget", "64MiB") as (process, url):
        file = tmp_path / "workspace" / "server.json"
        assert json.loads(file.read_text()) == {"pid": process.pid, "url": url}
        assert await ask(url, "echo") == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), BOUND_S) == 0
        assert not file.exists()


async def test_a_second_interrupt_ends_open_questions_at_once(tmp_path):
    async with running(tmp_path) as (process, url):
        asked = asyncio.create_task(ask(url, "slow"))
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(url + "/metrics") as response:
                    if "studium_requests_open 2" in await response.text():
                        break
        process.send_signal(signal.SIGINT)
        said = b""
        while b"stopping" not in said:
            said = await asyncio.wait_for(process.stderr.readline(), BOUND_S)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), BOUND_S) == 0
        assert await asked == 503


async def test_up_refuses_other_addresses_without_a_key_before_it_opens_anything(tmp_path):
    async with running(tmp_path, "--host", "0.0.0.0") as (process, _):
        _, errors = await asyncio.wait_for(process.communicate(), BOUND_S)
        assert process.returncode != 0 and b"no API key is set" in errors
        assert not (tmp_path / "workspace").exists()


def test_register_adds_the_command_with_its_help():
    app = typer.Typer()
    app.callback()(lambda: None)
    up.register(app)
    result = CliRunner().invoke(app, ["up", "--help"])
    assert result.exit_code == 0 and "studium up --port" in result.output
