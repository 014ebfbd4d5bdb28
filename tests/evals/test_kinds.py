"""Which questions are of one kind."""

from collections import defaultdict
from random import Random
from string import ascii_lowercase

import pytest

from studium.evals.kinds import MOST_CLUSTERS, Kinds

SORTS = {
    "capital": ["What is the capital of France?", "What is the capital of Peru?", "Name the capital city of Japan."],
    "poem": ["Write a poem about autumn.", "Write a short poem about the sea", "Please write me a poem about my cat."],
    "translate": ["Translate to German: good morning", "Translate into German: where is the station?",
                  "Translate this sentence to French: I am tired."],
    "python": ["Write a Python function that reverses a string.", "How do I write a Python function that sorts a list?",
               "Python function that counts words in a file"],
    "stories": ["Anna has 3 apples and buys 5 more. How many apples does she have?",
                "Tom has 12 marbles and gives 4 away. How many marbles does he have left?"],
    "summary": ["Summarise the following text: The cat sat on the mat.",
                "Summarise this text in one sentence: Rain fell.",
                "Give a summary of the following text: Birds fly south."],
    "author": ["Who wrote Hamlet?", "Who wrote Faust?", "Who is the author of Don Quixote?"],
}  # fmt: skip


def in_turn() -> list[tuple[str, str]]:
    return [(sort, asked[turn]) for turn in range(3) for sort, asked in SORTS.items() if turn < len(asked)]


def test_like_questions_share_a_kind_and_unlike_ones_do_not():
    kinds = Kinds()
    sorts_of = defaultdict(set)
    for sort, question in in_turn():
        sorts_of[kinds.learn(question, None)].add(sort)
    assert all(len(sorts) == 1 for sorts in sorts_of.values()), sorts_of
    assert len(sorts_of) <= len(SORTS) + 2


def test_a_domain_that_knows_the_question_names_its_kind():
    kinds = Kinds()
    assert (
        kinds.of("What is 2 + 2?", "arithmetic")
        == kinds.learn("What is 2 + 2?", "arithmetic")
        == "arithmetic"
    )
    assert kinds.clusters == {}


def test_to_look_changes_nothing_and_foretells_what_learning_will_say():
    kinds = Kinds()
    for _, question in in_turn():
        before = dict(kinds.clusters)
        foretold = kinds.of(question, None)
        assert kinds.clusters == before
        assert kinds.learn(question, None) == foretold


def test_kinds_come_back_from_the_store_with_their_names():
    saved = {}
    kinds = Kinds(save=lambda cluster: saved.__setitem__(cluster.name, cluster))
    for _, question in in_turn():
        kinds.learn(question, None)
    again = Kinds(saved.values())
    assert all(again.of(question, None) == kinds.of(question, None) for _, question in in_turn())
    assert "capital" in again.describe(again.of("What is the capital of Spain?", None))


def test_where_no_questions_are_kept_no_words_of_theirs_are():
    kinds = Kinds(keep_words=False)
    name = kinds.learn("My password is hunter2", None)
    assert kinds.describe(name) == name
    assert not any(cluster.words for cluster in kinds.clusters.values())


def test_words_that_were_kept_before_are_forgotten_where_none_are_kept_any_more():
    kept, saved = Kinds(), []
    kept.learn("My password is hunter2", None)
    assert kept.clusters["cluster-1"].words
    Kinds(kept.clusters.values(), save=saved.append, keep_words=False)
    assert [(cluster.name, cluster.words) for cluster in saved] == [("cluster-1", {})]


def test_there_are_never_more_than_a_bounded_number_of_kinds():
    kinds = Kinds()
    rng = Random(0)
    for _ in range(3 * MOST_CLUSTERS):
        kinds.learn(" ".join("".join(rng.choices(ascii_lowercase, k=7)) for _ in range(3)), None)
    assert len(kinds.clusters) == MOST_CLUSTERS
    assert set(kinds.clusters) == {f"cluster-{number + 1}" for number in range(MOST_CLUSTERS)}


def test_of_a_very_long_question_only_the_ends_are_read():
    kinds = Kinds()
    kinds.learn("Summarise the following text: " + "rain fell. " * 200_000, None)
    assert len(kinds.clusters["cluster-1"].trigrams) < 60


@pytest.mark.parametrize(
    "question", ["", "???", "\N{GREEK SMALL LETTER ALPHA}", "日本の首都はどこですか", "a"]
)
def test_any_text_has_a_kind(question):
    kinds = Kinds()
    assert kinds.learn(question, None) == kinds.of(question, None) or not kinds.clusters["cluster-1"].trigrams


def test_meaning_joins_what_letters_do_not_and_letters_learn_from_it():
    kinds = Kinds()
    one_way = [[1.0 if place == number else 0.1 for place in range(9)] for number in range(9)]
    for number, asked in enumerate(SORTS.values()):
        kinds.learn(asked[0], None, one_way[number])
    capital = kinds.of("What is the capital of France?", None)
    assert kinds.learn("Seat of government, Peru?", None, one_way[8]) != capital
    assert kinds.learn("Where do ministers sit in Peru?", None, one_way[0]) == capital
    assert kinds.of("Where do ministers sit in Chile?", None) == capital


def test_before_there_is_much_to_stand_out_from_letters_decide():
    kinds = Kinds()
    capital = kinds.learn("What is the capital of France?", None, (1.0, 0.0))
    assert kinds.learn("Write a poem about autumn.", None, (1.0, 0.01)) != capital


@pytest.mark.parametrize("level", [0.0, 0.9], ids=["cosines around 0", "cosines around 0.9"])
def test_near_in_meaning_is_what_stands_out_whatever_a_models_cosines_are(level):
    """A fixed 0.6 made a kind of every question with a model whose cosines lie around 0, one of all around 0.9."""
    rng = Random(0)

    def vector(*, like: list[float] | None = None) -> list[float]:
        own = [rng.gauss(0, 1) for _ in range(64)]
        mixed = own if like is None else [0.3 * a + 0.9 * b for a, b in zip(own, like, strict=True)]
        return [one + 3 * level for one in mixed]

    kinds, base = Kinds(), [rng.gauss(0, 1) for _ in range(64)]
    words = [" ".join("".join(rng.choices(ascii_lowercase, k=9)) for _ in range(3)) for _ in range(22)]
    assert len({kinds.learn(text, None, vector()) for text in words[:20]}) == 20
    one = kinds.learn(words[20], None, vector(like=base))
    assert kinds.learn(words[21], None, vector(like=base)) == one
