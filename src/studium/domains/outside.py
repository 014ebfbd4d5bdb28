"""Questions outside every skill, with which students learn to decline and are tested on declining.

The fresh side uses templates and words that never occur on the training side, so what is measured
is whether a student knows the limits of its skills, not whether it remembers these sentences. Some
templates sit close to a skill on purpose (square roots, percentages, sorting words): those are where
a small model would answer with confidence and be wrong.
"""

from random import Random

from studium.domains.protocol import Split
from studium.domains.words import ADJECTIVES, NAMES, NOUNS, PLACES, VERBS

_TRAINING = (
    "Who wrote {noun} and {noun}?",
    "Who was {name}?",
    "Who is the president of {place}?",
    "Who invented the {noun}?",
    "What is the capital of {place}?",
    "What is the population of {place}?",
    "What is a {noun}?",
    "What is the meaning of {noun}?",
    "What does {noun} mean?",
    "What colour is a {noun}?",
    "What do you think about {noun}?",
    "What happened in {place} in {year}?",
    "What is the {adjective} {noun}?",
    "What is the largest {noun} in {place}?",
    "What is the weather in {place}?",
    "What is your name?",
    "What time is it?",
    "What can you do?",
    "Why is the {noun} {adjective}?",
    "Why do {noun}s {verb}?",
    "Why did {name} {verb} the {noun}?",
    "How do I {verb} a {noun}?",
    "How does a {noun} {verb}?",
    "How do {noun}s {verb}?",
    "How old is {name}?",
    "How far is {place} from {place}?",
    "How are you?",
    "How many {noun}s are in {place}?",
    "How many people live in {place}?",
    "How much does a {noun} cost?",
    "When did {name} {verb}?",
    "When was {place} founded?",
    "Where is {place}?",
    "Where can I {verb} a {noun}?",
    "Which {noun} is {adjective}?",
    "Can a {noun} {verb}?",
    "Is a {noun} {adjective}?",
    "Is {place} in {place}?",
    "Do {noun}s {verb}?",
    "Does {name} like {noun}s?",
    "Tell me about {noun}s.",
    "Tell me a joke about a {noun}.",
    "Write a poem about the {adjective} {noun}.",
    "Write a story about {name} and a {noun}.",
    "Write an email to {name} about the {noun}.",
    "Explain {noun} to a child.",
    "Translate {noun} into French.",
    "Translate to German: the {noun} is {adjective}.",
    "Spell {noun}.",
    "Summarise: {name} wants to {verb} a {noun} in {place}.",
    "Correct this sentence: the {noun} {verb} a {adjective} {noun}",
    "Give me an example of a {noun}.",
    "Give me a recipe with {noun} and {noun}.",
    "Name a {adjective} {noun}.",
    "List three {noun}s.",
    "The {noun} is {adjective}.",
    "{name} will {verb} the {noun}.",
    "Hello",
    "Good morning, {name}!",
    "Thank you for the {noun}.",
    "I like {adjective} {noun}s.",
    "{noun}",
    "{noun} {verb} {adjective} {noun}",
    "{verb} the {noun}!",
    "{place} or {place}?",
    "def {verb}({noun}): return {noun}",
    "print('{noun}')",
    "What is the square root of {number}?",
    "What is {number} percent of {number}?",
    "What is {number} divided by {number}?",
    "Is {number} a prime number?",
    "Solve {number}x = {number}.",
    "What is the area of a circle with radius {number}?",
    "Factor {number}.",
    "Sort these words: {noun}, {noun}, {noun}",
    "Sort {noun}, {noun} and {noun} by size.",
    "How many letters are in {noun}?",
    "How many legs do {number} {noun}s have?",
    "Convert {number} dollars to euros.",
    "Convert {number} {noun}s to {noun}s.",
    "How hot is {number} degrees?",
    "What year was {number} years before {name}?",
    "{name} has {number} {noun}s. Who has more?",
    "Is this {noun} {adjective} or {adjective}?",
    "Is this mail spam? {verb} your {noun} now",
    "Run {number} {noun}s.",
    "{number} {noun}s",
    "{number}",
)
_FRESH = (
    "Who discovered {noun}s in {place}?",
    "Who painted the {adjective} {noun}?",
    "What language do they speak in {place}?",
    "What should I {verb} today?",
    "What makes a {noun} {adjective}?",
    "What is the tallest {noun} of {place}?",
    "Why was {name} so {adjective}?",
    "How can one {verb} without a {noun}?",
    "How did {name} become {adjective}?",
    "When do {noun}s begin to {verb}?",
    "Where did {name} {verb}?",
    "Which country has the most {noun}s?",
    "Could you {verb} my {noun}?",
    "Should I {verb} the {adjective} {noun}?",
    "Describe {place} in one sentence.",
    "Compare {noun}s with {noun}s.",
    "Compose a song for {name}.",
    "Suggest a name for my {noun}.",
    "Define {adjective}.",
    "My {noun} cannot {verb} any more.",
    "Nobody knows the {noun} of {place}.",
    "Nice to meet you",
    "import {noun}",
    "What is {number} to the power of {number}?",
    "What is half of {number}?",
    "Round {number} to the nearest hundred.",
    "What is the logarithm of {number}?",
    "Put these animals in order: {noun}, {noun}, {noun}",
    "How tall is a {noun} of {number} years?",
    "What was the exchange rate in {year}?",
    "Guess a number below {number}.",
    "Which {noun} weighs {number} pounds?",
)
_KINDS = {"noun": NOUNS, "verb": VERBS, "adjective": ADJECTIVES, "place": PLACES, "name": NAMES}
_HELD_BACK = 5


class _Filling(dict[str, str]):
    """Slots filled anew each time a template asks; every fifth word is kept for the fresh side."""

    def __init__(self, rng: Random, side: Split) -> None:
        super().__init__()
        self._rng = rng
        self._side = side

    def __missing__(self, slot: str) -> str:
        if slot == "number":
            return str(self._rng.randint(2, 10 ** self._rng.randint(1, 4)))
        if slot == "year":
            return str(self._rng.randint(1000, 2030))
        return self._rng.choice(words_of(slot, self._side))


def words_of(kind: str, side: Split) -> tuple[str, ...]:
    """Return the words of a kind (noun, verb, adjective, place, name) that a side may use.

    Words and templates are too few to part in three: the scoring side shares those of the fresh side.
    """
    held_back = side is not Split.TRAIN
    return tuple(word for i, word in enumerate(_KINDS[kind]) if (i % _HELD_BACK == 0) is held_back)


def outside_question(rng: Random, side: Split) -> str:
    """Return a question that no embedded skill covers, from the templates and words of `side`."""
    template = rng.choice(_TRAINING if side is Split.TRAIN else _FRESH)
    question = template.format_map(_Filling(rng, side))
    return question.lower() if rng.random() < 0.2 else question
