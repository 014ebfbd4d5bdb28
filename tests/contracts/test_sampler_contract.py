"""What every sampler of the reinforcement-learning engine has to do, held to the model itself.

The llama.cpp worker and the server behind the HTTP sampler are real processes with the embedded student clerk, whose
heads are wide enough for vLLM on a processor.
"""

import atexit
import copy
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from benchmarks.training_speed import Size, write_random_llama
from tests.fixtures import vllm_server

from studium.engines.llamacpp.process import WorkerSettings, start_worker
from studium.train.config import Lora, Source
from studium.train.data import rows_of
from studium.train.export import write_model
from studium.train.learner import with_lora
from studium.train.models import backend, load, save
from studium.train.rl.asking import Asker
from studium.train.rl.generating import GeneratingSampler
from studium.train.rl.http_sampler import HttpSampler
from studium.train.rl.llamacpp_sampler import LlamaCppSampler, aligned
from studium.train.rl.options import Server
from studium.train.rl.rollouts import line_ends
from studium.train.rl.samplers import ModelSampler, Sampler
from studium.train.rows import prompt_ids
from studium.train.tokenizer import END as END_TEXT
from studium.train.tokenizer import token_id

LOADED = load("clerk")
ROWS = rows_of([Source(domain="arithmetic", levels=(1, 2), rows=10, teach="prompts")])
PROMPTS = [prompt_ids(LOADED.tokenizer, row) for row in ROWS]
# What clerk is not sure how to go on with.
OPEN = [1, 58, 71]
END = token_id(backend(LOADED.tokenizer), END_TEXT)
# Keys and values in 16 bits.
ROUNDING = {"own": 1e-4, "fast": 1e-4, "transformers": 1e-4, "llamacpp": 2e-2, "http": 2e-2, "vllm": 1e-3}
KEY = "STUDIUM_TEST_SAMPLER_KEY"


@pytest.fixture(scope="module", params=["own", "fast", "transformers", "llamacpp", "http", "vllm"])
def named(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Sampler]]:
    folder = tmp_path_factory.mktemp("sampler")
    match request.param:
        case "own":
            yield "own", ModelSampler(LOADED.model, LOADED.tokenizer, rows=24)
        case "fast":
            yield "fast", ModelSampler(LOADED.model, LOADED.tokenizer, rows=24, fast=True)
        case "transformers":
            yield "transformers", GeneratingSampler(LOADED.model, LOADED.tokenizer, rows=24)
        case "llamacpp":
            sampler = LlamaCppSampler(LOADED.model, LOADED, folder, server=Server(at_once=4, timeout_s=60))
            yield "llamacpp", sampler
            sampler.close()
        case "vllm":
            yield from in_vllm(folder)
        case _:
            yield from served(folder)


def served(folder: Path) -> Iterator[tuple[str, Sampler]]:
    model: Any = LOADED.model
    write_model(model, backend(LOADED.tokenizer), folder / "clerk.gguf", name="clerk", precision="F32")
    settings = WorkerSettings(
        "clerk",
        str(folder / "clerk.gguf"),
        256,
        8,
        1,
        0,
        128,
        embeddings=False,
        pooling_mean=False,
        adapters=(),
    )
    asker = Asker(1, 60)
    worker = asker.wait(start_worker(settings))
    os.environ[KEY] = worker.api_key
    sampler = HttpSampler(
        LOADED.model, LOADED.tokenizer, worker.url, Server(api_key_env=KEY, at_once=4, timeout_s=60), folder
    )
    yield "http", sampler
    sampler.close()
    asker.wait(worker.end())
    asker.close()


def in_vllm(folder: Path) -> Iterator[tuple[str, Sampler]]:
    sampler = HttpSampler(LOADED.model, LOADED.tokenizer, vllm_url(), Server(timeout_s=120), folder)
    yield "vllm", sampler
    sampler.close()


def vllm_url() -> str:
    """Return the address of a real vLLM that serves clerk and takes adapters."""
    words = ["serve", "./clerk", "--max-model-len", "512", "--enable-lora", "--max-lora-rank", "8"]
    return vllm_server.served(words, clerk_folder)


