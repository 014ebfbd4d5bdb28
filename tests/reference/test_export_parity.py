"""A GGUF file answers as the model it was written from does, in llama.cpp against transformers.

Bounds are those of facts measured on random and trained weights: full precision throughout agrees
to 1e-4 in log-probability; half-precision weights or cache to 0.05. Greedy tokens are equal.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studium.train.export import write_adapter, write_model
from studium.train.sample import sample_answers
from studium.train.students.pretraining import Schedule, Shape, new_model, train
from studium.train.students.stream import Mixture, Share, Stream
from studium.train.tokenizer import prompt_text, student_tokenizer

torch = pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")
pytest.importorskip("xllamacpp")

PROBE = Path(__file__).with_name("gguf_probe.py")
QUESTIONS = ("What is 4 + 5?", "6+2=?", "Who was Plato?", "What is 7 - 3?")
TEXTS = (
    "What is 47 + 58?\nSort: 7, 3, 9",
    "Éàü ñ ß — “quoted” naïve café",
    "你好，世界 3456",
    "a  b\t\tc\n\n\n d 'll don't <x> || {y}",
    " leading, trailing ",
    "\U0001f600 emoji \U0001f469\u200d\U0001f680",
)
NUM_TOKENS = 12


@pytest.fixture(scope="module")
def tokenizer():
    return student_tokenizer()


@pytest.fixture(scope="module")
def trained(tokenizer):
    """A model of three heads and odd sizes after a few seconds of sums: neither random nor good."""
    torch.set_num_threads(1)
    shape = Shape(width=48, layers=2, heads=3, inner=80, vocabulary=tokenizer.get_vocab_size())
    model = new_model(shape, seed=3)
    stream = Stream(Mixture((Share("arithmetic", 1, 1.0),), outside_weight=0.5), tokenizer, seed=3)
    train(model, stream, Schedule(steps=200, rows=8, length=128, warmup_steps=10), say=lambda line: None)
    return model


def probe(path: Path, precision: str, requests: list[Any], *adapters: Path) -> list[Any]:
    command = [sys.executable, str(PROBE), str(path), precision, *map(str, adapters)]
    done = subprocess.run(
        command, check=False, input=json.dumps(requests), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def completion(question: str) -> list[Any]:
    body = {"prompt": prompt_text(question), "n_predict": NUM_TOKENS, "temperature": 0, "n_probs": 1}
    return ["/completion", {**body, "return_tokens": True, "cache_prompt": False}]


def differences(path: Path, precision: str, model: Any, tokenizer: Any, *adapters: Path) -> list[float]:
    """Return the difference in mean log-probability per question, having checked that tokens are equal."""
    served = probe(path, precision, [completion(question) for question in QUESTIONS], *adapters)
    prompts = [prompt_text(question) for question in QUESTIONS]
    expected = [sample_answers(model, tokenizer, [prompt], max_tokens=NUM_TOKENS)[0] for prompt in prompts]
    apart = []
    for said, should in zip(served, expected, strict=True):
        count = len(should.tokens)
        assert said["tokens"][:count] == list(should.tokens)
        logprobs = [token["logprob"] for token in said["completion_probabilities"]]
        assert len(logprobs) >= count
        apart.append(abs(sum(logprobs) / len(logprobs) - should.mean_logprob))
    return apart


def test_full_precision_agrees_to_a_ten_thousandth(trained, tokenizer, tmp_path):
    write_model(trained, tokenizer, tmp_path / "model.gguf", name="micro", precision="F32")
    assert max(differences(tmp_path / "model.gguf", "f32", trained, tokenizer)) < 1e-4


def test_a_student_as_it_is_shipped_and_served_agrees_to_a_twentieth(trained, tokenizer, tmp_path):
    write_model(trained, tokenizer, tmp_path / "model.gguf", name="micro", precision="F16")
    assert max(differences(tmp_path / "model.gguf", "default", trained, tokenizer)) < 0.05


def test_llama_cpp_reads_text_as_the_same_tokens(trained, tokenizer, tmp_path):
    write_model(trained, tokenizer, tmp_path / "model.gguf", name="micro")
    requests = [["/tokenize", {"content": text}] for text in TEXTS]
    served = probe(tmp_path / "model.gguf", "default", requests)
    assert [answer["tokens"] for answer in served] == [tokenizer.encode(text).ids for text in TEXTS]


def test_the_chat_template_writes_a_conversation_as_training_did_and_drops_system_messages(
    trained, tokenizer, tmp_path
):
    from studium.train.tokenizer import Turn

    write_model(trained, tokenizer, tmp_path / "model.gguf", name="micro")
    messages = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": "What is 4 + 5?"},
        {"role": "assistant", "content": "4+5=9\nAnswer: 9"},
        {"role": "user", "content": "And 6 + 2?"},
    ]
    body = {"messages": messages}
    [rendered] = probe(tmp_path / "model.gguf", "default", [["/apply-template", body]])
    earlier = (Turn("What is 4 + 5?", "4+5=9\nAnswer: 9"),)
    assert rendered["prompt"] == prompt_text("And 6 + 2?", earlier)


def test_a_chat_ends_at_the_end_token(trained, tokenizer, tmp_path):
    write_model(trained, tokenizer, tmp_path / "model.gguf", name="micro")
    messages = [{"role": "user", "content": "Who was Plato?"}]
    body = {"messages": messages, "temperature": 0, "max_tokens": 60}
    [reply] = probe(tmp_path / "model.gguf", "default", [["/v1/chat/completions", body]])
    [should] = sample_answers(trained, tokenizer, [prompt_text("Who was Plato?")], max_tokens=60)
    assert should.ended
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["choices"][0]["message"]["content"] == should.text


def test_a_lora_adapter_in_gguf_answers_as_peft_does(tokenizer, trained, tmp_path):
    from peft import LoraConfig, get_peft_model

    write_model(trained, tokenizer, tmp_path / "base.gguf", name="micro", precision="F32")
    base_answers = sample_answers(trained, tokenizer, [prompt_text(QUESTIONS[0])], max_tokens=NUM_TOKENS)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = get_peft_model(trained, LoraConfig(r=4, lora_alpha=16, target_modules=targets))
    torch.manual_seed(5)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted.eval()
    adapted.save_pretrained(str(tmp_path / "adapter"))
    write_adapter(tmp_path / "adapter", trained, tmp_path / "adapter.gguf", name="change")
    try:
        apart = differences(tmp_path / "base.gguf", "f32", adapted, tokenizer, tmp_path / "adapter.gguf")
        changed = sample_answers(adapted, tokenizer, [prompt_text(QUESTIONS[0])], max_tokens=NUM_TOKENS)
    finally:
        adapted.unload()
    assert max(apart) < 1e-4
    assert abs(changed[0].mean_logprob - base_answers[0].mean_logprob) > 1e-3
