"""The training loop: it learns, packs without leaking, and a stopped run goes on bit for bit."""

import pytest

from studium.errors import ConfigurationError
from studium.train.students.pretraining import Schedule, Shape, loss_of, new_model, rate, train
from studium.train.students.stream import IGNORED, Mixture, Rows, Share, Stream
from studium.train.tokenizer import student_tokenizer

torch = pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

SUMS = Mixture((Share("arithmetic", 1, 1.0),), outside_weight=0.5)
SCHEDULE = Schedule(steps=24, rows=4, length=64, warmup_steps=4, seed=5, checkpoint_every_s=1e9)


@pytest.fixture(scope="module")
def tokenizer():
    torch.set_num_threads(1)
    return student_tokenizer()


@pytest.fixture
def micro(tokenizer):
    shape = Shape(width=32, layers=2, heads=2, inner=48, vocabulary=tokenizer.get_vocab_size())
    return lambda: new_model(shape, seed=5)


class StoppingStream(Stream):
    """A stream during whose batch the user presses Ctrl-C."""

    stop_at = -1

    def batch(self, step: int, *, rows: int, length: int) -> Rows:
        if step == self.stop_at:
            raise KeyboardInterrupt
        return super().batch(step, rows=rows, length=length)


def quiet(line: str) -> None:
    pass


def value(loss) -> float:
    return float(loss.detach())


def same_weights(one, other) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def test_an_interrupted_run_resumed_equals_one_in_one_piece_bit_for_bit(micro, tokenizer, tmp_path):
    whole = micro()
    straight = train(whole, Stream(SUMS, tokenizer, seed=5), SCHEDULE, say=quiet)

    checkpoint = tmp_path / "student.pt"
    stopping = StoppingStream(SUMS, tokenizer, seed=5)
    stopping.stop_at = 11
    with pytest.raises(KeyboardInterrupt):
        train(micro(), stopping, SCHEDULE, checkpoint=checkpoint, say=quiet)
    assert checkpoint.exists()
    resumed = micro()
    said: list[str] = []
    outcome = train(
        resumed, Stream(SUMS, tokenizer, seed=5), SCHEDULE, checkpoint=checkpoint, say=said.append
    )

    assert same_weights(whole, resumed)
    assert (outcome.steps, outcome.tokens, outcome.loss) == (straight.steps, straight.tokens, straight.loss)
    assert "step 24/24" in said[-1]


def test_a_finished_run_asked_again_changes_nothing(micro, tokenizer, tmp_path):
    checkpoint = tmp_path / "student.pt"
    first = micro()
    outcome = train(first, Stream(SUMS, tokenizer, seed=5), SCHEDULE, checkpoint=checkpoint, say=quiet)
    again = micro()
    unchanged = train(again, Stream(SUMS, tokenizer, seed=5), SCHEDULE, checkpoint=checkpoint, say=quiet)
    assert (unchanged.steps, unchanged.tokens) == (outcome.steps, outcome.tokens)
    assert same_weights(first, again)


def test_a_checkpoint_of_another_schedule_is_refused(micro, tokenizer, tmp_path):
    checkpoint = tmp_path / "student.pt"
    train(micro(), Stream(SUMS, tokenizer, seed=5), SCHEDULE, checkpoint=checkpoint, say=quiet)
    other = Schedule(steps=30, rows=4, length=64, warmup_steps=4, seed=5)
    with pytest.raises(ConfigurationError, match="another schedule"):
        train(micro(), Stream(SUMS, tokenizer, seed=5), other, checkpoint=checkpoint, say=quiet)


def test_equal_seeds_give_equal_weights_and_the_loss_falls(micro, tokenizer):
    models, losses = [micro(), micro()], []
    for model in models:
        before = value(loss_of(model, Stream(SUMS, tokenizer, seed=8).batch(0, rows=8, length=64)))
        train(model, Stream(SUMS, tokenizer, seed=5), SCHEDULE, say=quiet)
        after = value(loss_of(model, Stream(SUMS, tokenizer, seed=8).batch(0, rows=8, length=64)))
        losses.append((before, after))
    assert same_weights(*models)
    assert losses[0][1] < losses[0][0] - 1


def test_padding_changes_no_loss(micro, tokenizer):
    rows = Stream(SUMS, tokenizer, seed=6).batch(0, rows=3, length=64)
    wider = Rows(
        [[*ids, *[0] * 30] for ids in rows.input_ids], [[*row, *[IGNORED] * 30] for row in rows.labels]
    )
    model = micro()
    assert value(loss_of(model, rows)) == pytest.approx(value(loss_of(model, wider)), abs=1e-5)


def test_the_loss_is_that_of_the_model_itself(micro, tokenizer):
    """transformers shifts and masks the labels in its own way; both must mean the same."""
    rows = Stream(SUMS, tokenizer, seed=6).batch(0, rows=3, length=64)
    model = micro()
    reference = model(input_ids=torch.tensor(rows.input_ids), labels=torch.tensor(rows.labels)).loss
    assert value(loss_of(model, rows)) == pytest.approx(value(reference), abs=1e-5)


def test_the_rate_rises_to_its_peak_and_falls_to_a_tenth():
    rates = [rate(SCHEDULE, step) for step in range(SCHEDULE.steps + 1)]
    assert max(rates) == rates[3] == rates[4] == 1.0
    assert rates[:4] == sorted(rates[:4])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)
