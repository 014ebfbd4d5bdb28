"""PPO: its value head learns beside an adapter too, comes back with a run taken up again, and leaves with it."""

import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.training_speed import Size, write_random_llama
from safetensors.torch import load_file

from studium.train.config import Lora, Optimiser, Source, Validation
from studium.train.learner import Learner
from studium.train.models import load
from studium.train.preflight.compute_checks import Stopping
from studium.train.rl.options import Draws, RlRecipe
from studium.train.rl.ppo import HEAD, Ppo, add_head
from studium.train.rl.running import policy_run
from studium.train.run_folder import RunFolder, State

WHOLE_OR_ADAPTER = pytest.mark.parametrize("lora", [Lora(), Lora(rank=2)], ids=["all weights", "an adapter"])


@pytest.fixture(scope="module")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of random weights: no two of its replies are alike."""
    return write_random_llama(Size("tiny", 32, 2, 2, 48), tmp_path_factory.mktemp("model") / "babbler")


def recipe(model: str, lora: Lora = Lora(), each: int = 2, steps: int = 4) -> RlRecipe:  # noqa: B008
    return RlRecipe(
        model=model,
        data=(Source(domain="chains", levels=(2,), rows=16, teach="prompts"),),
        batch=4,
        steps=steps,
        max_tokens=128,
        optimiser=Optimiser(rate=1e-3, schedule="constant", warmup_steps=0),
        lora=lora,
        validation=Validation(every_steps=0),
        draws=Draws(each=each, most_tokens=16),
    )


def train(options: RlRecipe, folder: RunFolder) -> State:
    def reward(row: object, text: str, ended: bool) -> float:
        return zlib.crc32(text.encode()) % 1000 / 999

    torch.set_num_threads(1)
    made = policy_run("rlvr", options, folder, lambda line: None, reward=reward, at_line=False, ppo=Ppo())
    return made.ended.state


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    """Return the trained weights of a run's last saved state."""
    kept: Any = torch.load(RunFolder(folder).state_file, weights_only=False)
    return kept["stage"]["learner"]["weights"]


def head_in(folder: Path) -> list[torch.Tensor]:
    return [one for name, one in weights_in(folder).items() if f"{HEAD}." in name]


@WHOLE_OR_ADAPTER
def test_the_value_head_learns(babbler: str, lora: Lora, tmp_path: Path):
    """The adapter's view froze it: all values stayed 0, and PPO had no critic."""
    assert train(recipe(babbler, lora), RunFolder(tmp_path)) is State.DONE
    assert [bool(one.any()) for one in head_in(tmp_path)] == [True, True]


@WHOLE_OR_ADAPTER
def test_a_run_taken_up_again_is_the_same_run_value_head_and_all(babbler: str, lora: Lora, tmp_path: Path):
    options = recipe(babbler, lora)
    train(options, RunFolder(tmp_path / "whole"))
    assert train(options, Stopping(tmp_path / "parts", 2)) is State.STOPPED
    assert [bool(one.any()) for one in head_in(tmp_path / "parts")] == [True, True]
    assert train(options, RunFolder(tmp_path / "parts")) is State.DONE
    whole, parts = weights_in(tmp_path / "whole"), weights_in(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(one, parts[name]) for name, one in whole.items())
    files = [tmp_path / name / "checkpoint/model.safetensors" for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


@WHOLE_OR_ADAPTER
def test_what_is_saved_to_serve_has_no_value_head(babbler: str, lora: Lora, tmp_path: Path):
    train(recipe(babbler, lora, steps=1), RunFolder(tmp_path))
    saved = load_file(tmp_path / "checkpoint/model.safetensors")
    assert saved.keys() == load_file(Path(babbler) / "model.safetensors").keys()


def test_an_adapter_is_written_without_the_value_head_that_learns_beside_it(babbler: str, tmp_path: Path):
    """As a server is given it to draw with."""
    loaded = load(babbler)
    add_head(loaded.model)
    learner = Learner(loaded, Optimiser(), Lora(rank=2), steps=1, seed=1, beside=(HEAD,))
    assert any(HEAD in name for name in learner.keep())
    learner.model.save_pretrained(tmp_path)
    assert all("lora_" in name for name in load_file(tmp_path / "adapter_model.safetensors"))
    assert HEAD not in (tmp_path / "adapter_config.json").read_text()


def test_one_reply_to_a_prompt_teaches(babbler: str, tmp_path: Path):
    """Groups of one were left out as not scored: with draws.each 1 no step changed anything."""
    train(recipe(babbler, each=1, steps=1), RunFolder(tmp_path))
    (told,) = RunFolder(tmp_path).lines("metrics.jsonl")
    assert (told["groups"], told["groups_unscored"], told["updated"]) == (4, 0, 1.0)
    saved = (tmp_path / "checkpoint/model.safetensors").read_bytes()
    assert saved != (Path(babbler) / "model.safetensors").read_bytes()
