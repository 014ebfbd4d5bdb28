"""Messages from a grammar: what may stand, and what is an insult, a threat, spam or somebody's personal data.

Words mislead on purpose. A harmless message may hold a frightening word ("kill the process"), a harmful one none ("I
know where you park at night"). Level 1 has one clause that says plainly what it is, level 2 one or two with such
misleading ones, level 3 up to three, among them harm that is only quoted or denied (no excuse for personal data). At
most one clause of a message does harm. Worked steps name each clause's cue, how it is to be read, and what follows.
"""

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from studium.domains.exact import ExactDomain
from studium.domains.protocol import Problem, Rule
from studium.domains.rows import choice_of, row_schema, text_of
from studium.domains.wording import Phrasebook
from studium.domains.words import ADJECTIVES, NAMES, NOUNS

ALLOWED = "allowed"
LABELS = (ALLOWED, "insult", "threat", "spam", "personal data")
_TEMPLATES = {
    "moderate": (
        'Moderate this message: "{message}"',
        "Moderate this message: {message}",
        'Is this message allowed? "{message}"',
        'Is this message allowed, an insult, a threat, spam or personal data? "{message}"',
        "Moderation label for: {message}",
        'Which moderation label fits this message? "{message}"',
        "Message: {message} Moderation label:",
        '"{message}" Should a moderator remove that?',
    )
}
_ANSWER = re.compile(rf"\b({'|'.join(LABELS)})\b", re.IGNORECASE)


class _Cue(NamedTuple):
    """A kind of clause: its wordings, the cue in them (a part of the wording), and how it is to be read."""

    wordings: tuple[str, ...]
    cue: str
    reading: str


