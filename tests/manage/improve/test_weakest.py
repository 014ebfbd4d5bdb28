"""Which skill is trained next, and what goes into the recipe."""

from pathlib import Path

import yaml

from studium.config.document import read_document
from studium.config.reading import Reading
from studium.manage.improve.folder import Wanted
from studium.manage.improve.recipe import for_pace, recipe, steps_within, with_steps
from studium.manage.improve.weakest import Choice, Score, scores_of, weakest, why_none
from studium.train.stages.catalogue import stage


def figure(domain: str, value: float | None, level: int | None = None) -> dict[str, object]:
    return {
        "domain": domain,
        "level": level,
        "metric": "accuracy",
        "value": value,
        "low": 0.0,
        "high": 1.0,
        "counted": 30,
    }


def test_the_weakest_is_a_skill_the_model_has_and_not_one_it_declines():
    scores = scores_of(
        [figure("sorting", 0.9), figure("measures", 0.3), figure("programs", 0.0), figure("all", 0.1)]
    )
    choice = weakest(scores)
    assert choice is not None
    assert choice.chosen.domain == "measures"
    assert [one.domain for one in choice.kept] == ["sorting"]


def test_a_domain_that_was_asked_for_is_taken_even_where_nothing_is_right():
    scores = scores_of([figure("sorting", 0.9), figure("programs", 0.0)])
    choice = weakest(scores, ["programs"])
    assert choice is not None
    assert choice.chosen.domain == "programs"


def test_who_is_good_at_everything_has_no_weakness():
    assert weakest([Score("sorting", 0.97, 0.9, 0.99, 90)]) is None


def test_why_nothing_is_weak_is_said_of_who_can_do_all_and_of_who_can_do_nothing():
    assert "97% of 90" in why_none(
        [Score("sorting", 0.97, 0.9, 0.99, 90), Score("measures", 0.0, 0.0, 0.1, 90)]
    )
    assert "nothing right of sorting" in why_none([Score("sorting", 0.0, 0.0, 0.1, 90)])


def test_levels_that_were_asked_for_are_taught_also_where_nothing_is_right(tmp_path: Path):
    choice = weakest(scores_of([figure("arithmetic", 0.3), figure("arithmetic", 0.3, 1)]))
    assert choice is not None
    for levels, taught in (((), [1]), ((1, 2), [1, 2])):
        told = recipe(choice, "sprout", tmp_path / "own.jsonl", Wanted("sprout", rows=10, levels=levels))
        assert told["data"][0]["levels"] == taught


def test_what_was_not_scored_is_no_score():
    assert scores_of([figure("sorting", None)]) == []
    assert weakest([]) is None


def test_levels_that_are_half_known_are_kept_and_those_beyond_reach_are_not():
    told = [figure("sorting", 0.5), figure("sorting", 0.9, 1), figure("sorting", 0.05, 2)]
    assert scores_of(told)[0].levels == (1,)


def test_the_recipe_is_one_that_training_reads(tmp_path: Path):
    choice = weakest(scores_of([figure("sorting", 0.9), figure("sorting", 0.9, 1), figure("measures", 0.3)]))
    assert choice is not None
    for lora in (False, True):
        told = recipe(choice, "clerk", tmp_path / "own.jsonl", Wanted("clerk", rows=100, lora=lora))
        for steps in (for_pace(told), with_steps(told, 200)):
            file = tmp_path / "recipe.yaml"
            file.write_text(yaml.safe_dump(steps))
            read = Reading().section(stage("sft").options, read_document(file), "")
            assert read.steps == steps["steps"]
            assert [one.domain for one in read.replay.data] == ["sorting", ""]
            assert read.replay.data[0].levels == (1,)
            assert bool(read.lora.rank) == lora


def test_a_domain_with_few_problems_gives_those_it_has(tmp_path: Path):
    choice = weakest(scores_of([figure("chains", 0.1), figure("chains", 0.1, 1)]))
    assert choice is not None
    told = recipe(choice, "sprout", tmp_path / "own.jsonl", Wanted("sprout"))
    assert 0 < told["data"][0]["rows"] < 4096


def test_the_few_steps_that_tell_the_pace_check_no_more_rows_than_they_see(tmp_path: Path):
    choice = weakest(scores_of([figure("sorting", 0.9), figure("sorting", 0.9, 1), figure("measures", 0.3)]))
    assert choice is not None
    told = for_pace(recipe(choice, "sprout", tmp_path / "own.jsonl", Wanted("sprout")))
    assert [one.get("rows") for one in (*told["data"], *told["replay"]["data"])] == [384, 384, None]


def test_nothing_is_replayed_that_the_weak_skill_could_have_asked(tmp_path: Path):
    scores = scores_of([figure("arithmetic", 0.5), figure("arithmetic", 0.5, 1), figure("sorting", 0.9, 1)])
    choice = Choice(Score("arithmetic", 0.5, 0.4, 0.6, 90), "", tuple(scores))  # as if another asked the same
    told = recipe(choice, "clerk", tmp_path / "own.jsonl", Wanted("clerk", rows=10))
    assert told["replay"]["data"] == [{"file": str(tmp_path / "own.jsonl")}]


def test_steps_fit_into_the_time_and_too_few_are_none():
    assert steps_within(100.0, 0.5) == 200
    assert steps_within(10.0, 0.5) == 0
    assert (steps_within(100.0, 0.5, least=200), steps_within(100.0, 0.5, least=201)) == (200, 0)
    assert steps_within(1e6, 0.1) == 3000
