"""Short reviews from a grammar: positive, negative or mixed.

A review is one to three clauses about different things. Negation turns a word into its opposite
("not bad" is good), and expectations or other people's opinions do not count ("I expected the film
to be dull, but it was lovely"). Level 1 has one plain clause, level 2 negation and two clauses,
level 3 all of it, with remarks that say nothing either way. Worked steps judge clause by clause.
"""

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from studium.domains.exact import ExactDomain
from studium.domains.protocol import Problem, Rule
from studium.domains.rows import choice_of, row_schema, text_of
from studium.domains.wording import Phrasebook

_TEMPLATES = {
    "judge": (
        'Is this review positive, negative or mixed? "{review}"',
        'Is this review positive or negative? "{review}"',
        "Is this review positive or negative? {review}",
        'What is the sentiment of this review? "{review}"',
        "What is the sentiment of this review: {review}",
        "Classify the sentiment: {review}",
        'Classify this review: "{review}"',
        "Review: {review} Sentiment:",
        "Sentiment of: {review}",
        "Positive or negative? {review}",
        "Did the writer like it? {review}",
        '"{review}" Is that positive or negative?',
    )
}
_THINGS = (
    *("soup", "bread", "coffee", "cake", "salad", "waiter", "service", "menu", "wine", "table"),
    *("room", "bed", "view", "staff", "breakfast", "pool", "lobby", "garden", "shower", "plot"),
    *("acting", "ending", "music", "story", "cast", "film", "book", "first chapter", "battery", "screen"),
    *("sound", "camera", "keyboard", "price", "delivery", "packaging", "trip", "guide", "museum", "concert"),
)
_GOOD = (
    *("good", "great", "lovely", "excellent", "wonderful", "delightful", "superb", "pleasant", "charming"),
    *("fantastic", "perfect", "brilliant", "impressive", "nice", "splendid", "enjoyable"),
)
_BAD = (
    *("bad", "awful", "terrible", "dreadful", "poor", "horrible", "disappointing", "dull", "unpleasant"),
    *("boring", "miserable", "annoying", "mediocre", "useless", "shabby", "disgusting"),
)
_LIKED = ("loved", "liked", "enjoyed", "admired", "adored")
_DISLIKED = ("hated", "disliked", "regretted", "detested", "resented")
_BARE = {
    "loved": "love",
    "liked": "like",
    "enjoyed": "enjoy",
    "admired": "admire",
    "adored": "adore",
    "hated": "hate",
    "disliked": "dislike",
    "regretted": "regret",
    "detested": "detest",
    "resented": "resent",
}
_PLAIN = (
    "the {thing} was {word}",
    "the {thing} was really {word}",
    "the {thing} was absolutely {word}",
    "the {thing} seemed very {word}",
    "I found the {thing} {word}",
    "the {thing} turned out {word}",
    "I thought the {thing} was {word}",
)
_NEGATED = (
    "the {thing} was not {word}",
    "the {thing} was not {word} at all",
    "the {thing} was never {word}",
    "the {thing} was far from {word}",
    "the {thing} was anything but {word}",
    "nobody could call the {thing} {word}",
    "I would not say the {thing} was {word}",
)
_CONTRASTED = (
    "I expected the {thing} to be {other}, but it was {word}",
    "my friend called the {thing} {other}, yet I found it {word}",
    "everyone says the {thing} is {other}, but for me it was {word}",
    "I had feared the {thing} would be {other}, but it was {word}",
)
_REMARKS = (
    "We came on a Tuesday",
    "It was our second visit",
    "It rained all day",
    "We paid by card",
    "I ordered it last week",
    "My sister came along",
    "It is close to the station",
    "We stayed for two hours",
)
_ANSWERS = ("positive", "negative", "mixed")
_ANSWER = re.compile(rf"\b({'|'.join(_ANSWERS)})\b", re.IGNORECASE)


class _Clause(NamedTuple):
    text: str
    step: str
    good: bool


