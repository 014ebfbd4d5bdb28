"""What `eval` measures of a reference, in the engine that serves, is what the plain forward pass of training says."""

from pathlib import Path
from random import Random

import pytest

from studium.cli.eval_asking import Choice, asking
from studium.config import load_config
from studium.domains.catalogue import domain
from studium.evals.items import Item

torch = pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")
pytest.importorskip("xllamacpp")

# The file holds half-precision weights, and the engine's cache is in half precision too.
APART = 0.05


def slow_logprob(question: str, reference: str) -> tuple[float, int]:
    """Return a reply's log-probability under the student, token by token, and the number of its tokens."""
    from studium.train.models import load
    from studium.train.rows import Row, asked, completion_ids, prompt_ids

    torch.set_num_threads(1)
    loaded = load("critic")
    prompt = prompt_ids(loaded.tokenizer, Row("x", asked(question)))
    reply = completion_ids(loaded.tokenizer, reference, ends=False)
    with torch.no_grad():
        logits = loaded.model(torch.tensor([[*prompt, *reply]])).logits[0]
    logprobs = logits.log_softmax(-1)
    total = 0.0
    for place, token in enumerate(reply):
        total += float(logprobs[len(prompt) + place - 1, token])
    return total, len(reply)


@pytest.mark.slow
async def test_a_forced_reference_is_as_likely_as_the_forward_pass_says(tmp_path: Path):
    config = load_config(None, environment={}, overrides={"workspace": str(tmp_path)})
    sentiment = domain("sentiment")
    problem = sentiment.make(Random(5), 3)
    made = Item(problem.prompt, problem.expected, sentiment, problem)
    other = sentiment.make(Random(6), 3)
    assert sentiment.solution(problem) != sentiment.solution(other)
    async with asking(config, Choice("critic", 30.0, perplexity=True)) as asked:
        assert asked.way.force is not None
        for item in (made, Item(other.prompt, other.expected, sentiment, other)):
            measured = await asked.way.force(item)
            assert measured is not None
            expected, tokens = slow_logprob(item.question, item.reference)
            assert measured.tokens == tokens
            assert measured.logprob / tokens == pytest.approx(expected / tokens, abs=APART)
        # What the model would never say it says in pieces of its own, and finds unlikely.
        never = await asked.way.force(Item(made.question, "an elephant", sentiment))
        assert never is not None
        assert never.logprob / never.tokens < -4
