"""Asking, grading and going on: failures are recorded, limits are kept, nothing is asked twice."""

import asyncio
from pathlib import Path

import pytest

from studium.domains.catalogue import domain
from studium.domains.open_question import OPEN_QUESTION
from studium.errors import BadRequest, ConfigurationError, DoesNotFit, EngineDied
from studium.evals import runner
from studium.evals.folder import EvalFolder, evaluations
from studium.evals.grading import Said
from studium.evals.items import Item, fresh_items, items_of_file
from studium.evals.judging import as_good_as
from studium.evals.report import report
from studium.evals.runner import Try, Way, left, run, tries

ITEMS = fresh_items(["arithmetic"], 6, 1)


async def right(one: Try) -> Said:
    return Said(one.item.reference, 0.1, 5)


async def collected(to_ask, way):
    return [one.graded async for one in run(to_ask, way)]


async def test_every_item_is_asked_and_graded_with_progress():
    progress = [one async for one in run(tries(ITEMS, 1, 0.0), Way(right))]
    assert [(one.done, one.total) for one in progress] == [(n, 6) for n in range(1, 7)]
    assert all(one.graded.score == 1.0 for one in progress)
    assert progress[-1].seconds_left == 0.0


async def test_a_model_that_fails_at_a_question_is_not_scored_there_and_the_rest_goes_on():
    async def ask(one: Try) -> Said:
        if one.item.id == ITEMS[2].id:
            raise EngineDied("the worker ended")
        return await right(one)

    graded = await collected(tries(ITEMS, 1, 0.0), Way(ask))
    assert [one.score for one in graded] == [1.0, 1.0, None, 1.0, 1.0, 1.0]
    told = report(graded, {"arithmetic": domain("arithmetic")}, 1)
    assert (told["asked"], told["scored"], told["not_scored"], told["failed"]) == (6, 5, 0, 1)
    accuracy = told["figures"][0]
    assert (accuracy["metric"], accuracy["value"], accuracy["counted"], accuracy["not_counted"]) == (
        "accuracy",
        1.0,
        5,
        1,
    )


async def test_what_would_fail_at_every_question_ends_the_run():
    async def ask(one: Try) -> Said:
        raise DoesNotFit("no room")

    with pytest.raises(DoesNotFit):
        await collected(tries(ITEMS, 1, 0.0), Way(ask))


async def test_no_answer_is_waited_for_beyond_its_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner, "_GRACE_S", 0.01)

    async def ask(one: Try) -> Said:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    (graded,) = await collected(tries(ITEMS[:1], 1, 0.0), Way(ask, timeout_s=0.01))
    assert graded.score is None
    assert "no answer within" in graded.error


def test_greedy_tries_have_no_seed_and_sampled_ones_their_own_the_same_every_time():
    assert all(one.sampling.seed is None for one in tries(ITEMS, 1, 0.0))
    sampled = tries(ITEMS, 3, 0.7)
    assert sampled == tries(ITEMS, 3, 0.7)
    assert len({one.sampling.seed for one in sampled}) == len({one.key for one in sampled}) == 18


async def test_a_run_that_was_killed_goes_on_without_doubling(tmp_path: Path):
    folder = EvalFolder(tmp_path, "one")
    told = {"model": "x", "items": {"seed": 1}}
    folder.begin(told)
    planned = tries(ITEMS, 2, 0.5)
    for graded in await collected(planned[:5], Way(right)):
        folder.append(graded)
    with (folder.path / "answers.jsonl").open("ab") as file:
        file.write(b'{"item": "cut o')
    again = EvalFolder(tmp_path, "one")
    again.begin(told)
    to_ask = left(planned, {(one.item, one.sample) for one in again.answers()})
    assert to_ask == planned[5:]
    for graded in await collected(to_ask, Way(right)):
        again.append(graded)
    assert [(one.item, one.sample) for one in again.answers()] == [one.key for one in planned]
    assert [one.name for one in evaluations(tmp_path)] == ["one"]


def test_a_folder_of_another_run_is_not_written_to(tmp_path: Path):
    EvalFolder(tmp_path, "one").begin({"model": "x", "seed": 1})
    with pytest.raises(ConfigurationError, match="differs in seed"):
        EvalFolder(tmp_path, "one").begin({"model": "x", "seed": 2})
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "recipe.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="holds something that is no evaluation"):
        EvalFolder(tmp_path, "trained").begin({"model": "x"})
    for name in ("../out", "a/b", "", ".hidden", "A"):
        with pytest.raises(BadRequest, match="is no name"):
            EvalFolder(tmp_path, name)


@pytest.mark.parametrize(
    ("straight", "swapped", "score"),
    [
        ("A", "B", 1.0),
        ("B", "A", 0.0),
        ("cannot tell", "cannot tell", 1.0),
        ("A", "A", None),  # prefers a place
        ("B", "B", None),
        ("A", "cannot tell", None),
        (None, "B", None),
        ("A", None, None),
    ],
)
async def test_a_verdict_counts_where_both_orders_agree(straight, swapped, score):
    async def verdict(question: str, first: str, second: str) -> str | None:
        return straight if first == "mine" else swapped

    assert await as_good_as("?", "mine", "theirs", verdict) == score


async def test_a_judge_is_asked_only_where_words_differ_and_no_domain_can_say():
    asked: list[str] = []

    async def ask(one: Try) -> Said:
        return Said("Paris" if "France" in one.item.question else "The Eternal City", 0.1)

    async def judge(item: Item, reply: str) -> float | None:
        asked.append(reply)
        return None

    items = [
        Item("Capital of France?", "paris", OPEN_QUESTION),
        Item("Capital of Italy?", "rome", OPEN_QUESTION),
        *ITEMS[:1],
    ]
    graded = await collected(tries(items, 1, 0.0), Way(ask, judge=judge))
    assert [one.score for one in graded] == [1.0, None, 0.0]
    assert asked == ["The Eternal City"]


async def test_a_judge_does_not_overrule_a_domain_that_grades_rows_of_a_file(tmp_path: Path):
    """A wrong sum was scored as the judge liked, or not at all, since rows of a file carry no problem."""
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "What is 4 + 5?", "answer": "9"}\n')
    (item,) = items_of_file(file)
    assert item.problem is None

    async def ask(one: Try) -> Said:
        return Said("Answer: 8", 0.1)

    for verdict in (1.0, None):

        async def judge(item: Item, reply: str, verdict: float | None = verdict) -> float | None:
            return verdict

        (graded,) = await collected(tries([item], 1, 0.0), Way(ask, judge=judge))
        assert graded.score == 0.0


async def test_code_that_does_not_compile_counts_against_syntax_and_none_at_all_is_not_counted():
    items = fresh_items(["codegen"], 3, 1)
    replies = iter([items[0].reference, "```python\ndef f(x:\n    return x\n```", "I cannot answer that."])

    async def ask(one: Try) -> Said:
        return Said(next(replies), 0.1)

    graded = await collected(tries(items, 1, 0.0), Way(ask))
    if graded[0].score is None:
        pytest.skip("no sandbox on this machine: code is not scored")
    assert [(one.parses, one.score) for one in graded] == [(True, 1.0), (False, 0.0), (None, 0.0)]
    told = report(graded, {"codegen": domain("codegen")}, 1)
    syntax = next(one for one in told["figures"] if one["metric"] == "syntax")
    assert (syntax["value"], syntax["counted"], syntax["not_counted"]) == (0.5, 2, 1)
    assert next(one for one in told["figures"] if one["metric"] == "pass@1")["value"] == pytest.approx(1 / 3)