@cache
def clerk_folder() -> Path:
    """Return a folder that holds clerk as transformers reads it; it is gone when this process ends."""
    folder = Path(mkdtemp(prefix="studium-clerk-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    save(LOADED, folder / "clerk")
    return folder


def test_greedy_replies_are_those_of_the_policy(named: tuple[str, Sampler]):
    own = ModelSampler(LOADED.model, LOADED.tokenizer)
    expected = [list(draw.tokens) for (draw,) in own.draw(PROMPTS, most_tokens=60, temperature=0.0)]
    drawn = named[1].draw(PROMPTS, most_tokens=60, temperature=0.0)
    assert [list(draw.tokens) for (draw,) in drawn] == expected
    assert all(draw.ended and draw.tokens[-1] == END for (draw,) in drawn)


def test_log_probabilities_are_those_drawn_with(named: tuple[str, Sampler]):
    name, sampler = named
    temperature = 1.0 if name in ("http", "vllm") else 1.7
    prompts = [*PROMPTS[:3], OPEN]
    drawn = sampler.draw(prompts, most_tokens=40, each=3, temperature=temperature, seed=4)
    assert [len(draws) for draws in drawn] == [3] * 4
    assert len({tuple(draw.tokens) for draws in drawn for draw in draws}) > 4
    for prompt, draws in zip(prompts, drawn, strict=True):
        for draw in draws:
            expected = of_model([*prompt, *draw.tokens], len(prompt), temperature)
            assert list(draw.logprobs) == pytest.approx(expected, abs=ROUNDING[name])


def test_a_reply_ends_with_a_stop_that_it_holds_or_is_cut_off(named: tuple[str, Sampler]):
    stops = line_ends(LOADED.tokenizer)
    for (draw,) in named[1].draw(PROMPTS, most_tokens=60, temperature=0.0, stops=stops):
        assert draw.ended and draw.tokens[-1] in stops | {END}
        assert not stops & set(draw.tokens[:-1])
        assert len(draw.logprobs) == len(draw.tokens)
    for (draw,) in named[1].draw(PROMPTS, most_tokens=3, temperature=0.0):
        assert not draw.ended and len(draw.tokens) == 3


def test_tokens_are_as_frequent_as_the_policy_says(named: tuple[str, Sampler]):
    """A chi-square test at one in a thousand, with a fixed seed, on a prompt that leaves much open."""
    number, prompt = 600, OPEN
    (drawn,) = named[1].draw([prompt], most_tokens=1, each=number, seed=7)
    with torch.no_grad():
        model: Any = LOADED.model
        chances = model(torch.tensor([prompt])).logits[0, -1].softmax(-1).tolist()
    counts = Counter(draw.tokens[0] for draw in drawn)
    likely = [token for token, chance in enumerate(chances) if chance * number >= 5]
    seen = [counts[token] for token in likely] + [number - sum(counts[token] for token in likely)]
    expected = [chances[token] * number for token in likely]
    expected.append(number - sum(expected))
    statistic = sum((a - b) ** 2 / b for a, b in zip(seen, expected, strict=True))
    freedom = len(likely)
    # Wilson and Hilferty's approximation of the 0.999 quantile.
    spread = 2 / (9 * freedom)
    assert freedom >= 5 and statistic < freedom * (1 - spread + 3.09 * spread**0.5) ** 3


def test_tokens_that_llamacpp_tells_no_probability_of_are_not_known():
    """It leaves out beginnings of characters: a model of random weights once seemed 0.2 away from itself."""
    known = aligned([7, 200, 8, 8], [(7, -0.1), (8, -0.2), (8, -0.3)])
    assert known[0] == -0.1 and math.isnan(known[1]) and known[2:] == [-0.2, -0.3]
    doubtful = aligned([7, 8, 8], [(7, -0.1), (8, -0.2)])
    assert doubtful[0] == -0.1 and all(map(math.isnan, doubtful[1:]))


def test_a_worker_is_as_near_to_a_model_that_babbles_in_bytes(tmp_path: Path):
    babbler = load(write_random_llama(Size("tiny", 64, 2, 2, 96), tmp_path / "model"))
    sampler = LlamaCppSampler(babbler.model, babbler, tmp_path, server=Server(at_once=4, timeout_s=60))
    (draws,) = sampler.draw([PROMPTS[0]], most_tokens=40, each=6, seed=3)
    sampler.close()
    gaps = [
        abs(expected - told)
        for draw in draws
        for expected, told in zip(
            of_model([*PROMPTS[0], *draw.tokens], len(PROMPTS[0]), 1.0, babbler.model),
            draw.logprobs,
            strict=True,
        )
        if not math.isnan(told)
    ]
    assert len(gaps) > 100 and max(gaps) < ROUNDING["llamacpp"]


def test_vllm_answers_as_the_adapter_under_training_and_keeps_one_of_it(tmp_path: Path):
    adapted: Any = with_lora(copy.deepcopy(LOADED.model), Lora(rank=4, alpha=8.0)).eval()
    sampler = HttpSampler(
        adapted, LOADED.tokenizer, vllm_url(), Server(adapter="policy", timeout_s=120), tmp_path
    )
    without = of_model([*PROMPTS[0], 40, 41, 42], len(PROMPTS[0]), 1.0)
    torch.manual_seed(5)
    for step in (0, 1):
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.05)
        sampler.follow(step)
        assert [one.name for one in tmp_path.iterdir()] == [f"policy-{step}"]
        for prompt, draws in zip(
            PROMPTS[:4], sampler.draw(PROMPTS[:4], most_tokens=40, each=3, seed=4), strict=True
        ):
            for draw in draws:
                ids = [*prompt, *draw.tokens]
                expected = of_model(ids, len(prompt), 1.0, adapted)
                assert list(draw.logprobs) == pytest.approx(expected, abs=ROUNDING["vllm"])
        changed = of_model([*PROMPTS[0], 40, 41, 42], len(PROMPTS[0]), 1.0, adapted)
        assert max(abs(a - b) for a, b in zip(changed, without, strict=True)) > 0.1
        without = changed
    sampler.close()


def of_model(ids: list[int], prompt: int, temperature: float, model: Any = LOADED.model) -> list[float]:
    with torch.no_grad():
        logprobs = (model(torch.tensor([ids])).logits[0] / temperature).log_softmax(-1)
    return [float(logprobs[at - 1, ids[at]]) for at in range(prompt, len(ids))]
