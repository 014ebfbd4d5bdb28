"""What an export answers in vLLM: the command it is to be served with, run on loopback, asked, and ended.

vLLM asks for versions of its own and stands in an environment of its own; its program only has to be on the PATH. It
answers through the same client that draws replies from it in training.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from studium.engines.llamacpp.process import free_port
from studium.errors import EngineDied, EngineTimeout, StudiumError
from studium.fleet.leased_command import ending_with_parent
from studium.train.exporting.parity import MOST_TOKENS, Reference, Said, said_of
from studium.train.rl.asking import Asker
from studium.train.rl.http_sampler import HttpSampler
from studium.train.rl.options import Server

PROGRAM = "vllm"
START_S, ASK_S, END_S = 600.0, 120.0, 20.0
LOOK_S = 0.5
CONTEXT_TOKENS = 512
_CHARS_OF_LOG = 300
# What vLLM puts before a line: the process, and where in its code that is.
_WRITER = re.compile(r"^\(\w+ pid=\d+\)(?: [A-Z]+ \S+ \S+ \[\S+\])?")
_ERROR = re.compile(r"\w*(?:Error|Exception): .*")
# Beside the export's own words: little memory, nothing compiled for a few replies, and the files' own precision.
_SMALL = {
    "--host": "127.0.0.1",
    "--max-num-seqs": 8,
    "--dtype": "float32",
    "--kv-cache-memory-bytes": "1G",
}


def vllm_replies(words: Sequence[str], folder: Path, name: str, reference: Reference) -> list[Said]:
    """Return the greedy replies that `vllm WORDS`, run in `folder`, gives under `name`. Blocks, a minute or more.

    Raises EngineDied or EngineTimeout, with vLLM's own last words, where it does not start or does not answer.
    """
    model = reference.loaded
    with TemporaryDirectory() as elsewhere:
        log = Path(elsewhere) / "vllm.log"
        with serving([*words, "--max-model-len", str(CONTEXT_TOKENS)], folder, log) as url:
            sampler = HttpSampler(
                model.model,
                model.tokenizer,
                url,
                Server(model=name, at_once=4, timeout_s=ASK_S),
                Path(elsewhere),
            )
            try:
                drawn = sampler.draw(reference.ids, most_tokens=MOST_TOKENS, temperature=0.0)
            except StudiumError as error:
                raise EngineDied(f"vLLM answered nothing ({error.happened}); {_cause(log)}") from error
            finally:
                sampler.close()
    return [said_of(model.tokenizer, draw) for (draw,) in drawn]


@contextmanager
def serving(words: Sequence[str], folder: Path, log: Path) -> Iterator[str]:
    """Run vLLM and yield its address once it answers; ends it, and what it started, in any case."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise EngineDied(f"no {PROGRAM} on the PATH", try_next="put the bin folder of its environment there")
    port = free_port()
    flags = [str(part) for flag in (_SMALL | {"--port": port}).items() for part in flag]
    settings = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [program, *words, *flags, "--enforce-eager"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=settings | os.environ,
            process_group=0,
            preexec_fn=ending_with_parent(),  # noqa: PLW1509
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(process, url, log)
        yield url
    finally:
        _end(process)


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    asker = Asker(1, 5.0)
    try:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if process.poll() is not None:
                raise EngineDied(f"vLLM ended with status {process.returncode}; {_cause(log)}")
            with suppress(StudiumError):
                asker.ask(f"{url}/v1/models", [None], name=PROGRAM, headers={})
                return
            time.sleep(LOOK_S)
        raise EngineTimeout(f"vLLM did not start within {START_S:.0f} s; {_cause(log)}")
    finally:
        asker.close()


def _cause(log: Path) -> str:
    """Return the first error vLLM told of, which the later ones follow from, with what it said of it."""
    told = log.read_text(errors="replace")
    lines = [line for line in told.splitlines() if line.strip() and " WARNING " not in line]
    found = [at for at, line in enumerate(lines) if _ERROR.search(line)]
    if not found:
        return f"it said: {lines[-1][:_CHARS_OF_LOG]}" if lines else "it said nothing"
    first = _ERROR.search(lines[found[0]])
    assert first is not None
    words = " ".join([first[0], *(_WRITER.sub("", line).strip() for line in lines[found[0] + 1 :])])
    words = words.partition(" Traceback ")[0]
    return f"it said: {words[:_CHARS_OF_LOG]}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the server with all it started: it is told to first."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
