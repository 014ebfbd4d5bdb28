"""DPO and KTO: they are what plain TRL does, they resume exactly, keep old skills, and refuse bad pairs."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from studium.errors import ConfigurationError
from studium.train.config import Lora, Optimiser, Replay, Source, Validation
from studium.train.data import rows_of
from studium.train.models import load
from studium.train.preferences.pairs import Pair, read_pairs, write_pairs
from studium.train.run_folder import RunFolder, State
from studium.train.stages import dpo, kto
from studium.train.trl_bridge import GivenRecipe, checkpointing_setting

torch = pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

OLD = Source(domain="sorting", rows=16, levels=(1,), seed=4)
PROBLEMS = Source(domain="arithmetic", rows=24, levels=(1,), seed=5)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Right solutions over ones whose answer is wrong by one, as a file."""
    made = []
    for row in rows_of((PROBLEMS,)):
        assert row.problem is not None
        wrong = f"Answer: {int(row.problem.expected) + 1}"
        made.append(Pair(row, row.completion.rpartition("\n")[0] + "\n" + wrong, margin=1.0))
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    assert write_pairs(made, path) == 24
    return path


def settings(pairs: Path, **changed) -> dict:
    common = {
        "model": "sprout",
        "data": (Source(file=str(pairs)),),
        "batch": 8,
        "steps": 3,
        "optimiser": Optimiser(rate=3e-4, schedule="constant", warmup_steps=0),
        "validation": Validation(every_steps=0),
    }
    return {**common, **changed}


def lines(path: Path, name: str = "metrics.jsonl") -> list[dict]:
    return [orjson.loads(line) for line in (path / name).read_bytes().splitlines()]


def weights(folder: Path | None) -> dict:
    from safetensors.torch import load_file

    assert folder is not None
    return load_file(folder / "model.safetensors")


def apart(one: dict, other: dict) -> float:
    assert one.keys() == other.keys()
    return max(float((value - other[name]).abs().max()) for name, value in one.items())


def plain_settings(path: Path) -> dict:
    return {
        "output_dir": str(path),
        "max_steps": 3,
        "per_device_train_batch_size": 8,
        "learning_rate": 3e-4,
        "lr_scheduler_type": "constant",
        "adam_beta2": 0.95,
        "beta": 0.1,
        "max_length": 512,
        "bf16": False,
        "use_cpu": True,
        checkpointing_setting(): False,
        "report_to": "none",
        "logging_steps": 1,
        "save_strategy": "no",
        "train_sampling_strategy": "sequential",
        "disable_tqdm": True,
    }


