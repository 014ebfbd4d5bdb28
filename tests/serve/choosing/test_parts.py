"""Which questions hold several, by their form; and which only look as if they did."""

import pytest

from studium.domains.catalogue import recognise
from studium.serve.choosing.parts import MOST_PARTS, parts_of


def found(question: str) -> tuple[str, ...]:
    return parts_of(question, lambda text: recognise(text) is not None)


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("1. What is 47 + 58? 2. Sort: 7, 3, 9", ("What is 47 + 58?", "Sort: 7, 3, 9")),
        ("1) What is 47 + 58?\n2) Sort: 7, 3, 9", ("What is 47 + 58?", "Sort: 7, 3, 9")),
        ("Answer these:\na) Who wrote Hamlet?\nb) 3 + 4", ("Who wrote Hamlet?", "3 + 4")),
        ("- Who wrote Hamlet?\n- Name a river in France.", ("Who wrote Hamlet?", "Name a river in France.")),
        ("What is 47 + 58? Sort: 7, 3, 9", ("What is 47 + 58?", "Sort: 7, 3, 9")),
    ],
)
def test_several_questions_are_found_by_their_form(question: str, parts: tuple[str, ...]):
    assert found(question) == parts


@pytest.mark.parametrize(
    "question",
    [
        "What is 47 + 58?",
        "Sort: 7, 3, 9",
        "Is 91 prime? Why?",
        "Who was Ada Lovelace? What did she do?",
        "Tom has 3 apples. He eats one. How many are left?",
        "Write a poem about\n- love\n- the sea",
        "1. What is 2 + 2? 2. Multiply the result by 3.",
        "Version 1. 2 is out. What is new in the release?",
        "1. Berlin\n2. Paris\nWhich of these is larger?",
        "",
    ],
)
def test_what_belongs_together_stays_together(question: str):
    assert found(question) == ()


def test_what_stands_before_a_list_goes_with_every_part_unless_it_only_announces():
    story = "A shop sells pens at 3 dollars each and pads at 5 dollars each."
    first, second = found(f"{story}\n1. What do 4 pens cost?\n2. What do 2 pads cost?")
    assert first == f"{story}\n\nWhat do 4 pens cost?"
    assert second == f"{story}\n\nWhat do 2 pads cost?"


def test_more_parts_than_allowed_are_not_taken_apart():
    listed = "\n".join(f"{number}. What is {number} + 1?" for number in range(1, MOST_PARTS + 2))
    assert found(listed) == ()
