"""Whole numbers as an answer states them: a number counts where it stands for itself.

In 7.7, 7/7, 7e7, "7 * 7" and "7 thousand" there is no 7, and "minus 7" is -7. What stands around a number in a
sentence ("**7** apples", "$7$", "is 7.") changes nothing. Found by answers such as "7.7" where 7 was right: all numbers
of a text were put into a set, and a set of 7 and 7 has one element.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from studium.domains.answers import without_asides

_WITH_DIGITS = re.compile(r"\d")
# Python refuses to read whole numbers of more than 4,300 digits.
_MOST_DIGITS = 4000
# A text with more is no answer, and would take long to read.
_MOST_NUMBERS = 1000
_NUMBER = re.compile(
    r"(?P<before>[^\d]*?)(?P<sign>[-−–]?)"
    r"(?P<digits>[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.0+)?(?P<after>[^\d]*)"
)
_SIGNS = frozenset("-−–")
_SIGN_WORDS = re.compile(r"(?:minus|negative)\W*", re.IGNORECASE)
_SPOILS_BEFORE = re.compile(r".*(?:[.,/^×÷·√≤≥≠]|\bsqrt\W*|[\w)]\*+)|\w?!?[<>]=?|\w?!=|[\w)]\+")
_SPOILS_AFTER = re.compile(r"\\?[/^×÷·½⅓⅔¼¾²³¹⁰⁴-⁹]|[-−+](?:\w\b|\()|\*+[\w(]")
_COMPARES = frozenset(("<", ">", "<=", ">=", "≤", "≥", "≠", "!="))
_OPERATORS = frozenset(
    (
        "*",
        "**",
        "/",
        "+",
        "-",
        "−",
        "^",
        "x",
        "×",
        "÷",
        "·",
        "%",
        "times",
        "plus",
        "minus",
        "over",
        "by",
        "point",
    )
)
_ALTERS = frozenset(("hundred", "thousand", "million", "billion", "dozen", "squared", "cubed", "divided"))
_NUMBER_WORD = re.compile(
    r"zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million"
)


def only_integer(answer: str) -> str | None:
    """Return the whole number a text states, written plainly: what follows its last "=", else the only one there is.

    None where there is none or several: copied questions and lists of guesses state nothing.
    """
    return one_number(without_asides(_after_equals(answer)))


def one_number(text: str) -> str | None:
    """Return the only whole number of a text, written plainly; None where another stands there, or a part of one."""
    if text.isdecimal() and len(text) <= _MOST_DIGITS:  # what students write nearly always
        return str(int(text))
    found = list(islice(_readings(text), _MOST_NUMBERS + 1))
    if len(found) > _MOST_NUMBERS or len(set(found)) != 1 or found[0] is None:
        return None
    return str(found[0])


def stands_alone(number: str, text: str) -> bool:
    """Say whether a text states a number, and not only something of which its digits are a part.

    True too where the digits are not written there: then somebody worked the number out from something else.
    """
    return number not in text.replace(",", "") or _value(number) in _readings(text)


def _after_equals(answer: str) -> str:
    before, equals, after = answer.replace("=>", "=").rpartition("=")
    return answer if equals and before.rstrip()[-1:] in ("!", "<", ">", "≠") else after


def _readings(text: str) -> Iterator[int | None]:
    """Yield every number of a text in order; None for what is no whole number, or a part of a calculation."""
    words = text.split()
    return (_reading(words, place) for place, word in enumerate(words) if _WITH_DIGITS.search(word))


def _reading(words: Sequence[str], place: int) -> int | None:
    number = _NUMBER.fullmatch(words[place])
    if number is None or _SPOILS_BEFORE.fullmatch(number["before"]) or _SPOILS_AFTER.match(number["after"]):
        return None
    earlier = [_bare(word) for word in words[max(0, place - 2) : place]]
    later = [_bare(word) for word in words[place + 1 : place + 3]]
    if _is_altered(earlier[::-1], later):
        return None
    value = _value(number["digits"])
    return None if value is None else -value if _is_negative(number, earlier) else value


def _value(digits: str) -> int | None:
    return int(digits.replace(",", "")) if len(digits) <= _MOST_DIGITS else None


def _is_altered(backwards: Sequence[str], later: Sequence[str]) -> bool:
    """Say whether the words beside a number make another of it; the nearest come first."""
    if (backwards and backwards[0] in _COMPARES) or (later and later[0] in _ALTERS):
        return True
    return any(
        len(side) == 2 and side[0] in _OPERATORS and _is_operand(side[1]) for side in (backwards, later)
    )


def _is_operand(word: str) -> bool:
    single = len(word) == 1 and word.isalpha() and word not in "ai"
    return single or word.startswith("(") or bool(_NUMBER_WORD.fullmatch(word) or _WITH_DIGITS.search(word))


def _is_negative(number: re.Match[str], earlier: Sequence[str]) -> bool:
    before = number["before"]
    if _SIGN_WORDS.fullmatch(before):
        return True
    if number["sign"]:  # "option-7" is no negative number
        return len(before) < 2 or not before[-2:].isalpha()
    if before.strip("*_`$(\"'"):
        return False
    if not earlier or earlier[-1] not in _SIGNS:
        return bool(earlier) and earlier[-1] in ("minus", "negative")
    # "- 7" is negative, and "the sum - 7" has a dash.
    return not (len(earlier) == 2 and len(earlier[0]) > 1)


def _bare(word: str) -> str:
    """Return a word without what stands around it, but for signs: "times," is "times"."""
    return word.casefold().strip(",.;:$`\"'_") or word