_PLAIN: Mapping[str, Sequence[_Cue]] = {
    "insult": (
        _Cue(
            ("you are a {fool}", "what a {fool} you are", "only a {fool} like you writes that"),
            "{fool}",
            "to you",
        ),
        _Cue(("you are {dull}", "everybody here knows how {dull} you are"), "{dull}", "to you"),
    ),
    "threat": (
        _Cue(
            ("I will {hurt} you", "one day I am going to {hurt} you", "we will {hurt} you"),
            "{hurt} you",
            "a person",
        ),
        _Cue(("I will {hurt} {name}", "somebody should {hurt} {name}"), "{hurt} {name}", "a person"),
    ),
    "spam": (
        _Cue(("buy cheap {goods} now", "cheap {goods}, only today"), "cheap {goods}", "an offer"),
        _Cue(
            ("click here to win {sum} dollars", "earn {sum} dollars a day at home"),
            "{sum} dollars",
            "an offer",
        ),
    ),
    "personal data": (
        _Cue(
            ("the phone number of {name} is {phone}", "call {name} at {phone}"),
            "{phone}",
            "a person's number",
        ),
        _Cue(
            ("{name} lives at {house} {street}", "you find {name} at {house} {street}"),
            "{house} {street}",
            "a home",
        ),
    ),
}
_HIDDEN: Mapping[str, Sequence[_Cue]] = {
    "insult": (
        _Cue(
            ("a {noun} would do your work better than you", "I have met a {noun} with more wit than you"),
            "{noun}",
            "you are less",
        ),
        _Cue(("your parents must be so tired of you", "nobody wants to sit beside you"), "you", "shames you"),
    ),
    "threat": (
        _Cue(
            (
                "I know where you park your {adjective} car at night",
                "I know which {adjective} school your children visit",
            ),
            "I know",
            "you are watched",
        ),
        _Cue(
            (
                "it would be a pity if something happened to your {noun}",
                "look after your {noun} while you still have it",
            ),
            "your {noun}",
            "harm to come",
        ),
    ),
    "spam": (
        _Cue(
            (
                "my uncle left me {sum} and I need your bank to get it",
                "ask me how my {sum} coins doubled in a week",
            ),
            "{sum}",
            "wants your money",
        ),
        _Cue(
            (
                "I sell {goods} to everybody who writes to me tonight",
                "your {goods} are waiting, just confirm your account",
            ),
            "{goods}",
            "an offer",
        ),
    ),
    "personal data": (
        _Cue(
            ("{name} can be reached under {phone} after work", "text {phone} if you want to talk to {name}"),
            "{phone}",
            "a person's number",
        ),
        _Cue(("{name} hides the key under the {noun} at {house} {street}",), "{house} {street}", "a home"),
    ),
}
_MISLEADING: Sequence[_Cue] = (
    _Cue(("I felt like a {fool} in the lift", "today I was such a {fool}"), "{fool}", "about oneself"),
    _Cue(
        ("the {fool} in that film made me laugh", "a book about a {fool} won the prize"), "{fool}", "a story"
    ),
    _Cue(("this {noun} is {dull}", "my {adjective} printer is {dull}"), "{dull}", "a thing"),
    _Cue(
        ("please {hurt} the process before lunch", "I had to {hurt} the {adjective} server job"),
        "{hurt}",
        "a thing",
    ),
    _Cue(
        ("this {noun} is to die for", "I could murder a {adjective} sandwich"),
        "{deadly}",
        "a figure of speech",
    ),
    _Cue(
        ("shoot me a mail about the {noun}", "the deadline for the {noun} is killing me"),
        "{deadly}",
        "a figure of speech",
    ),
    _Cue(("I bought cheap {goods} at the market", "are cheap {goods} any good"), "cheap {goods}", "no offer"),
    _Cue(
        ("click the {adjective} button to save your work", "our class won {sum} dollars for the {noun}"),
        "{lure}",
        "no offer",
    ),
    _Cue(("the order number is {phone}", "part {phone} fits the {noun}"), "{phone}", "a thing's number"),
    _Cue(
        ("the museum is at {house} {street}", "the library moved to {house} {street}"),
        "{house} {street}",
        "a public place",
    ),
)
_NEUTRAL = (
    _Cue(("the {noun} was {adjective} today", "does anybody know a {adjective} {noun}"), "{noun}", "nothing"),
    _Cue(("thanks for the {adjective} {noun}", "we talked about the {noun} again"), "{noun}", "nothing"),
)
_QUOTED = (
    ("the rules forbid writing {}", "quoted"),
    ("he was banned because he wrote {}", "quoted"),
    ("in the play a guard says {}", "quoted"),
    ("I would never write {}", "denied"),
    ("I never said {}", "denied"),
)
_SLOTS: Mapping[str, Sequence[str]] = {
    "fool": ("fool", "moron", "clown", "loser", "coward", "liar", "donkey", "bore"),
    "dull": ("stupid", "dumb", "worthless", "pathetic", "ugly", "disgusting", "useless"),
    "hurt": ("kill", "stab", "burn", "shoot", "beat up", "destroy", "strangle", "bury"),
    "goods": ("watches", "pills", "tickets", "loans", "handbags", "phones", "diplomas"),
    "street": ("Mill Lane", "Oak Road", "King Street", "Harbour Row", "Station Road", "Hill Crescent"),
    "noun": NOUNS,
    "adjective": ADJECTIVES,
    "name": NAMES,
}
# Which of the words a wording holds is its cue, where wordings of one kind have different ones.
_OWN_CUES = {
    "{deadly}": ("die for", "murder", "shoot", "killing"),
    "{lure}": ("click", "dollars"),
}


class _Clause(NamedTuple):
    text: str
    step: str
    label: str