def said(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


def asked(row) -> list[dict]:
    return [{"role": one.role, "content": one.content} for one in row.messages]


@pytest.mark.parametrize("sft", [0.0, 0.2])
def test_dpo_has_the_losses_and_weights_of_plain_trl(tmp_path, sft):
    from benchmarks.parity_trainers import dpo_and_trl

    found = dpo_and_trl(tmp_path, sft)
    assert found.losses < 1e-5
    assert found.chosen < 1e-3
    assert found.weights < 1e-5


def test_kto_has_the_losses_and_weights_of_plain_trl(tmp_path, pairs):
    from datasets import Dataset
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer

    ours = kto.run(kto.Options(**settings(pairs)), RunFolder(tmp_path / "ours"), lambda line: None)
    by_id = {
        row.id: (row, good)
        for pair in read_pairs((Source(file=str(pairs)),))
        for row, good in zip(pair.rows, (True, False), strict=True)
    }
    order = [by_id[one] for line in lines(tmp_path / "ours", "rows.jsonl") for one, _ in line["rows"]]
    examples = [
        {"prompt": asked(row), "completion": said(row.completion), "label": good} for row, good in order
    ]
    loaded = load("sprout")
    plain = KTOTrainer(
        loaded.model,
        ref_model=load("sprout").model,
        args=KTOConfig(**plain_settings(tmp_path / "plain")),
        train_dataset=Dataset.from_list(examples),
        processing_class=loaded.tokenizer,
    )
    plain.train()
    told = [line["loss"] for line in plain.state.log_history if "loss" in line]
    assert [line["loss"] for line in lines(tmp_path / "ours")] == pytest.approx(told, abs=1e-5)
    loaded.model.save_pretrained(tmp_path / "theirs")
    assert apart(weights(ours.folder), weights(tmp_path / "theirs")) < 1e-5


def test_dpo_makes_the_rejected_less_likely_and_with_an_sft_term_the_chosen_more(tmp_path, pairs):
    options = dpo.Options(**settings(pairs, batch=24, steps=8), sft=1.0)
    dpo.run(options, RunFolder(tmp_path / "run"), lambda line: None)
    first, *_, last = lines(tmp_path / "run")
    assert first["chosen_logprob_change"] == pytest.approx(0.0, abs=1e-5)
    assert first["preferred"] == pytest.approx(0.0, abs=0.5)
    assert last["chosen_logprob_change"] > 0.0
    assert last["rejected_logprob_change"] < -0.5
    assert last["preferred"] == 1.0


def test_kto_tells_good_from_bad_better_than_before(tmp_path, pairs):
    options = kto.Options(**settings(pairs, batch=48, steps=8))
    kto.run(options, RunFolder(tmp_path / "run"), lambda line: None)
    first, *_, last = lines(tmp_path / "run")
    margins = [line["good_logprob"] - line["bad_logprob"] for line in (first, last)]
    assert margins[1] > margins[0] + 0.5


def test_an_adapters_reference_is_its_base_and_only_the_adapter_is_trained(tmp_path, pairs):
    """TRL would add a second adapter for the reference; what is trained and kept is one."""
    for stage, options in ((dpo, dpo.Options), (kto, kto.Options)):
        path = tmp_path / options.__module__.rpartition(".")[2]
        ended = stage.run(options(**settings(pairs, lora=Lora(rank=4))), RunFolder(path), lambda line: None)
        assert ended.ended.state is State.DONE
        from safetensors.torch import load_file

        kept = load_file(path / "adapter" / "adapter_model.safetensors")
        assert not [name for name in kept if "ref" in name.split(".")]
        assert apart(weights(ended.folder), weights_of_base(tmp_path)) > 1e-5
    full = lines(tmp_path / "dpo")[0]
    assert full["chosen_logprob_change"] == pytest.approx(0.0, abs=1e-5)


def weights_of_base(tmp_path: Path) -> dict:
    load("sprout").model.save_pretrained(tmp_path / "base")
    return weights(tmp_path / "base")


def test_eight_batches_of_one_have_the_loss_of_one_batch_of_eight(tmp_path, pairs):
    for name, batch, accumulate in (("whole", 8, 1), ("parts", 1, 8)):
        told = settings(pairs, batch=batch, accumulate=accumulate, replay=Replay(share=0.25, data=(OLD,)))
        dpo.run(dpo.Options(**told, sft=0.2), RunFolder(tmp_path / name), lambda line: None)
    for one, other in zip(lines(tmp_path / "whole"), lines(tmp_path / "parts"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-4)


class Stopping(RunFolder):
    """A folder that is asked to stop after some steps."""

    def __init__(self, path: Path, steps: int) -> None:
        super().__init__(path)
        self._left = steps

    @property
    def asked_to_stop(self) -> bool:
        self._left -= 1
        return self._left < 0


@pytest.mark.parametrize("stage", [dpo, kto])
def test_a_run_taken_up_again_ends_as_if_it_had_not_stopped(tmp_path, pairs, stage):
    told = settings(pairs, steps=6, replay=Replay(share=0.25, data=(OLD,)), lora=Lora(rank=4, dropout=0.1))
    options = stage.Options(**told)
    whole = stage.run(options, RunFolder(tmp_path / "whole"), lambda line: None)
    half = stage.run(options, Stopping(tmp_path / "half", 3), lambda line: None)
    assert (half.ended.state, half.ended.step, half.folder) == (State.STOPPED, 3, None)
    rest = stage.run(options, RunFolder(tmp_path / "half"), lambda line: None)
    assert apart(weights(whole.folder), weights(rest.folder)) == 0.0


def test_old_rows_count_their_share_of_the_loss(tmp_path, pairs):
    told = settings(pairs, steps=1, replay=Replay(share=0.25, data=(OLD,)))
    dpo.run(dpo.Options(**told), RunFolder(tmp_path / "with"), lambda line: None)
    dpo.run(dpo.Options(**settings(pairs, steps=1)), RunFolder(tmp_path / "without"), lambda line: None)
    [mixed], [alone] = lines(tmp_path / "with"), lines(tmp_path / "without")
    assert mixed["loss"] == pytest.approx(0.75 * alone["loss"] + 0.25 * mixed["old_loss"], abs=1e-5)


def test_pairs_with_a_gross_fault_are_refused_unless_it_is_meant(tmp_path, pairs):
    turned = tmp_path / "turned.jsonl"
    write_pairs(
        [
            replace(pair, row=replace(pair.row, completion=pair.rejected), rejected=pair.chosen)
            for pair in read_pairs((Source(file=str(pairs)),))
        ],
        turned,
    )

    def run(**changed) -> None:
        dpo.run(
            dpo.Options(**settings(turned, steps=1), **changed),
            RunFolder(tmp_path / "run"),
            lambda line: None,
        )

    with pytest.raises(ConfigurationError, match="wrong-way: 24 chosen replies are verified to be worse"):
        run()
    run(allow=("wrong-way",))


def test_what_a_stage_cannot_use_is_refused(tmp_path, pairs):
    def run(stage, **changed) -> None:
        options: GivenRecipe = stage.Options(**settings(pairs, **changed))
        stage.run(options, RunFolder(tmp_path / "run"), lambda line: None)

    with pytest.raises(ConfigurationError, match="batch of 1"):
        run(kto, batch=1)
    with pytest.raises(ConfigurationError, match="dpo has no rows"):
        run(dpo, data=())
    with pytest.raises(ConfigurationError, match="at most max_tokens, 16"):
        run(dpo, max_tokens=16)
