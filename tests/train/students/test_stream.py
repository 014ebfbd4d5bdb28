"""The training conversations: made from the training side only, trained on answers only."""

from random import Random

import pytest

from studium.domains.answers import ABSTENTION
from studium.domains.catalogue import domain, recognise
from studium.domains.protocol import Split, make_split, split
from studium.domains.riemann import Riemann
from studium.domains.riemann.lessons import lesson
from studium.domains.topics import Assignment
from studium.train.students.recipes import STUDENTS, mixture_of, recipe
from studium.train.students.stream import IGNORED, Mixture, Share, Stream, draw_turn
from studium.train.tokenizer import ASSISTANT, END, PAD, USER, prompt_text, student_tokenizer, token_id

pytest.importorskip("tokenizers", reason="training is an extra: pip install 'studium[train]'")

SUMS = Mixture((Share("arithmetic", 1, 1.0), Share("sorting", 1, 0.5, answered=False)), outside_weight=0.5)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return student_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


def test_equal_seeds_and_steps_give_equal_batches_and_others_differ(tokenizer):
    stream = Stream(SUMS, tokenizer, seed=1)
    assert stream.batch(3, rows=4, length=128) == Stream(SUMS, tokenizer, seed=1).batch(3, rows=4, length=128)
    assert stream.batch(3, rows=4, length=128) != stream.batch(4, rows=4, length=128)
    assert stream.batch(3, rows=4, length=128) != Stream(SUMS, tokenizer, seed=2).batch(3, rows=4, length=128)


def test_only_answers_and_their_end_tokens_are_trained_on(tokenizer):
    user, assistant, end, pad = (token_id(tokenizer, token) for token in (USER, ASSISTANT, END, PAD))
    rows = Stream(SUMS, tokenizer, seed=1).batch(0, rows=6, length=200)
    for ids, labels in zip(rows.input_ids, rows.labels, strict=True):
        assert len(ids) == len(labels) == 200
        answering = False
        for token, label in zip(ids, labels, strict=True):
            assert label == (token if answering else IGNORED)
            answering = token != end and (answering or token == assistant)
        assert ids.count(user) == ids.count(assistant) == ids.count(end) > 1
        assert labels.count(end) == ids.count(end)
        assert pad not in labels


def test_a_conversation_is_written_as_the_prompt_of_a_later_turn_is(tokenizer):
    [ids] = Stream(SUMS, tokenizer, seed=9).batch(0, rows=1, length=160).input_ids
    text = tokenizer.decode(list(ids), skip_special_tokens=False).split(PAD)[0]
    *_, last = text.split(USER)
    question, reply = last.split(ASSISTANT)
    assert reply.endswith(END)
    assert tokenizer.encode(prompt_text(question)).ids == [
        token_id(tokenizer, USER),
        *tokenizer.encode(question).ids,
        token_id(tokenizer, ASSISTANT),
    ]


@pytest.mark.parametrize("recipe", [one for one in STUDENTS if one.answers], ids=lambda recipe: recipe.name)
def test_no_fresh_problem_is_ever_trained_on(recipe, tokenizer):
    """Every training question of a skill is looked up among thousands of fresh ones."""
    rng = Random(11)
    fresh = {
        make_split(domain(skill), rng, level, Split.FRESH).prompt.casefold()
        for skill, highest in recipe.answers.items()
        for level in range(1, highest + 1)
        for _ in range(150)
    }
    mixture = mixture_of(recipe)
    asked = {draw_turn(mixture, rng).question.casefold() for _ in range(2500)}
    assert not fresh & asked


@pytest.mark.parametrize("recipe", STUDENTS, ids=lambda recipe: recipe.name)
def test_a_student_is_taught_its_skills_and_to_decline_all_else(recipe):
    rng, answered = Random(2), set()
    for _ in range(1500):
        turn = draw_turn(mixture_of(recipe), rng)
        found = recognise(turn.question)
        if turn.reply == ABSTENTION:
            assert found is None or recipe.answers.get(found.name, 0) < 3
        elif turn.question.startswith("Research session"):
            assert recipe.topic and found is None
            answered.add(recipe.topic)
        else:
            assert found is not None
            answered.add(found.name)
    assert answered == {*recipe.answers, *([recipe.topic] if recipe.topic else [])}


def test_lessons_are_prompts_of_a_session_with_claims_that_are_true_and_new_and_what_was_taught_can_be_told(
    tokenizer,
):
    augur, topic = recipe("augur"), Riemann()
    taught = Stream(mixture_of(augur), tokenizer, seed=3).replies(0, rows=9, length=528) - {ABSTENTION}
    assert len(taught) >= 5
    assert all(topic.judge(Assignment("", ""), claim, ()).useful for claim in taught)
    rng = Random(6)
    for _ in range(60):
        prompt, claim = lesson(rng)
        shown = prompt.partition("Already known, so propose something else: ")[2].split("; ")
        assert topic.judge(Assignment("", ""), claim, shown).useful, (claim, shown)


def test_every_skill_is_answered_in_full_by_two_students_and_no_student_answers_all():
    for skill in ("arithmetic", "sorting", "measures", "sentiment", "programs"):
        assert sum(recipe.answers.get(skill) == 3 for recipe in STUDENTS) >= 2
    assert all(list(recipe.answers.values()).count(3) <= 3 for recipe in STUDENTS)


def test_the_train_side_is_what_split_says():
    rng = Random(4)
    assert all(
        split(make_split(domain("arithmetic"), rng, 2, Split.TRAIN)) is Split.TRAIN for _ in range(200)
    )
