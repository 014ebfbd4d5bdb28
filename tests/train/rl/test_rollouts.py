"""Replies drawn from a model, and groups that are refilled until they teach."""

from collections.abc import Sequence

import torch

from studium.train.config import Source
from studium.train.data import rows_of
from studium.train.models import load
from studium.train.rl.rewards import Outcome
from studium.train.rl.rollouts import Drawing, Group, Roller, line_ends, text_of
from studium.train.rl.samplers import Draw, ModelSampler
from studium.train.rows import Row, prompt_ids

LOADED = load("sprout")
ROWS = rows_of([Source(domain="arithmetic", levels=(1,), rows=40, teach="prompts")])


def test_greedy_replies_are_those_of_transformers():
    prompts = [prompt_ids(LOADED.tokenizer, row) for row in ROWS[:12]]
    sampler = ModelSampler(LOADED.model, LOADED.tokenizer, rows=5)
    drawn = sampler.draw(prompts, most_tokens=60, temperature=0.0)
    for prompt, (draw,) in zip(prompts, drawn, strict=True):
        ids = torch.tensor([prompt])
        whole = LOADED.model.generate(ids, max_new_tokens=60, do_sample=False)  # pyright: ignore
        assert list(draw.tokens) == whole[0, len(prompt) :].tolist()
        assert draw.ended


def test_log_probabilities_are_those_of_the_model_at_the_temperature_drawn_with():
    prompts = [prompt_ids(LOADED.tokenizer, row) for row in ROWS[:6]]
    sampler = ModelSampler(LOADED.model, LOADED.tokenizer)
    drawn = sampler.draw(prompts, most_tokens=40, each=3, temperature=1.7, seed=4)
    again = sampler.draw(prompts, most_tokens=40, each=3, temperature=1.7, seed=4)
    assert drawn == again
    assert drawn != sampler.draw(prompts, most_tokens=40, each=3, temperature=1.7, seed=5)
    for prompt, draws in zip(prompts, drawn, strict=True):
        assert len({tuple(draw.tokens) for draw in draws}) > 1
        for draw in draws:
            ids = torch.tensor([[*prompt, *draw.tokens]])
            with torch.no_grad():
                logprobs = (LOADED.model(ids).logits[0] / 1.7).log_softmax(-1)  # pyright: ignore
            for at, (token, logprob) in enumerate(zip(draw.tokens, draw.logprobs, strict=True)):
                assert abs(float(logprobs[len(prompt) - 1 + at, token]) - logprob) < 1e-4


def test_a_line_ends_a_step():
    sampler = ModelSampler(LOADED.model, LOADED.tokenizer)
    prompts = [prompt_ids(LOADED.tokenizer, row) for row in ROWS[:8]]
    for (draw,) in sampler.draw(prompts, most_tokens=60, temperature=0.0, stops=line_ends(LOADED.tokenizer)):
        text = text_of(LOADED.tokenizer, draw)
        assert text.count("\n") == text.endswith("\n") and text


class Scripted:
    """Replies that were written down beforehand, prompt by prompt."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self.texts = list(texts)
        self.asked = 0

    def draw(self, prompts: Sequence[Sequence[int]], **_: object) -> list[list[Draw]]:
        found = []
        for _prompt in prompts:
            texts = self.texts[self.asked]
            self.asked += 1
            ids = [LOADED.tokenizer.encode(text, add_special_tokens=False) for text in texts]
            found.append([Draw(one, (), True) for one in ids])
        return found


def fill(
    texts: Sequence[Sequence[str]],
    groups: int,
    rounds: int = 3,
    repair: object = None,
    least_spread: float = 1e-4,
):
    taken = iter(ROWS)
    drawing = Drawing(each=2, least_spread=least_spread, most_rounds=rounds)
    roller = Roller(Scripted(texts), LOADED.tokenizer, Outcome(), drawing)
    mend = (lambda group: repair) if isinstance(repair, Group) else (lambda group: None)
    return roller.fill(lambda number: [next(taken) for _ in range(number)], groups, seed=0, repair=mend)


def right(at: int) -> str:
    problem = ROWS[at].problem
    assert problem is not None
    return f"Answer: {problem.expected}"


def test_groups_that_teach_nothing_are_drawn_again_and_counted():
    wrong = "Answer: -1"
    texts = [[right(0), right(0)], [wrong, wrong], [right(2), wrong], [wrong, right(3)], [right(4), wrong]]
    found = fill(texts, 2)
    assert [group.row.id for group in found.groups] == [ROWS[2].id, ROWS[3].id]
    assert (found.seen, found.solved, found.failed, found.unscored) == (4, 1, 1, 0)
    assert found.reward == 0.5


def test_refill_gives_up_after_its_rounds_with_what_there_is():
    wrong = "Answer: -1"
    found = fill([[wrong, wrong]] * 9, 3, rounds=3)
    assert not found.groups and (found.seen, found.failed) == (9, 9)


def test_a_dull_group_may_be_mended():
    wrong = "Answer: -1"
    mended = Group(Row("mended", ()), [], [], [], [1.0, 0.0])
    assert [group.row.id for group in fill([[wrong, wrong]], 1, repair=mended).groups] == ["mended"]


def test_a_group_of_one_is_kept_only_where_no_spread_is_asked_for():
    kept, dropped = fill([[right(0)]], 1, rounds=1, least_spread=-1.0), fill([[right(0)]], 1, rounds=1)
    assert [group.row.id for group in kept.groups] == [ROWS[0].id] and kept.unscored == 0
    assert not dropped.groups and dropped.unscored == 1


def test_a_group_without_any_graded_reply_is_never_kept():
    row = Row("open", ROWS[0].messages, problem=ROWS[0].problem)
    roller = Roller(
        Scripted([[right(0)]]), LOADED.tokenizer, lambda *_: None, Drawing(least_spread=-1.0, most_rounds=1)
    )
    found = roller.fill(lambda number: [row] * number, 1, seed=0)
    assert not found.groups and found.unscored == 1
