"""Questions outside every skill: none is recognised, and the fresh side shares no words with the other."""

from random import Random

import pytest

from studium.domains.catalogue import recognise
from studium.domains.outside import outside_question, words_of
from studium.domains.protocol import Split


@pytest.mark.parametrize("side", Split)
def test_no_skill_recognises_a_question_outside(side: Split):
    rng = Random(5)
    questions = [outside_question(rng, side) for _ in range(3000)]
    assert [question for question in questions if recognise(question)] == []
    assert len(set(questions)) > 1500


@pytest.mark.parametrize("kind", ["noun", "verb", "adjective", "place", "name"])
def test_fresh_words_are_never_trained_on(kind: str):
    assert not set(words_of(kind, Split.FRESH)) & set(words_of(kind, Split.TRAIN))
    assert len(words_of(kind, Split.FRESH)) >= 8
