"""Which domains there are, which one a question belongs to, and domains that packages add."""

from importlib.metadata import EntryPoint

import pytest

from studium.domains.catalogue import DOMAINS, all_domains, domain, recognise, shipped_domains, skills
from studium.domains.open_question import OPEN_QUESTION
from studium.domains.protocol import Domain, Problem
from studium.errors import CallerError, ConfigurationError


def test_the_five_skills_ship():
    assert list(skills()) == ["arithmetic", "sorting", "measures", "sentiment", "programs"]
    assert list(shipped_domains())[:5] == list(skills())
    assert {"codegen", "assembly", "moderation"} <= set(shipped_domains())
    assert set(shipped_domains()) <= set(all_domains())


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(CallerError, match="did you mean 'arithmetic'"):
        domain("aritmetic")


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("What is 47 + 58?", "arithmetic"),
        ("47+58=?", "arithmetic"),
        ("  what is 47+58  ", "arithmetic"),
        ("Hello! Please: Compute 12 \u00d7 3. Thanks!", "arithmetic"),
        ("Sort: 7, 3, 9", "sorting"),
        ("sort 7, 3 and 9", "sorting"),
        ("How many minutes are in 3 hours?", "measures"),
        ("What day is 10 days after Tuesday?", "measures"),
        ('Is this review positive or negative? "Not bad at all."', "sentiment"),
        ("What is 2 + 3 * 4?", "programs"),
        ("What is (2 + 3) * 4", "programs"),
        ("x = 3; y = x + 4; What is y?", "programs"),
        ("Write a Python function f(x) that returns 3 times x plus 4.", "codegen"),
        ("Write a Python function f(x) that brings peace to the world.", None),
        ("Write a 6502 program that stores $05 at $0200.", "assembly"),
        ("What is in A after this 6502 program? LDA #$05; CLC; ADC #$03", "assembly"),
        ("What is the 6502?", None),
        ("Who wrote Hamlet?", None),
        ("What is 47 +", None),
        ("", None),
        ("Sort: apple, pear", None),
    ],
)
def test_a_question_finds_its_domain(question: str, name: str | None):
    found = recognise(question)
    assert (found.name if found else None) == name


def test_a_package_can_add_a_domain_and_a_broken_one_is_named():
    assert isinstance(
        DOMAINS.load(EntryPoint("open", "studium.domains.open_question:OpenQuestion", "")), Domain
    )
    with pytest.raises(ConfigurationError, match="nowhere:Thing cannot be loaded"):
        DOMAINS.load(EntryPoint("broken", "nowhere:Thing", ""))
    with pytest.raises(ConfigurationError, match="is no domain but a str"):
        DOMAINS.load(EntryPoint("text", "studium.domains.answers:ABSTENTION", ""))


def test_an_open_question_is_read_and_compared_but_never_scored():
    assert OPEN_QUESTION.extract("Let me think.\nAnswer: Paris.") == "paris"
    assert OPEN_QUESTION.extract("Paris") == "paris"
    assert OPEN_QUESTION.extract("I cannot answer that.") is None
    assert OPEN_QUESTION.same("1,000", "1000.0")
    assert not OPEN_QUESTION.same("Paris", "Rome")
    assert OPEN_QUESTION.verify(Problem("open question", "k", "q", (), "Paris", 1), "Answer: Paris") is None
    assert not OPEN_QUESTION.recognises("Who wrote Hamlet?")


def test_a_long_text_is_nobodys_and_costs_nothing():
    """Found by a prompt of ten thousand words: recognising it held the whole server for seven seconds."""
    assert recognise("What is 47 + 58?") is not None
    assert recognise("What is 47 + 58? " + "word " * 1_000_000) is None
