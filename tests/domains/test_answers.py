"""How replies of small and of large models are read."""

import pytest

from studium.domains.answers import ABSTENTION, abstains, denies, final_answer, normalise
from studium.domains.arithmetic import Arithmetic
from studium.domains.measures import Measures
from studium.domains.moderation import Moderation
from studium.domains.sentiment import Sentiment
from studium.domains.sorting import Sorting


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("7+8=15, carry 1\nAnswer: 105", "105"),
        ("Answer: 3\nno, wait\nAnswer: 4", "4"),
        ("**Answer:** 105", "105"),
        ("### answer: 7, 3, 9", "7, 3, 9"),
        ("Column by column it is done.\nFinal Answer: 105", "105"),
        ("Column by column it is done.\n**Final Answer:** 105", "105"),
        ("My final answer: 105", "105"),
        ("## The answer: 105", "105"),
        ("So the answer is 42.", "42"),
        (r"Therefore \boxed{12}.", "12"),
        ("The answer is 3.5 metres. Good luck!", "3.5 metres"),
        ("Answer:", None),
        ("", None),
        (ABSTENTION, None),
        ("I will not tell.", None),
    ],
)
def test_the_last_stated_answer_is_read(reply: str, answer: str | None):
    assert final_answer(reply) == answer


@pytest.mark.parametrize(
    "reply", [ABSTENTION, "I can't answer this one.", " i cannot answer that", "Sorry, I cannot answer that."]
)
def test_declining_is_recognised(reply: str):
    assert abstains(reply)


@pytest.mark.parametrize(
    "reply", ["Answer: 4", "", "They said: I cannot answer that.", "I cannot believe it. Answer: 4"]
)
def test_answering_is_not_taken_for_declining(reply: str):
    assert not abstains(reply)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("105", " 105. "),
        ("1,250", "1250"),
        ("**Paris**", "paris"),
        ("4.0", "4"),
        ("a  b", "A b"),
        ('"yes"', "Yes!"),
    ],
)
def test_equal_answers_are_equal_text(one: str, other: str):
    assert normalise(one) == normalise(other)


def test_different_answers_stay_different():
    assert len({normalise(answer) for answer in ("1", "-1", "1.5", "12", "1 2", "1,2", "one")}) == 7


@pytest.mark.parametrize(
    ("domain", "reply", "answer"),
    [
        (Arithmetic(), "105", "105"),
        (Arithmetic(), "The answer is 1,405.", "1405"),
        (Arithmetic(), "47 + 58 is 105, and I am sure that nobody would doubt it", None),
        (Sorting(), "Answer: [3, 7, 9]", "3, 7, 9"),
        (Sorting(), "Answer: 3 7 9", "3, 7, 9"),
        (Measures(), "Answer: 180 minutes", "180"),
        (Measures(), "Answer: the 4th of April", "4 April"),
        (Measures(), "Answer: 4th April", "4 April"),
        (Measures(), "Answer: friday", "Friday"),
        (Sentiment(), "Answer: Positive!", "positive"),
        (Sentiment(), "Answer: positive or negative", None),
    ],
)
def test_a_domain_reads_answers_in_its_own_form(domain, reply: str, answer: str | None):
    assert domain.extract(reply) == answer


@pytest.mark.parametrize(
    ("answer", "denied"),
    [
        ("no threat", True),
        ("non-threat", True),
        ("this cannot be called a threat", True),
        ("nothing but a threat", False),
        ("no doubt a threat", False),
        ("no harm, so a threat", False),
        ("a threat", False),
        ("a threat, never mind", False),
    ],
)
def test_an_answer_denies_its_meaning_where_the_meaning_stands_in_what_it_denies(answer: str, denied: bool):
    assert denies(answer, "threat", lambda text: "threat" if "threat" in text else None) is denied


@pytest.mark.timeout(20)
@pytest.mark.parametrize("junk", ["no " * 100_000, "threat, " + "no x, " * 50_000])
def test_a_long_list_of_denials_is_read_at_once(junk: str):
    assert Moderation().extract(f"Answer: {junk}") in (None, "threat")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("junk", ["answer:" + "\n" * 200_000, "\n" * 200_000, "answer" + " " * 200_000])
def test_a_reply_of_empty_lines_is_read_at_once(junk: str):
    """Found by junk put to a domain: 200,000 empty lines held the reader for more than ten minutes."""
    assert final_answer(junk) is None