class Sentiment(ExactDomain):
    """Say whether a review is positive, negative or mixed."""

    name = "sentiment"
    wrong_answers = 2.0
    metrics = ("accuracy", "f1")
    schema = row_schema(
        {"text": "the review", "label": "what its writer thinks"},
        {"text": "The soup was not bad at all.", "label": "positive"},
        {"label": _ANSWERS},
    )
    rules: Sequence[Rule] = (
        Rule("negation", "A negated word means its opposite: 'not bad' is good."),
        Rule("own view", "Expectations and other people's opinions do not count."),
        Rule("mixed", "Good and bad clauses together are mixed; remarks without a judgement do not count."),
        Rule("answer", "End with a line 'Answer: ' and positive, negative or mixed."),
    )
    phrases = Phrasebook(_TEMPLATES, {"review": r".*?[a-z]{2}.*"})

    def make(self, rng: Random, level: int) -> Problem:
        things = rng.sample(_THINGS, _number_of_clauses(rng, level))
        good = rng.random() < 0.5
        mixed = len(things) > 1 and rng.random() < 0.4
        clauses = [_clause(rng, level, thing, good != (mixed and i > 0)) for i, thing in enumerate(things)]
        rng.shuffle(clauses)
        review = _review(rng, level, [clause.text for clause in clauses])
        return Problem(
            domain=self.name,
            key=review.casefold(),
            prompt=self.phrases.ask(rng, "judge", review=review),
            steps=(", ".join(clause.step for clause in clauses),),
            expected="mixed" if mixed else "positive" if good else "negative",
            level=level,
            facts={"review": review},
        )

    def canonical(self, answer: str) -> str | None:
        found = {word.lower() for word in _ANSWER.findall(answer)}
        return found.pop() if len(found) == 1 else None

    def problem_of(self, row: Mapping[str, Any]) -> Problem:
        review, label = text_of(row, "text"), choice_of(row, "label", _ANSWERS)
        prompt = _TEMPLATES["judge"][0].format(review=review)
        return Problem(self.name, review.casefold(), prompt, (), label, 0, {"review": review})


def _number_of_clauses(rng: Random, level: int) -> int:
    return 1 if level == 1 else rng.randint(1, 2) if level == 2 else rng.randint(2, 3)


def _clause(rng: Random, level: int, thing: str, good: bool) -> _Clause:
    """Return a clause that judges `thing`, and the step that says how it is read."""
    forms = (_plain, _verb) if level == 1 else (_plain, _negated, _negated, _negated_verb, _verb)
    form = rng.choice(forms + (_contrasted, _contrasted) if level == 3 else forms)
    text, heard = form(rng, thing, good)
    return _Clause(text, f"{thing}: {heard} = {'good' if good else 'bad'}", good)


def _word(rng: Random, good: bool) -> str:
    return rng.choice(_GOOD if good else _BAD)


def _plain(rng: Random, thing: str, good: bool) -> tuple[str, str]:
    word = _word(rng, good)
    return rng.choice(_PLAIN).format(thing=thing, word=word), word


def _negated(rng: Random, thing: str, good: bool) -> tuple[str, str]:
    word = _word(rng, not good)
    return rng.choice(_NEGATED).format(thing=thing, word=word), f"not {word}"


def _verb(rng: Random, thing: str, good: bool) -> tuple[str, str]:
    verb = rng.choice(_LIKED if good else _DISLIKED)
    return f"I {verb} the {thing}", verb


def _negated_verb(rng: Random, thing: str, good: bool) -> tuple[str, str]:
    verb = _BARE[rng.choice(_DISLIKED if good else _LIKED)]
    return f"I did not {verb} the {thing}", f"not {verb}"


def _contrasted(rng: Random, thing: str, good: bool) -> tuple[str, str]:
    word = _word(rng, good)
    return rng.choice(_CONTRASTED).format(thing=thing, word=word, other=_word(rng, not good)), word


def _review(rng: Random, level: int, clauses: Sequence[str]) -> str:
    """Join clauses into sentences, at the highest level with a remark among them."""
    if len(clauses) == 2 and rng.random() < 0.5:
        sentences = [rng.choice(("{}, and {}", "{}, but {}", "{}; {}")).format(*clauses)]
    else:
        sentences = list(clauses)
    if level == 3 and rng.random() < 0.5:
        sentences.insert(rng.randint(0, len(sentences)), rng.choice(_REMARKS))
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)
