"""What one request costs in processor time, memory and start-up: Studium against LiteLLM's proxy.

Both stand in front of the same scripted server on this machine and are asked by the same client, in
alternating rounds of one run, plain and streamed. Studium runs its full path, with every request logged
to its store; LiteLLM runs as it installs, without a database. Both check a key. Counted is the processor time of the
server's own processes. LiteLLM comes from PyPI into an environment of its own under build/.
"""

import asyncio
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from benchmarks.report import BUILD, REPOSITORY, Aim, Report, run, say
from benchmarks.servers import Server, free_port, running, studium_command

LITELLM = "1.109.0"
LITELLM_HOME = REPOSITORY / "build" / "litellm-venv"
KEY = "sk-" + secrets.token_hex(32)
ANSWER = "The answer is forty-two, as everybody in the room already knew. " * 4
CLIENTS = 8
MIB = 2**20

SCRIPT = f"models:\n  echo: {{default: {ANSWER!r}}}\n"
STUDIUM_YAML = """
workspace: {folder}/workspace
server: {{api_keys_env: GATEWAY_KEYS}}
engines: {{upstream: {{kind: openai_api, url: "{upstream}/v1"}}}}
models: [{{name: echo, engine: upstream, source: echo}}]
students: [{{name: echo}}]
"""
LITELLM_YAML = """
model_list:
  - model_name: echo
    litellm_params: {{model: openai/echo, api_base: "{upstream}/v1", api_key: none}}
"""


def litellm_program() -> Path:
    """Install LiteLLM's proxy into its own environment unless it is there; return its program.

    Three of its own pins name releases that not every index carries; they are relaxed.
    """
    program = LITELLM_HOME / "bin" / "litellm"
    if not program.exists():
        say("installing LiteLLM's proxy (about 850 MB are downloaded once)")
        python = LITELLM_HOME / "bin" / "python"
        relaxed = LITELLM_HOME.with_suffix(".overrides")
        subprocess.run([sys.executable, "-m", "venv", str(LITELLM_HOME)], check=True)
        relaxed.write_text("certifi>=2026.1\nlitellm-proxy-extras>=0.4.1\nlitellm-enterprise>=0.1.1\n")
        subprocess.run([python, "-m", "pip", "install", "-q", "uv"], check=True)
        install = [
            "install",
            "-q",
            "--python",
            str(python),
            "--override",
            str(relaxed),
            f"litellm[proxy]=={LITELLM}",
        ]
        subprocess.run([str(LITELLM_HOME / "bin" / "uv"), "pip", *install], check=True)
    return program


def _start(stack: ExitStack, folder: Path) -> dict[str, Server]:
    """Start the scripted upstream and both gateways; all end with `stack`."""
    script = folder / "script.yaml"
    script.write_text(SCRIPT)
    ports = {name: free_port() for name in ("upstream", "studium", "litellm")}
    upstream = [sys.executable, "-m", "studium.engines.scripted.server", "--script", script]
    stack.enter_context(
        running(
            [*upstream, "--port", str(ports["upstream"])],
            port=ports["upstream"],
            health="/v1/models",
            log=folder / "upstream.log",
        )
    )
    for name, text in (("studium", STUDIUM_YAML), ("litellm", LITELLM_YAML)):
        config = folder / f"{name}.yaml"
        config.write_text(text.format(folder=folder, upstream=f"http://127.0.0.1:{ports['upstream']}"))
    studium = stack.enter_context(
        running(
            studium_command("up", "--config", folder / "studium.yaml", "--port", str(ports["studium"])),
            port=ports["studium"],
            health="/healthz",
            log=folder / "studium.log",
            environment={"GATEWAY_KEYS": KEY},
        )
    )
    litellm = stack.enter_context(
        running(
            [litellm_program(), "--config", folder / "litellm.yaml", "--port", str(ports["litellm"])],
            port=ports["litellm"],
            health="/health/liveliness",
            log=folder / "litellm.log",
            environment={
                "LITELLM_MASTER_KEY": KEY,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_TELEMETRY": "False",
            },
        )
    )
    return {"studium": studium, "litellm": litellm}


async def ask_many(url: str, requests: int, *, stream: bool) -> None:
    """Send `requests` questions from CLIENTS clients and read every answer to its end."""
    body = {"model": "echo", "messages": [{"role": "user", "content": "What is it?"}], "stream": stream}
    left: Iterator[int] = iter(range(requests))

    async def client(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
                text = await reply.text()
                ended = "[DONE]" in text if stream else "forty-two" in text
                if reply.status != 200 or not ended:
                    raise RuntimeError(f"{url} answered {reply.status}: {text[:500]}")

    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(timeout=timeout, headers={"Authorization": f"Bearer {KEY}"}) as session:
        await asyncio.gather(*(client(session) for _ in range(CLIENTS)))


def _round(server: Server, requests: int, *, stream: bool) -> float:
    """Return the processor milliseconds a request of one round took."""
    before = server.processor_seconds()
    asyncio.run(ask_many(server.url, requests, stream=stream))
    return 1000 * (server.processor_seconds() - before) / requests


def _measure(quick: bool) -> Report:
    rounds, requests = (3, 100) if quick else (9, 400)
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as name, ExitStack() as stack:
        servers = _start(stack, Path(name))
        spent: dict[tuple[str, bool], list[float]] = {
            (who, stream): [] for who in servers for stream in (False, True)
        }
        for server in servers.values():  # the first requests pay for imports and connections
            _round(server, 50, stream=False), _round(server, 50, stream=True)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for (who, stream), found in spent.items():
                found.append(_round(servers[who], requests, stream=stream))
        rows = [_row(who, server, spent) for who, server in servers.items()]
        resident = servers["studium"].resident_bytes() / MIB
    return Report(
        rows, _aims(spent, resident), [f"LiteLLM {LITELLM}; {rounds} rounds of {requests} requests each"]
    )


def _row(who: str, server: Server, spent: Mapping[tuple[str, bool], Sequence[float]]) -> Mapping[str, Any]:
    return {
        "gateway": who,
        "ms/request, plain": _spread(spent[who, False]),
        "ms/request, streamed": _spread(spent[who, True]),
        "own memory MiB (USS)": f"{server.resident_bytes() / MIB:.0f}",
        "start s": f"{server.start_seconds:.2f}",
    }


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _aims(spent: Mapping[tuple[str, bool], Sequence[float]], resident_mib: float) -> list[Aim]:
    aims = []
    for stream, what in ((False, "plain"), (True, "streamed")):
        ours, theirs = spent["studium", stream], spent["litellm", stream]
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        cost = median(ours)
        aims.append(Aim(f"ms per {what} request", cost, min(ours), max(ours), "<= 0.6", cost <= 0.6))
        times = median(ratios)
        aims.append(Aim(f"LiteLLM / Studium, {what}", times, min(ratios), max(ratios), ">= 15", times >= 15))
    met = resident_mib <= 120
    return [*aims, Aim("Studium's memory, MiB", resident_mib, resident_mib, resident_mib, "<= 120", met)]


def main() -> None:
    run("gateway", __doc__ or "", _measure)


if __name__ == "__main__":
    main()
