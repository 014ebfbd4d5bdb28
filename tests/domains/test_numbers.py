"""A number counts where it stands for itself: what only contains it, negates it or calculates with it is another."""

from random import Random

import pytest

from studium.domains.catalogue import shipped_domains
from studium.domains.exact import ExactDomain
from studium.domains.numbers import one_number, only_integer, stands_alone
from studium.domains.protocol import Problem

DOMAINS = shipped_domains()


def score(domain: str, expected: str, answer: str) -> float | None:
    return DOMAINS[domain].verify(Problem(domain, "key", "?", (), expected, 1), f"Answer: {answer}")


@pytest.mark.parametrize(
    ("domain", "expected", "answers"),
    [
        ("arithmetic", "7", ("7.7", "7.07", "7/7", "7 * 7", "7*7", "7e7", "minus 7", "-7", "- 7", "\u22127")),
        ("arithmetic", "7", ("7^7", "x - 7", "7\u00b2", "\u221a7", "7:07")),
        ("arithmetic", "7", (".7", "0,7", "7 times seven", "7 thousand", "x != 7", ">= 7", "< 7")),
        ("arithmetic", "105", ("10,5", "1,05", "0,105", "105.5", "105" + "0" * 5000)),
        ("programs", "7", ("7.7", "7/7", "7 * 7", "minus 7")),
        ("sorting", "2", ("-2", "minus 2", "- 2", "2.5", "2e0")),
        ("sorting", "3, 5, 9", ("-3, 5, 9", "3.5.9", "3, 5, -9", "minus 3, 5, 9", "[-3, 5, 9]", "never 3, 5, 9")),
        ("chains", "5", ("-5", ".5", "minus 5", "5\u00b2")),
        ("measures", "60", ("-60", "60.60", "60:60", "minus 60 minutes", "6,0")),
        ("measures", "4 April", ("-4 April", "14.4 April")),
        ("measures", "Friday", ("the day after Friday", "anything but Friday")),
    ],
)  # fmt: skip
def test_an_answer_in_which_the_right_number_only_occurs_is_wrong(
    domain: str, expected: str, answers: tuple[str, ...]
):
    """All numbers of a text were put into a set: that of 7.7 has one element, 7. Signs and dots did not count."""
    assert {answer[:40]: score(domain, expected, answer) for answer in answers} == {
        answer[:40]: 0.0 for answer in answers
    }


@pytest.mark.parametrize(
    ("domain", "expected", "answers"),
    [
        ("arithmetic", "7", ("7", "7.", "7.0", "07", "+7", "= 7", "3 + 4 = 7", "=> 7", "-> 7")),
        ("arithmetic", "7", ("7 7", "7!", "7 (seven)", "\\boxed{7}", "<b>7</b>", "`7`")),
        ("arithmetic", "7", ("(7)", "\\(7\\)", "\\(7\\) apples", "\\( 3 + 4 = 7 \\)")),
        ("arithmetic", "7", ("7 apples", "7kg", "**7**", "*7*", "**7** apples", "$7$", "$7")),
        ("arithmetic", "7", ("the sum - 7", "7 - no doubt", "7 without remainder", "no carry, so 7", "No, it is 7")),
        ("arithmetic", "7000", ("7,000", "7000", "$7,000.", "7,000.0")),
        ("arithmetic", "-7", ("-7", "minus 7", "negative 7", "\u22127")),
        ("sorting", "2", ("2", "2 times", "it appears 2 times in the list", "[2]")),
        ("sorting", "3, 5, 9", ("3,5,9", "[3, 5, 9]", "3 5 9", "3 - 5 - 9", "3-5-9", "3 < 5 < 9", "3; 5; and 9.")),
        ("chains", "5", ("5.", "**5**", "= 5", "(5)", "the digit 5")),
        ("measures", "1800", ("1,800", "1800 minutes", "**1800** minutes (30 hours)")),
    ],
)  # fmt: skip
def test_what_stands_around_a_number_in_a_sentence_changes_nothing(
    domain: str, expected: str, answers: tuple[str, ...]
):
    assert {answer: score(domain, expected, answer) for answer in answers} == dict.fromkeys(answers, 1.0)


def test_a_number_is_read_once_and_a_text_with_several_has_none():
    assert (one_number("7, that is 7"), one_number("7 or 8"), one_number("none")) == ("7", None, None)
    assert only_integer("2 + 5 = 7 (2 plus 5)") == "7"
    assert one_number("7 " * 1000) == "7"
    assert one_number("7 " * 1000 + "8") is None


@pytest.mark.parametrize(
    ("number", "text", "alone"),
    [
        ("14", "3 * 5 - 1 = 14", True),
        ("14", "14 * 14", False),
        ("14", "14.14", False),
        ("1450", "$14.50", True),  # somebody's cents: not written there
    ],
)
def test_a_number_stands_alone_where_it_is_stated_at_least_once(number: str, text: str, alone: bool):
    assert stands_alone(number, text) is alone


class LastNumber(ExactDomain):
    """A domain of a user's whose own reading is careless about what stands around a number."""

    name = "last"

    def canonical(self, answer: str) -> str | None:
        return "".join(one for one in answer.rsplit(maxsplit=1)[-1] if one.isdecimal()) or None


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("3 * 60 = 180", "180"),
        ("180.", "180"),
        ("-180", None),
        ("180/180", "180180"),
        ("no 180", None),
        ("18,0", None),
    ],
)
def test_the_base_of_the_exact_domains_protects_a_careless_reading(answer: str, read: str | None):
    assert LastNumber().extract(f"Answer: {answer}") == read


@pytest.mark.parametrize(
    ("domain", "expected", "answers"),
    [
        (
            "moderation",
            "threat",
            ("no threat", "non-threat", "without threat", "hardly a threat", "far from a threat"),
        ),
        (
            "moderation",
            "allowed",
            ("cannot be allowed", "never allowed", "no longer allowed", "can't be allowed"),
        ),
        (
            "sentiment",
            "positive",
            ("far from positive", "anything but positive", "non-positive", "wasn't positive"),
        ),
    ],
)
def test_an_answer_that_denies_the_right_label_is_wrong(domain: str, expected: str, answers: tuple[str, ...]):
    """Only "not" and "isn't" were known to deny."""
    assert {answer: score(domain, expected, answer) for answer in answers} == dict.fromkeys(answers, 0.0)


@pytest.mark.parametrize(
    ("domain", "expected", "answer"),
    [
        ("moderation", "allowed", "allowed, never harmful"),
        ("moderation", "allowed", "nothing but allowed"),
        ("sentiment", "positive", "positive without a doubt"),
    ],
)
def test_a_denial_of_something_else_changes_nothing(domain: str, expected: str, answer: str):
    assert score(domain, expected, answer) == 1.0


@pytest.mark.parametrize("line", ["Final Answer: ", "**Final Answer:** ", "The final answer: "])
def test_a_long_solution_may_end_with_a_final_answer(line: str):
    """Any reply of more than 40 characters that ended so was wrong."""
    problem = DOMAINS["arithmetic"].make(Random(1), 3)
    reply = "\n".join((*problem.steps, f"{line}{problem.expected}"))
    assert DOMAINS["arithmetic"].verify(problem, reply) == 1.0
