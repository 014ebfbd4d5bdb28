"""When questions are the same, and what must be equal where they only mean the same."""

from dataclasses import replace

import pytest

from studium.records.answers import Complexity, Query
from studium.records.messages import Message, Sampling
from studium.records.models import ModelSpec, Student
from studium.serve.cache.keys import (
    draws_nothing,
    exact_key,
    files_of,
    guard,
    packed,
    scope_of,
    similarity,
    unpacked,
)

BASE = Query(messages=(Message("system", "Be brief."), Message("user", "What is 47 + 58?")))


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (Message("system", "Be long."), BASE.messages[1])},
        {"messages": (*BASE.messages, Message("user", "And now?"))},
        {"messages": (Message("user", "Be brief."), BASE.messages[1])},
        {"prompt": "What is 47 + 58?"},
        {"model": "abacus"},
        {"complexity": Complexity.EXPERT},
        {"strategy": "single"},
        {"students": ("abacus",)},
        {"domain": "arithmetic"},
        {"top_logprobs": 0},
        {"json_schema": {"type": "object"}},
        {"grammar": 'root ::= "x"'},
        {"api_key_name": "key-1"},
        {"refine": True},
        *(
            {"sampling": Sampling(**{name: value})}
            for name, value in {
                "temperature": 0.0,
                "top_k": 1,
                "top_p": 0.5,
                "repeat_penalty": 1.1,
                "seed": 7,
                "max_tokens": 3,
                "stop": (".",),
            }.items()
        ),
    ],
)
def test_whatever_decides_the_answer_changes_the_key(change):
    assert exact_key(replace(BASE, **change), ()) != exact_key(BASE, ())


def test_what_does_not_decide_the_answer_leaves_the_key():
    other = replace(BASE, request_id="r-1", session="s", cache=True, timeout_s=3.0)
    assert exact_key(other, ("roster",)) == exact_key(BASE, ("roster",))
    assert exact_key(BASE, ("roster",)) != exact_key(BASE, ("another",))


def test_a_schemas_order_of_properties_is_part_of_the_key():
    one = replace(BASE, json_schema={"a": 1, "b": 2})
    assert exact_key(one, ()) != exact_key(replace(BASE, json_schema={"b": 2, "a": 1}), ())


def test_only_the_last_thing_the_user_said_may_differ_in_words():
    same = replace(BASE, messages=(BASE.messages[0], Message("user", "How much is 47 + 58?")))
    assert scope_of(same, ()) == scope_of(BASE, ())
    other = replace(BASE, messages=(Message("system", "Be long."), BASE.messages[1]))
    assert scope_of(other, ()) != scope_of(BASE, ())
    assert scope_of(replace(BASE, api_key_name="key-1"), ()) != scope_of(BASE, ())
    assert scope_of(replace(BASE, messages=(), prompt="x"), ()) is None
    assert scope_of(replace(BASE, messages=(*BASE.messages, Message("assistant", "105"))), ()) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 47 + 58?", "What is 47 + 59?"),
        ("What is 47 + 58?", "What is 47 - 58?"),
        ("What is 12 - 5?", "What is 5 - 12?"),
        ("What is 1.5 times two?", "What is 1.5 times three?"),
        ("Which of these is a fruit?", "Which of these is not a fruit?"),
        ("Which birds can fly?", "Which birds can't fly?"),
        ("the capital of France", "the capital of Spain"),
        ("Paris: how old is it?", "Rome: how old is it?"),
        ('What does "yes" mean?', 'What does "perhaps" mean?'),
        ("Sort the list ascending: a b", "Sort the list descending: a b"),
        ("Name the largest planet.", "Name the smallest planet."),
        ("Welche Tiere fliegen?", "Welche Tiere fliegen nicht?"),
        ("a car from here", "a car to here"),
    ],
)
def test_what_an_embedding_overlooks_is_guarded(one, other):
    assert guard(one) != guard(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the colour of the sky?", "What is the sky's colour"),
        ("Please explain gravity.", "Explain gravity, please!"),
        ("Could I have 3 reasons?", "could I have 3 reasons"),
    ],
)
def test_other_words_for_the_same_pass_the_guard(one, other):
    assert guard(one) == guard(other)


def test_vectors_survive_packing_and_useless_ones_are_refused():
    assert list(unpacked(packed((0.5, -0.25)) or b"")) == [0.5, -0.25]
    assert packed(()) is None and packed((float("nan"),)) is None
    assert unpacked(b"abc") == ()
    assert similarity((1.0, 0.0), (2.0, 0.0)) == 1.0
    assert similarity((0.0, 0.0), (1.0, 0.0)) == similarity((1.0,), (1.0, 0.0)) == 0.0


def test_randomness_of_any_student_or_of_the_caller_keeps_an_answer_from_being_kept():
    greedy = Student("a", ModelSpec("a", "scripted", "a"), sampling=Sampling(temperature=0.0))
    open_choice = replace(greedy, name="b", sampling=Sampling())
    assert draws_nothing(BASE, [greedy])
    assert not draws_nothing(BASE, [greedy, open_choice])
    assert not draws_nothing(replace(BASE, sampling=Sampling(temperature=0.7)), [greedy])
    assert draws_nothing(replace(BASE, sampling=Sampling(temperature=0.0)), [greedy, open_choice])
    assert not draws_nothing(BASE, [])


def test_a_file_that_changes_is_noticed(tmp_path):
    file = tmp_path / "a.gguf"
    file.write_bytes(b"one")
    student = Student("a", ModelSpec("a", "scripted", f"{file}#part"))
    before = files_of([student])
    file.write_bytes(b"other")
    assert files_of([student]) != before
    file.unlink()
    assert files_of([student]) == [(-1, -1)]
