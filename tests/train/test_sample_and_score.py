"""Greedy answers in batches, and what is counted of them."""

import pytest

from studium.domains.answers import ABSTENTION
from studium.errors import CallerError
from studium.train.sample import sample_answers
from studium.train.students.pretraining import Schedule, Shape, new_model, train
from studium.train.students.recipes import STUDENTS, quick, recipe
from studium.train.students.score import OUTSIDE, score
from studium.train.students.stream import Mixture, Stream
from studium.train.tokenizer import Turn, prompt_text, student_tokenizer

torch = pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

PROMPTS = [
    prompt_text("What is 2 + 2?"),
    prompt_text("Hello"),
    prompt_text(
        "And you?", [Turn("Sort: 3, 2, 1 and then all the others that came before", "Answer: 1, 2, 3")]
    ),
]


@pytest.fixture(scope="module")
def tokenizer():
    torch.set_num_threads(1)
    return student_tokenizer()


@pytest.fixture(scope="module")
def decliner(tokenizer):
    """A model taught nothing but to decline, in a second or two."""
    model = new_model(Shape(32, 2, 2, 48, tokenizer.get_vocab_size()), seed=1)
    schedule = Schedule(steps=150, rows=4, length=64, other_rate=1e-2, warmup_steps=5)
    train(model, Stream(Mixture((), outside_weight=1.0), tokenizer, seed=1), schedule, say=lambda line: None)
    return model


def test_a_batch_answers_as_one_by_one(tokenizer):
    model = new_model(Shape(32, 2, 2, 48, tokenizer.get_vocab_size()), seed=1).eval()
    together = sample_answers(model, tokenizer, PROMPTS, max_tokens=10)
    for prompt, answer in zip(PROMPTS, together, strict=True):
        [alone] = sample_answers(model, tokenizer, [prompt], max_tokens=10)
        assert alone.tokens == answer.tokens
        assert alone.mean_logprob == pytest.approx(answer.mean_logprob, abs=1e-5)


def test_answers_are_the_most_likely_tokens_without_a_cache(tokenizer):
    model = new_model(Shape(32, 2, 2, 48, tokenizer.get_vocab_size()), seed=1).eval()
    [answer] = sample_answers(model, tokenizer, PROMPTS[:1], max_tokens=8)
    ids = tokenizer.encode(PROMPTS[0]).ids
    for token in answer.tokens:
        with torch.inference_mode():
            assert int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)
    assert not answer.ended


def test_a_student_that_declines_everything_scores_nothing_inside_and_all_outside(decliner, tokenizer):
    cells = {(cell.skill, cell.level): cell for cell in score(decliner, tokenizer, per_level=5, seed=1)}
    assert len(cells) == 16
    outside = cells.pop((OUTSIDE, 0))
    assert (outside.right, outside.declined) == (5, 5)
    assert all((cell.right, cell.declined) == (0, 5) for cell in cells.values())
    [said] = sample_answers(decliner, tokenizer, [prompt_text("Who was Plato?")])
    assert (said.text, said.ended) == (ABSTENTION, True)


def test_an_unknown_student_is_named_with_those_there_are():
    with pytest.raises(CallerError, match="expected|one of sprout"):
        recipe("hercules")
    assert recipe("abacus").name == "abacus"
    assert {quick(known).schedule.steps for known in STUDENTS} == {20}
