"""Which differences in words an embedding is asked about, and which make another question by themselves."""

import pytest

from studium.serve.cache.same_question import differences, opposite_in_spelling, plainly, words_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How can I reset my password?", "how do I reset my password"),
        ("Hi, how could I boil an egg please?", "How to boil an egg?"),
        ("What's the way to boil an egg?", "How do you boil an egg?"),
        ("Could you please explain gravity to me?", "Explain gravity."),
        ("Please tell me a joke, thank you!", "tell me a joke"),
        ("Where’s Rome?", "Where is Rome?"),
    ],
)
def test_how_a_question_is_dressed_does_not_count(one, other):
    assert words_of(plainly(one)) == words_of(plainly(other))
    assert differences(plainly(one), plainly(other)) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Can you swim?", "swim?"),
        ("Can I eat this?", "Should I eat this?"),
        ("What is the time?", "What is time?"),
        ("Do dogs bark?", "Can dogs bark?"),
    ],
)
def test_what_is_asked_is_left_as_it_was(one, other):
    assert words_of(plainly(one)) != words_of(plainly(other))


def test_words_in_each_others_place_are_what_the_embedding_is_asked_about():
    one, other = "How to fix a red bike quickly?", "How to repair a red bicycle fast?"
    assert differences(one, other) == [("fix", "repair"), ("bike", "bicycle"), ("quickly", "fast")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Can dogs eat chocolate?", "Can dogs eat white chocolate?"),
        ("Are elephants heavier than whales?", "Are whales heavier than elephants?"),
        ("Is it safe to eat?", "Is it unsafe to eat?"),
        ("What should an employer know?", "What should an employee know?"),
        ("Name 3 birds", "Name 4 birds"),
        ("is a + b odd", "is a - b odd"),
        ("the model gpt4 is", "the model gpt5 is"),
        ("one two three four", "five six seven eight"),
        ("a fix b cup c bike d red", "a mend b mug c cycle d crimson"),
        ("red cup", "cup red"),
        ("", "gravity"),
    ],
)
def test_other_differences_are_no_matter_of_likeness(one, other):
    assert differences(one, other) is None


@pytest.mark.parametrize(
    ("one", "other", "opposite"),
    [
        ("legal", "illegal", True),
        ("import", "export", True),
        ("input", "output", True),
        ("careful", "careless", True),
        ("install", "reinstall", True),
        ("unhappy", "happy", True),
        ("colour", "color", False),
        ("fix", "repair", False),
        ("car", "cars", False),
        ("under", "thunder", False),
    ],
)
def test_opposites_are_known_by_their_spelling(one, other, opposite):
    assert opposite_in_spelling(one, other) == opposite_in_spelling(other, one) == opposite
