"""SFT: what it trains on, what it costs, that it resumes exactly, and that it is what plain TRL does."""

import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import orjson
import pytest

from studium.domains.protocol import Split
from studium.errors import ConfigurationError, DoesNotFit
from studium.hardware import Memory
from studium.train import learner
from studium.train.config import Lora, Optimiser, Replay, Source, Validation, Watch
from studium.train.course import Checkpoint
from studium.train.data import rows_of
from studium.train.given import Outset
from studium.train.models import load
from studium.train.row_stage import Told, encoded_rows
from studium.train.rows import encode
from studium.train.run_folder import RunFolder, State
from studium.train.stages import sft
from studium.train.trl_bridge import Compute, OldRows

torch = pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

NEW = Source(domain="sorting", rows=24, levels=(1,), seed=3)
OLD = Source(domain="arithmetic", rows=16, levels=(1,), seed=4)
CONSTANT = Optimiser(rate=1e-3, schedule="constant", warmup_steps=0)
NEVER = Validation(every_steps=0)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def recipe(**changed) -> sft.Options:
    settings = {"model": "sprout", "data": (NEW,), "batch": 8, "steps": 6, "optimiser": CONSTANT}
    return sft.Options(**{**settings, "validation": NEVER, **changed})


def train(options: sft.Options, path: Path) -> Checkpoint:
    return sft.run(options, RunFolder(path), lambda line: None)


def weights(folder: Path | None) -> dict:
    from safetensors.torch import load_file

    assert folder is not None
    return load_file(folder / "model.safetensors")


