"""Messages whose words mislead: what a list of bad words would get wrong, this domain tells apart."""

import re
from random import Random

import pytest

from studium.domains.catalogue import shipped_domains, skills
from studium.domains.moderation import ALLOWED, LABELS, Moderation
from studium.errors import BadRequest

DOMAIN = Moderation()
FRIGHTENING = re.compile(
    r"\b(?:kill|killing|stab|burn|shoot|beat up|destroy|strangle|bury|murder|die|stupid|ugly|fool|idiot|loser)\b",
    re.IGNORECASE,
)


def made(level: int, number: int = 400):
    rng = Random(level)
    return [DOMAIN.make(rng, level) for _ in range(number)]


@pytest.mark.parametrize("level", DOMAIN.levels)
def test_every_label_comes_up_and_none_is_most_of_them(level: int):
    expected = [problem.expected for problem in made(level)]
    shares = {label: expected.count(label) / len(expected) for label in LABELS}
    assert min(shares.values()) > 0.08
    assert max(shares.values()) < 0.5


@pytest.mark.parametrize("level", [2, 3])
def test_frightening_words_neither_mean_harm_nor_are_needed_for_it(level: int):
    harmless = [one for one in made(level) if one.expected == ALLOWED]
    harmful = [one for one in made(level) if one.expected in ("insult", "threat")]
    assert sum(bool(FRIGHTENING.search(one.facts["message"])) for one in harmless) > 0.15 * len(harmless)
    assert sum(not FRIGHTENING.search(one.facts["message"]) for one in harmful) > 0.15 * len(harmful)


@pytest.mark.parametrize("level", DOMAIN.levels)
def test_steps_name_a_cue_that_stands_in_the_message_and_lead_to_the_answer(level: int):
    for problem in made(level):
        labels = [step.rpartition(" = ")[2] for step in problem.steps]
        assert next((label for label in labels if label != ALLOWED), ALLOWED) == problem.expected
        for step in problem.steps:
            assert step.partition(": ")[0].casefold() in problem.facts["message"].casefold()


def test_what_is_quoted_is_allowed_unless_it_gives_somebody_away():
    quoted = [one for one in made(3, 2000) if "guard says" in one.facts["message"]]
    alone = [one for one in quoted if all("quoted" in step or "nothing" in step for step in one.steps)]
    assert alone
    assert {one.expected for one in alone} == {ALLOWED}
    assert "personal data" in {one.expected for one in quoted}


def test_a_message_is_nobody_elses_question_and_it_is_taught_to_no_student():
    assert DOMAIN.name in shipped_domains()
    assert DOMAIN.name not in skills()
    assert not DOMAIN.recognises("Kill the process.")
    assert DOMAIN.recognises('Is this message allowed? "Kill the process."')


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Answer: threat", "threat"),
        ("Answer: Personal data.", "personal data"),
        ("Answer: a threat and an insult", None),
        ("Answer: not allowed", None),
        ("Answer: harmless", None),
        ("spam", "spam"),
    ],
)
def test_one_label_is_an_answer(reply: str, answer: str | None):
    assert DOMAIN.extract(reply) == answer


def test_a_row_with_another_label_is_refused_with_those_there_are():
    with pytest.raises(BadRequest, match="'label' is 'rude'.*one of allowed, insult"):
        DOMAIN.problem_of({"text": "You are rude.", "label": "rude"})