class Moderation(ExactDomain):
    """Say whether a message is allowed, and if not, why."""

    name = "moderation"
    wrong_answers = 4.0
    harmless = ALLOWED
    metrics = ("accuracy", "f1", "false_positive_rate", "detection_rate")
    rules: Sequence[Rule] = (
        Rule(
            "insult",
            "Words that shame the person spoken to; said of things, stories or oneself they are allowed.",
        ),
        Rule(
            "threat",
            "Harm announced or hinted at to a person; to a process or as a figure of speech it is allowed.",
        ),
        Rule("spam", "Offers of goods or money to strangers; to tell of a purchase or a prize is allowed."),
        Rule(
            "personal data", "Where a person lives or is reached; of things and public places it is allowed."
        ),
        Rule(
            "quoted", "Insults, threats and spam that are quoted or denied are allowed; personal data is not."
        ),
        Rule("answer", "End with a line 'Answer: ' and allowed, insult, threat, spam or personal data."),
    )
    schema = row_schema(
        {"text": "the message", "label": "what it is"},
        {"text": "Please kill the process before lunch.", "label": ALLOWED},
        {"label": LABELS},
    )
    phrases = Phrasebook(_TEMPLATES, {"message": r".*?[a-z]{2}.*"})

    def make(self, rng: Random, level: int) -> Problem:
        clauses = _clauses(rng, level)
        message = _message(rng, clauses)
        label = next((clause.label for clause in clauses if clause.label != ALLOWED), ALLOWED)
        prompt = self.phrases.ask(rng, "moderate", message=message)
        return self._problem(message, prompt, label, level, [clause.step for clause in clauses])

    def canonical(self, answer: str) -> str | None:
        found = {word.lower() for word in _ANSWER.findall(answer)}
        return found.pop() if len(found) == 1 else None

    def problem_of(self, row: Mapping[str, Any]) -> Problem:
        message, label = text_of(row, "text"), choice_of(row, "label", LABELS)
        prompt = _TEMPLATES["moderate"][0].format(message=message)
        return self._problem(message, prompt, label, 0, ())

    def _problem(self, message: str, prompt: str, label: str, level: int, steps: Sequence[str]) -> Problem:
        return Problem(
            domain=self.name,
            key=" ".join(message.casefold().split()),
            prompt=prompt,
            steps=tuple(steps),
            expected=label,
            level=level,
            facts={"message": message},
        )


def _clauses(rng: Random, level: int) -> list[_Clause]:
    """Return a message's clauses, at most one of them harmful; every second message holds one that is."""
    number = {1: 1, 2: rng.randint(1, 2), 3: rng.randint(2, 3)}[level]
    clauses = [_harmless(rng, level) for _ in range(number)]
    if rng.random() < 0.6:
        label = rng.choice(LABELS[1:])
        kinds = _PLAIN[label] if level == 1 or rng.random() < 0.4 else _HIDDEN[label]
        clauses[rng.randrange(number)] = harm = _spoken(rng, rng.choice(kinds), label)
        if level == 3 and label == "personal data" and rng.random() < 0.4:
            clauses[clauses.index(harm)] = harm._replace(text=rng.choice(_QUOTED)[0].format(harm.text))
    return clauses


def _harmless(rng: Random, level: int) -> _Clause:
    if level == 3 and rng.random() < 0.4:
        label = rng.choice(("insult", "threat", "spam"))
        frame, reading = rng.choice(_QUOTED)
        kind = rng.choice(_PLAIN[label])._replace(reading=reading)
        inner = _spoken(rng, kind, ALLOWED)
        return inner._replace(text=frame.format(inner.text))
    kinds = _NEUTRAL if level == 1 or rng.random() < 0.25 else _MISLEADING
    return _spoken(rng, rng.choice(kinds), ALLOWED)


def _spoken(rng: Random, kind: _Cue, label: str) -> _Clause:
    """Return a clause of a kind, its slots filled; the step names the cue as it stands in the text."""
    wording = rng.choice(kind.wordings)
    cue = next((own for own in _OWN_CUES.get(kind.cue, ()) if own in wording), kind.cue)
    values: dict[str, object] = {slot: rng.choice(words) for slot, words in _SLOTS.items()}
    values |= {
        "sum": rng.randint(2, 99) * 100,
        "house": rng.randint(1, 99),
        "phone": f"555 {rng.randint(0, 9999):04d}",
    }
    return _Clause(wording.format(**values), f"{cue.format(**values)}: {kind.reading} = {label}", label)


def _message(rng: Random, clauses: Sequence[_Clause]) -> str:
    texts = [clause.text for clause in clauses]
    if len(texts) == 2 and rng.random() < 0.5:
        texts = [rng.choice(("{}, and {}", "{}, but {}", "{}; {}")).format(*texts)]
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in texts)