def assert_equal(one: dict, other: dict, *, within: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert float((value - other[name]).abs().max()) <= within, name


def steps(path: Path) -> list[dict]:
    return [orjson.loads(line) for line in (path / "metrics.jsonl").read_bytes().splitlines()]


def test_losses_and_weights_are_those_of_plain_trl(tmp_path):
    from benchmarks.parity_trainers import sft_and_trl

    apart = sft_and_trl(tmp_path)
    assert apart.losses < 1e-6
    assert apart.weights < 1e-6


def gradients(options: sft.Options) -> tuple[float, dict]:
    """Return loss and gradients of the first step's rows, in the order of the data."""
    outset = Outset(options, 1)
    rows = encoded_rows(outset.loaded.tokenizer, rows_of(options.data), options.max_tokens)
    loss = sft.SftLoss(outset.learner, options)
    parts = list(loss.parts(rows[:8], rows[8:10], Told()))
    for part in parts:
        part.backward()
    found = {name: one.grad for name, one in outset.learner.model.named_parameters() if one.requires_grad}
    return float(sum(part.detach() for part in parts)), found


@pytest.mark.parametrize(
    "changed",
    [
        {"batch": 1},
        {"batch": 3},
        {"compute": Compute(packing=True)},
        {"batch": 4, "compute": Compute(packing=True)},
        {"compute": Compute(gradient_checkpointing=True)},
        {"compute": Compute(gradient_checkpointing=True), "lora": Lora(rank=4)},
    ],
    ids=["one by one", "three by three", "packed", "packed by four", "checkpointed", "checkpointed adapter"],
)
def test_however_rows_are_laid_out_a_step_has_the_same_loss_and_gradients(changed):
    whole, expected = gradients(recipe(batch=10, lora=changed.get("lora", Lora())))
    loss, found = gradients(recipe(**changed))
    assert loss == pytest.approx(whole, abs=1e-6)
    assert_equal(found, expected, within=2e-6)


def test_eight_batches_of_one_train_as_one_batch_of_eight(tmp_path):
    train(recipe(batch=8, accumulate=1), tmp_path / "whole")
    train(recipe(batch=1, accumulate=8), tmp_path / "parts")
    losses = [[line["loss"] for line in steps(tmp_path / name)] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_packed_rows_cost_what_padded_ones_cost(tmp_path):
    train(recipe(), tmp_path / "padded")
    train(recipe(compute=Compute(packing=True)), tmp_path / "packed")
    for one, other in zip(steps(tmp_path / "padded"), steps(tmp_path / "packed"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
    lines = [(tmp_path / name / "rows.jsonl").read_bytes().splitlines() for name in ("padded", "packed")]
    for one, other in zip(*lines, strict=True):
        assert dict(orjson.loads(one)["rows"]) == pytest.approx(dict(orjson.loads(other)["rows"]), abs=1e-4)


def test_a_step_costs_the_mean_of_its_rows_by_their_tokens(tmp_path):
    train(recipe(steps=1), tmp_path / "run")
    tokenizer = load("sprout").tokenizer
    length = {
        row.id: len(encode(tokenizer, row).ids) - encode(tokenizer, row).num_prompt for row in rows_of((NEW,))
    }
    [line] = [orjson.loads(one) for one in (tmp_path / "run" / "rows.jsonl").read_bytes().splitlines()]
    total = sum(loss * length[row_id] for row_id, loss in line["rows"])
    assert total / sum(length[row_id] for row_id, _ in line["rows"]) == pytest.approx(
        steps(tmp_path / "run")[0]["loss"], abs=1e-4
    )


def test_a_rows_weight_multiplies_its_part_of_the_loss(tmp_path):
    def cost(weight: float, packing: bool) -> tuple[float, float]:
        file = tmp_path / f"{weight}.jsonl"
        lines = [
            {"prompt": "Sort: 3, 1", "completion": "1, 3"},
            {"prompt": "Sort: 9, 2, 4", "completion": "2"},
        ]
        file.write_bytes(b"\n".join(orjson.dumps(one | {"weight": weight}) for one in lines))
        name = tmp_path / f"weight-{weight}-{packing}".lower()
        options = recipe(data=(Source(file=str(file)),), batch=2, steps=1, compute=Compute(packing=packing))
        train(options, name)
        return steps(name)[0]["loss"], steps(name)[0]["gradient_norm"]

    for packing in (False, True):
        plain, half = cost(1.0, packing), cost(0.5, packing)
        assert half == pytest.approx([one / 2 for one in plain], rel=1e-4)


def test_a_fixed_share_of_every_batch_is_old_rows(tmp_path):
    train(recipe(replay=Replay(share=0.25, data=(OLD,))), tmp_path / "run")
    for line in (tmp_path / "run" / "rows.jsonl").read_bytes().splitlines():
        domains = Counter(row_id.split("/")[0] for row_id, _ in orjson.loads(line)["rows"])
        assert domains == {"sorting": 6, "arithmetic": 2}


def test_an_epoch_shows_every_new_row_once_whatever_is_replayed(tmp_path):
    train(recipe(steps=0, epochs=1, replay=Replay(share=0.25, data=(OLD,))), tmp_path / "run")
    seen = Counter(
        row_id
        for line in (tmp_path / "run" / "rows.jsonl").read_bytes().splitlines()
        for row_id, _ in orjson.loads(line)["rows"]
        if row_id.startswith("sorting")
    )
    assert set(seen.values()) == {1}
    assert len(seen) == 24


def test_a_merged_adapter_answers_as_the_adapter_did(tmp_path):
    from peft import PeftModel

    made = train(recipe(lora=Lora(rank=4, alpha=8), steps=4), tmp_path / "run")
    assert made.folder is not None
    ids_BT = torch.tensor([load("sprout").tokenizer.encode("Sort: 3, 1, 2")])
    base = load("sprout").model
    with torch.inference_mode():
        untrained = base(ids_BT).logits
        adapted = PeftModel.from_pretrained(base, tmp_path / "run" / "adapter").eval()(ids_BT).logits
        merged = load(str(made.folder)).model(ids_BT).logits
        served = load(str(made.folder / "model.gguf")).model(ids_BT).logits
    assert float((adapted - untrained).abs().max()) > 1e-3
    assert torch.allclose(merged, adapted, atol=1e-4)
    assert torch.allclose(served, adapted, atol=1e-4)
    assert (tmp_path / "run" / "adapter" / "adapter.gguf").read_bytes()[:4] == b"GGUF"


def test_the_best_weights_by_validation_are_kept(tmp_path):
    """A rate that ruins the model: what validated best is the result, not what came last."""
    ruinous = Optimiser(rate=0.1, warmup_steps=1000)
    validation = Validation(every_steps=5, problems=12, data=(OLD,))
    options = recipe(
        optimiser=ruinous, steps=50, max_tokens=96, validation=validation, watch=Watch(act="advise")
    )
    made = train(options, tmp_path / "run")
    scores = [line["validation"]["score"] for line in steps(tmp_path / "run") if "validation" in line]
    assert made.ended.best == max(scores)
    assert scores[-1] < max(scores)


LONG = {
    "batch": 4,
    "steps": 16,
    "lora": Lora(rank=4, dropout=0.1),
    "save_every_s": 0.0,
    "replay": Replay(share=0.25, data=(OLD,)),
    "validation": Validation(every_steps=5, problems=4),
    "max_tokens": 96,
}
RUN = "import sys; from tests.train.stages import test_sft; test_sft.train_long(sys.argv[1])"


def train_long(path: Path | str) -> Checkpoint:
    torch.set_num_threads(1)
    return train(recipe(**LONG), Path(path))


def test_a_run_killed_at_once_and_taken_up_again_ends_as_if_nothing_had_been(tmp_path):
    """kill -9 in the middle: the same weights bit for bit, and no step counted twice."""
    killed = subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path / "killed")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    metrics = tmp_path / "killed" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < 7:
        assert time.monotonic() < until
        assert killed.poll() is None
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.wait(30)
    assert RunFolder(tmp_path / "killed").status().state is State.KILLED
    resumed, whole = train_long(tmp_path / "killed"), train_long(tmp_path / "whole")
    assert "resumed" in (tmp_path / "killed" / "events.jsonl").read_text()
    assert_equal(weights(whole.folder), weights(resumed.folder))
    told = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in steps(tmp_path / name)]
        for name in ("whole", "killed")
    ]
    assert told[0] == told[1]
    assert (tmp_path / "whole" / "rows.jsonl").read_bytes() == (
        tmp_path / "killed" / "rows.jsonl"
    ).read_bytes()


def test_rows_that_cannot_be_learned_are_refused_before_the_first_step(tmp_path):
    with pytest.raises(ConfigurationError, match="nothing to learn"):
        train(recipe(data=(Source(domain="sorting", rows=4, teach="prompts"),)), tmp_path / "prompts")
    with pytest.raises(ConfigurationError, match=r"at most max_tokens, 16"):
        train(recipe(max_tokens=16), tmp_path / "long")
    with pytest.raises(ConfigurationError, match="no room for new rows"):
        train(recipe(replay=Replay(share=1.0, data=(OLD,))), tmp_path / "replay")


@pytest.mark.parametrize(
    ("changed", "library"),
    [
        ({"compute": Compute(liger=True)}, "liger"),
        ({"lora": Lora(rank=4, four_bit=True)}, "bitsandbytes"),
        ({"optimiser": Optimiser(name="paged_adamw_8bit")}, "bitsandbytes"),
    ],
)
def test_what_needs_a_library_that_is_not_there_says_so(tmp_path, changed, library):
    from importlib.util import find_spec

    if find_spec("bitsandbytes" if library == "bitsandbytes" else "liger_kernel"):
        pytest.skip(f"{library} is installed")
    with pytest.raises(ConfigurationError, match=library):
        train(recipe(**changed), tmp_path / "run")


def test_a_reply_drawn_in_four_bits_leaves_gradients_as_they_were(tmp_path):
    """bitsandbytes 0.50 packed weights for drawing on a processor: gradients after it were off by their own size."""
    pytest.importorskip("bitsandbytes", reason="QLoRA needs bitsandbytes: pip install bitsandbytes")
    from studium.train.models import save

    save(load("sprout"), tmp_path / "base")
    outset = Outset(recipe(model=str(tmp_path / "base"), lora=Lora(rank=4, four_bit=True)), 1)
    model = outset.learner.model
    ids_BT = torch.tensor([outset.loaded.tokenizer.encode("Sort: 3, 1, 2")])

    def gradient() -> torch.Tensor:
        model.zero_grad()
        model.train()(input_ids=ids_BT, labels=ids_BT).loss.backward()
        return torch.cat([one.grad.flatten() for one in outset.learner.trained])

    before = gradient()
    with torch.no_grad():
        model.eval()(ids_BT)
    assert float(before.norm()) > 0
    assert torch.allclose(gradient(), before, rtol=1e-4, atol=1e-7)


def test_an_adapter_trained_on_four_bits_is_merged_into_the_base_it_was_trained_on(tmp_path):
    """In 4 bits it would be rounded away (peft#2105)."""
    pytest.importorskip("bitsandbytes", reason="QLoRA needs bitsandbytes: pip install bitsandbytes")
    from peft import PeftModel

    from studium.train.models import save

    save(load("sprout"), tmp_path / "base")
    base = str(tmp_path / "base")
    validation = Validation(every_steps=2, problems=2)
    options = recipe(
        model=base, lora=Lora(rank=4, four_bit=True), steps=4, max_tokens=96, validation=validation
    )
    made = train(options, tmp_path / "run")
    ids_BT = torch.tensor([load("sprout").tokenizer.encode("Sort: 3, 1, 2")])
    four_bit = load(base, four_bit=True).model.train()
    adapted = PeftModel.from_pretrained(four_bit, tmp_path / "run" / "adapter").train()(ids_BT).logits
    assert torch.allclose(load(str(made.folder)).model(ids_BT).logits, adapted.float(), atol=1e-3)
    assert (tmp_path / "run" / "adapter" / "adapter.gguf").read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize(("bytes_a_weight", "dtype"), [(5, torch.float32), (3, torch.bfloat16), (2, None)])
def test_what_is_trained_in_four_bits_is_merged_in_what_precision_fits(monkeypatch, bytes_a_weight, dtype):
    """A card that trains in 4 bits has no room for the whole model, and a machine with one not for all 32 bits."""
    model = load("sprout").model
    free = Memory(2**40, bytes_a_weight * sum(one.numel() for one in model.parameters()))
    monkeypatch.setattr(learner, "read_memory", lambda: free)
    if dtype is None:
        with pytest.raises(DoesNotFit, match="the adapter is kept"):
            learner._merging_dtype(model)
    else:
        assert learner._merging_dtype(model) is dtype


def test_what_cannot_be_merged_is_told_keeps_its_adapter_and_is_gone_on_with(tmp_path, monkeypatch):
    options = recipe(lora=Lora(rank=4), steps=3)
    with monkeypatch.context() as patch:
        patch.setattr(learner.Learner, "merged", Mock(side_effect=DoesNotFit("no room for the whole model")))
        with pytest.raises(DoesNotFit):
            train(options, tmp_path / "run")
    status = RunFolder(tmp_path / "run").status()
    assert (status.state, status.step) == (State.FAILED, 3) and "no room" in status.message
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").exists()
    made = train(options, tmp_path / "run")
    assert made.folder is not None and RunFolder(tmp_path / "run").status().state is State.DONE


def test_rows_kept_in_a_file_are_measured_and_the_lowest_loss_wins(tmp_path):
    """A rate that ruins the model after a while: the weights of the best validation are the result."""
    lines = [
        {"prompt": row.messages[0].content, "completion": row.completion}
        for row in rows_of((replace(NEW, seed=99, rows=8),), side=Split.SCORING)
    ]
    (tmp_path / "kept.jsonl").write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    kept = Source(file=str(tmp_path / "kept.jsonl"))
    validation = Validation(every_steps=4, data=(kept,))
    ruinous = Optimiser(rate=0.1, warmup_steps=400)
    options = recipe(optimiser=ruinous, steps=24, validation=validation, watch=Watch(act="advise"), batch=4)
    made = train(options, tmp_path / "run")
    told = [line["validation"]["held_out_loss"] for line in steps(tmp_path / "run") if "validation" in line]
    assert len(told) == 6
    assert min(told) < told[-1]
    assert made.ended.best == -min(told)
    again, rows = Outset(recipe(model=str(made.folder)), 1), rows_of((kept,))
    encoded = encoded_rows(again.loaded.tokenizer, rows, 512)
    assert OldRows(again.learner, options).mean(encoded) == pytest.approx(min(told), abs=1e-5)


def test_half_precision_costs_about_what_full_precision_costs(tmp_path):
    """On autocast the weights stay in full: only the arithmetic is rounded."""
    train(recipe(steps=2), tmp_path / "full")
    made = train(recipe(steps=2, compute=Compute(bf16=True)), tmp_path / "half")
    losses = [[line["loss"] for line in steps(tmp_path / name)] for name in ("full", "half")]
    assert losses[0] != losses[1]
    assert losses[1][0] == pytest.approx(losses[0][0], rel=0.05)
    assert {one.dtype for one in weights(made.folder).values()} == {torch.float32}
