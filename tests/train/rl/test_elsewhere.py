"""Replies drawn by other weights: how they count, when a sampler is stale, and what a bad server does to a run.

The server that speaks as vLLM does is ours, in this process; the contract of samplers is held to real llama.cpp workers
in tests/contracts/test_sampler_contract.py.
"""

import asyncio
import os
import signal
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp import web
from benchmarks.training_speed import Size, write_random_llama

from studium.errors import BadReply, ConfigurationError, EngineDied, OperatorError
from studium.train.config import Lora, Optimiser, Source, Validation
from studium.train.course import Checkpoint
from studium.train.learner import Learner
from studium.train.models import load
from studium.train.rl.choosing import sampler_of
from studium.train.rl.llamacpp_sampler import LlamaCppSampler
from studium.train.rl.options import Draws, RlRecipe, Server
from studium.train.rl.running import policy_run
from studium.train.rl.samplers import ModelSampler
from studium.train.run_folder import RunFolder

PROMPTS = [[1, 40, 2, 80, 90], [1, 50, 2]]


class Vllm:
    """Answers completions as vLLM does, from a model; remembers what it was told to load."""

    def __init__(self, model: str) -> None:
        loaded = load(model)
        self.model = model
        self.sampler = ModelSampler(loaded.model, loaded.tokenizer)
        self.loaded: list[str] = []
        self.asked: list[str] = []
        self.shift = 0.0
        self.answer: Mapping[str, Any] | None = None
        self.url = ""

    async def complete(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.asked.append(asked["model"])
        if self.answer is not None:
            return web.json_response(self.answer)
        ((draw,),) = self.sampler.draw(
            [asked["prompt"]],
            most_tokens=asked["max_tokens"],
            temperature=asked["temperature"],
            stops=frozenset(asked["stop_token_ids"]),
            seed=asked["seed"],
        )
        told = {"token_logprobs": [one + self.shift for one in draw.logprobs]}
        return web.json_response(
            {"choices": [{"index": 0, "token_ids": list(draw.tokens), "logprobs": told}]}
        )

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "served"}]})

    async def load(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert (Path(asked["lora_path"]) / "adapter_model.safetensors").exists()
        self.loaded.append(asked["lora_name"])
        return web.Response(text="Success: LoRA adapter added successfully.")

    async def unload(self, request: web.Request) -> web.Response:
        self.loaded.remove((await request.json())["lora_name"])
        return web.Response(text="Success: LoRA adapter removed successfully.")


@pytest.fixture(scope="module")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of random weights: no two of its replies are alike."""
    return write_random_llama(Size("tiny", 32, 2, 2, 48), tmp_path_factory.mktemp("model") / "babbler")


@pytest.fixture
def vllm(babbler: str) -> Iterator[Vllm]:
    server, loop, ready = Vllm(babbler), asyncio.new_event_loop(), threading.Event()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/completions", server.complete)
        app.router.add_get("/v1/models", server.models)
        app.router.add_post("/v1/load_lora_adapter", server.load)
        app.router.add_post("/v1/unload_lora_adapter", server.unload)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        return runner

    def serve() -> None:
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(10)
    yield server
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def recipe(model: str, draws: Draws, **changed: Any) -> RlRecipe:
    settings: dict[str, Any] = {
        "model": model,
        "data": (Source(domain="chains", levels=(2,), rows=16, teach="prompts"),),
        "batch": 2,
        "steps": 2,
        "max_tokens": 128,
        "optimiser": Optimiser(rate=1e-4, schedule="constant", warmup_steps=0),
        "validation": Validation(every_steps=0),
    }
    return RlRecipe(**{**settings, "draws": replace(draws, each=4, most_tokens=24, most_rounds=1), **changed})


def train(options: RlRecipe, path: Path) -> Checkpoint:
    def reward(row: object, text: str, ended: bool) -> float:
        return zlib.crc32(text.encode()) % 1000 / 999

    torch.set_num_threads(1)
    return policy_run("rlvr", options, RunFolder(path), lambda line: None, reward=reward, at_line=False)


def metrics(path: Path) -> list[Mapping[str, Any]]:
    return list(RunFolder(path).lines("metrics.jsonl"))


def test_a_run_learns_from_what_a_server_draws_and_says_how_far_it_is_away(vllm: Vllm, tmp_path: Path):
    train(recipe(vllm.model, Draws(sampler="http", url=vllm.url)), tmp_path / "run")
    first, second = metrics(tmp_path / "run")
    assert first["drift"] < 1e-4
    assert first["drift"] < second["drift"] < 0.1
    assert set(vllm.asked) == {"served"}


def test_a_stale_sampler_without_a_way_to_renew_it_stops_the_run_before_anything_is_learned(
    vllm: Vllm, tmp_path: Path
):
    vllm.shift = -0.5
    with pytest.raises(OperatorError, match=r"0\.5 apart .*most_drift = 0\.1"):
        train(recipe(vllm.model, Draws(sampler="http", url=vllm.url)), tmp_path / "run")
    assert metrics(tmp_path / "run") == []
    vllm.shift = 0.0
    assert train(recipe(vllm.model, Draws(sampler="http", url=vllm.url)), tmp_path / "run").folder is not None


def test_vllm_is_given_the_adapter_under_training_and_forgets_the_one_before(vllm: Vllm, tmp_path: Path):
    draws = Draws(sampler="http", url=vllm.url, server=Server(adapter="policy"))
    train(recipe(vllm.model, draws, lora=Lora(rank=2), steps=3), tmp_path / "run")
    assert vllm.loaded == ["policy-2"]
    assert list(dict.fromkeys(vllm.asked)) == ["policy-0", "policy-1", "policy-2"]


def test_an_answer_of_another_shape_is_told_with_what_to_do(vllm: Vllm, tmp_path: Path):
    vllm.answer = {"choices": [{"text": "4"}]}
    with pytest.raises(BadReply, match=r"token ids.*draws\.sampler: own"):
        train(recipe(vllm.model, Draws(sampler="http", url=vllm.url)), tmp_path / "run")


def test_a_server_that_is_not_there_is_told_at_once(tmp_path: Path):
    with pytest.raises(EngineDied):
        train(recipe("sprout", Draws(sampler="http", url="http://127.0.0.1:9")), tmp_path / "run")


@pytest.mark.parametrize(
    ("draws", "says"),
    [
        (Draws(sampler="http"), "url"),
        (Draws(url="http://127.0.0.1:1"), "url"),
        (Draws(sampler="http", url="http://x", server=Server(adapter="a")), "no adapter is trained"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(draws: Draws, says: str, tmp_path: Path):
    options = recipe("sprout", draws)
    learner = Learner(load("sprout"), options.optimiser, options.lora, steps=1, seed=1)
    with pytest.raises(ConfigurationError, match=says):
        sampler_of(options, learner, tmp_path)


def test_replies_of_unlike_weights_count_by_their_ratio_and_no_more_than_told(vllm: Vllm, tmp_path: Path):
    """The sampler says every token was 1.5 times as likely as it was: their part of the loss shrinks by that."""
    gradients: dict[str, float] = {}
    for name, shift, most in (
        ("equal", 0.0, 2.0),
        ("shifted", 0.405465, 2.0),
        ("uncorrected", 0.405465, 0.0),
    ):
        vllm.shift = shift
        draws = Draws(sampler="http", url=vllm.url, most_drift=1.0, correct_most=most)
        train(recipe(vllm.model, draws, steps=1), tmp_path / name)
        gradients[name] = metrics(tmp_path / name)[0]["gradient_norm"]
    assert gradients["shifted"] == pytest.approx(gradients["equal"] / 1.5, rel=1e-3)
    assert gradients["uncorrected"] == pytest.approx(gradients["equal"], rel=1e-3)


@pytest.mark.parametrize("lora", [Lora(), Lora(rank=2)], ids=["all weights", "an adapter"])
def test_a_llamacpp_worker_follows_the_policy_and_is_replaced_when_it_dies(lora: Lora, tmp_path: Path):
    learner = Learner(load("sprout"), Optimiser(), lora, steps=1, seed=1)
    tokenizer = learner.loaded.tokenizer
    sampler = LlamaCppSampler(
        learner.model, learner.loaded, tmp_path, server=Server(at_once=2, timeout_s=60), renew_every=2
    )
    own = ModelSampler(learner.model, tokenizer)

    def greedy(drawn: Any) -> list[list[int]]:
        return [list(draw.tokens) for (draw,) in drawn.draw(PROMPTS, most_tokens=12, temperature=0.0)]

    sampler.follow(0)
    before = greedy(sampler)
    assert before == greedy(own)
    with torch.no_grad():
        for weight in learner.trained:
            weight.add_(0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
    assert greedy(own) != before
    sampler.follow(1)
    assert greedy(sampler) == before
    sampler.follow(2)
    assert greedy(sampler) == greedy(own)
    assert sampler.worker_pid is not None
    os.kill(sampler.worker_pid, signal.SIGKILL)
    assert greedy(sampler) == greedy(own)
    sampler.close()
    assert sampler.worker_pid is None
