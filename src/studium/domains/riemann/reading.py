"""Finding numerical claims in free text: which comparisons it makes, and for which n.

First the text is brought to one alphabet (LaTeX, Greek letters, "is at most"); then each sentence is
searched for comparison signs, and the longest expressions on both sides are read. A comparison of the
bare variable with numbers (`5041 <= n <= 10000`) is no claim but says where the claims about it hold; it
stays in force for the sentences after it. What cannot be read for certain is reported, never guessed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

from studium.domains.riemann.normal import constant_of, normal
from studium.domains.riemann.syntax import (
    Constant,
    Node,
    Number,
    Operation,
    Parser,
    Token,
    Unreadable,
    Variable,
    is_only_a_name,
    is_word,
    tokens_of,
    walk,
)

LONGEST_TEXT_CHARACTERS = 12_000
MOST_CLAIMS = 12
_LONGEST_LEFT_SIDE_TOKENS = 80
_LONGEST_CHAIN = 4
_RELATIONS = {"<", "<=", ">", ">=", "=", "~"}
_UNKNOWN_SUMS = {"sum", "prod", "int", "integral", "lim", "limsup", "liminf", "oo", "infty", "infinity"}

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n")
_LETTERS = {
    "π": " pi", "γ": " gamma", "ζ": " zeta", "σ": " sigma", "η": " eta", "ξ": " xi", "ρ": " rho", "μ": " mu",
    "θ": " theta", "ϑ": " theta", "ψ": " psi", "φ": " phi", "ϕ": " phi", "λ": " lambda", "Λ": " Lambda",
    "Γ": " Gamma", "ℜ": " re", "ℑ": " im", "ℯ": "e", "≤": " <= ", "≥": " >= ", "⩽": " <= ", "⩾": " >= ",
    "≈": " ~ ", "≃": " ~ ", "≅": " ~ ", "∼": " ~ ", "≠": " != ", "·": "*", "⋅": "*", "×": "*", "∗": "*",
    "−": "-", "–": "-", "÷": "/", "±": " within ", "√": " sqrt ", "∞": " infinity ", "∑": " sum ",
    "∏": " prod ", "∫": " int ", "∀": " for all ", "∈": " in ", "…": "...", "′": "'", "’": "'", "∣": "|",
    "½": "(1/2)", "⅓": "(1/3)", "¼": "(1/4)", "¾": "(3/4)", "⅛": "(1/8)", "\u00a0": " ", "\u2009": " ", "\u202f": " ",
}  # fmt: skip
_SIGNS = {
    r"leqslant|leq|le|lt(?=eq)": " <= ", r"geqslant|geq|ge": " >= ", r"lt": " < ", r"gt": " > ",
    r"approx|approxeq|simeq|cong|sim": " ~ ", r"neq|ne": " != ", r"cdot|times|ast": " * ", r"pm": " within ",
    r"cdots|ldots|dots": " ... ", r"in": " in ", r"infty": " infinity ", r"lvert|rvert|vert|mid": "|",
    r"lfloor": " floor(", r"rfloor": ")",
}  # fmt: skip
_WORDS: Sequence[tuple[str, str]] = (
    (r"(?:is |are )?(?:strictly )?(?:less|smaller|lower) than or equal to", "<="),
    (r"(?:is |are )?(?:strictly )?(?:greater|larger|bigger|more) than or equal to", ">="),
    (r"(?:is |are )?(?:at most|not more than|bounded above by|no more than)", "<="),
    (r"(?:is |are )?(?:at least|not less than|bounded below by|no less than)", ">="),
    (r"(?:is |are )?(?:strictly )?(?:less|smaller|lower) than|(?:is|lies) below", "<"),
    (r"(?:is |are )?(?:strictly )?(?:greater|larger|bigger) than|exceeds|(?:is|lies) above", ">"),
    (r"(?:is |are )?(?:approximately|roughly|nearly)(?: equal to)?|is about|is close to", "~"),
    (r"is (?:exactly )?equal to|(?:exactly )?equals(?: to)?", "="),
)
_FROM_WORDS = [(re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE), f" {to} ") for words, to in _WORDS]

_VALUE = r"\d[\d.]*(?:,\d{3})*(?:[eE]\d{1,2}|\s?\^\s?\(?\d{1,2}\)?)?"
_RANGES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:(?<![a-z])(?P<name>[nxkmtsT])\s*)?(?<![a-z])(?:from|between|in\s+the\s+range(?:\s+of)?)\s+(?P<low>{_VALUE})\s+"
        rf"(?:up\s+)?(?:to|and|through|until)\s+(?P<high>{_VALUE})",
        rf"(?<![a-z])(?P<name>[nxkmtsT])\s+in\s+(?:the\s+)?(?:range\s+|interval\s+)?"
        rf"[\[({{]\s*(?P<low>{_VALUE})\s*(?:,|\.\.+|to)\s*(?:(?:\d+\s*,\s*)*\.\.+\s*,?\s*)?(?P<high>{_VALUE})\s*[\])}}]",
        rf"(?<![a-z])(?P<name>[nxkmtsT])\s*=\s*(?P<low>{_VALUE})\s*(?:,\s*\d+\s*)*"
        rf"(?:to|through|,?\s*\.\.+\s*,?)\s*(?P<high>{_VALUE})",
        rf"(?:(?<![a-z])(?P<name>[nxkmtsT])\s+in\s+)(?P<low>{_VALUE})\s*\.\.+\s*(?P<high>{_VALUE})",
    )
]
_WITHIN = re.compile(
    r"[\s,(]*(?:to\s+|correct\s+to\s+)?(?:within|\+/-|with\s+(?:an?\s+)?(?:error|tolerance)"
    r"(?:\s+(?:of|below|under|at\s+most|less\s+than|<=?))?|up\s+to\s+an?\s+error\s+of)\s*",
    re.IGNORECASE,
)
_NAME = r"(?:(?:of )?(?:whole |positive )?(?:numbers?|integers?|values?) )?(?:of )?[nxkmtsT]\b"
_OTHER_NUMBERS = re.compile(
    rf"\b(?:primes?|odd|even|composite|square-?free|real|some|exists?(?: an?)?|at least one|most|many) {_NAME}",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:fails?|false|violated?|violates|untrue|incorrect|wrong|counter-?examples?|contradicts?|not true|not hold"
    r"|n't hold|refuted?|would be|were)\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.;?])\s+|;|\n+|(?<!\.)\.(?=\s|$)")


class Span(NamedTuple):
    """The whole numbers a claim is about, both ends included; None where an end is not given."""

    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class Claim:
    """One comparison. `within` is the tolerance of an approximation, where it is stated."""

    left: Node
    relation: str
    right: Node
    span: Span | None = None
    within: Node | None = None

    @property
    def variables(self) -> frozenset[str]:
        return frozenset(
            node.name for side in (self.left, self.right) for node in walk(side) if isinstance(node, Variable)
        )


class Reading(NamedTuple):
    """What a text claims, and what in it looked like a claim but could not be read."""

    claims: tuple[Claim, ...]
    unread: tuple[str, ...]


def read_claims(text: str) -> Reading:
    """Return the claims in a text, at most twelve of them. Never raises."""
    claims: list[Claim] = []
    unread: list[str] = []
    spans: dict[str, Span] = {}
    text = text.rpartition("</think>")[2]  # a model that thinks aloud claims nothing while it does
    for sentence in _SENTENCE_END.split(plain(text[:LONGEST_TEXT_CHARACTERS])):
        if len(claims) >= MOST_CLAIMS or len(unread) >= MOST_CLAIMS:
            break
        found, problems = _sentence(sentence, spans)
        claims += found
        unread += problems
    return Reading(tuple(claims[:MOST_CLAIMS]), tuple(unread[:MOST_CLAIMS]))


def plain(text: str) -> str:
    """Return a text in the one alphabet that the language is written in."""
    # One space for many, so that no pattern below has to look far.
    text = re.sub(r" ?\n[ \n]*", "\n", re.sub(r"[^\S\n]+", " ", text))
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda found: f"^({found[0].translate(_SUPERSCRIPTS)})", text)
    text = re.sub(r"[₀₁₂₃₄₅₆₇₈₉ₙ]+", lambda found: f"_({found[0].translate(_SUBSCRIPTS)})", text)
    text = re.sub(r"π(?=\()", " primepi", text)
    for letter, plain_text in _LETTERS.items():
        text = text.replace(letter, plain_text)
    text = re.sub(r"(?<!\S)\*\*(?=\S)|(?<=\S)\*\*(?=[\s.,:;!?)]|$)|__", " ", text, flags=re.MULTILINE)
    text = text.replace("**", "^").replace("`", " ")
    text = _latex(text) if "\\" in text or "$" in text or "{" in text else text
    text = re.sub(r"^ ?(?:[-*•>#]+ +|\(?\d{1,3}[.)] +)+", "", text, flags=re.MULTILINE)
    text = re.sub(r"\bprime_?pi\b|\bpi_function\b", "primepi", text)
    text = re.sub(r"\b(?:sigma_1|sigma_\(1\))(?=\s*\()", "sigma", text)
    text = re.sub(r"(?<=\d)[jI]\b", "i", text)
    text = re.sub(r"\b(log|ln)(?:log|ln)\b", r"\1 \1", text)
    text = re.sub(r"(?<=[A-Za-z]{2})!(?=\s)", ".", text)
    text = re.sub(r"==+|:=", "=", text).replace("~=", "~").replace("=<", "<=").replace("=>", ">=")
    text = re.sub(r"~{2,}", "~", text)
    for words, sign in _FROM_WORDS:
        text = words.sub(sign, text)
    return text


def _latex(text: str) -> str:
    text = re.sub(r"\\[()\[\]]|\$+|\\(?:left|right|displaystyle|big|Big|bigl|bigr)(?![a-zA-Z])", " ", text)
    text = re.sub(r"(?<=\d)(?:\{,\}|\\,)(?=\d{3})", "", text)
    text = re.sub(r"\\(?:mathrm|operatorname|text|mathit|mathbf|rm)\s*\*?\s*\{([^{}]*)\}", r" \1", text)
    for _ in range(4):
        smaller = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))", text)
        smaller = re.sub(r"\\sqrt\s*\{([^{}]*)\}", r" sqrt(\1)", smaller)
        smaller = re.sub(r"(?<=[\^_])\{([^{}]*)\}", r"(\1)", smaller)
        if smaller == text:
            break
        text = smaller
    for names, sign in _SIGNS.items():
        text = re.sub(rf"\\(?:{names})(?![a-zA-Z])", lambda _match, sign=sign: sign, text)
    text = re.sub(r"\\(?:var)?([a-zA-Z]+)", r" \1", text)
    text = re.sub(r"\\[,;:!> ]", " ", text)
    return text.replace("{", "(").replace("}", ")").replace("\\", " ")


def _sentence(sentence: str, spans: dict[str, Span]) -> tuple[list[Claim], list[str]]:
    """Read one sentence; `spans` holds what is known of each variable and is added to."""
    stated: dict[str, Span] = {}
    denied = _DENIED.search(sentence) is not None
    other_numbers = _OTHER_NUMBERS.search(sentence) is not None
    for pattern in _RANGES:
        for match in pattern.finditer(sentence):
            name = match.groupdict().get("name") or "n"
            low, high = _whole(match["low"], up=True), _whole(match["high"], up=False)
            if low is not None and high is not None:
                stated[name] = stated[""] = Span(low, high)
        sentence = pattern.sub(" , ", sentence)
    tokens = tokens_of(sentence)
    claims: list[Claim] = []
    unread: list[str] = []
    position = 0
    while len(claims) + len(unread) < MOST_CLAIMS:
        position = next((p for p in range(position, len(tokens)) if tokens[p].text in _RELATIONS), -1)
        if position < 0:
            break
        try:
            sides, relations, within, position = _chain(tokens, position)
        except Unreadable as problem:
            unread.append(str(problem))
            position += 1
            continue
        if denied:
            unread.append("it is said to fail; state the opposite")
            continue
        condition = _condition(sides, relations)
        if condition:
            name, span = condition
            stated[name] = _narrowed(stated.get(name), span)
            continue
        if relations[0] == "=" and isinstance(sides[0], Variable):
            # "at n = 5040 is about 1.79": of what, stands before and cannot be told.
            named = _condition(sides[:2], relations[:1])
            stated |= {named[0]: named[1]} if named else {}
            unread.append("it only gives a number a name")
            continue
        if other_numbers and any(_has_variable(side) for side in sides):
            unread.append("of ranges, only all whole numbers from one to another are understood")
            continue
        claims += [
            Claim(sides[place], relation, sides[place + 1], None, within)
            for place, relation in enumerate(relations)
        ]
    spans.update(stated)
    return [_placed(claim, stated, spans) for claim in claims], unread


def _has_variable(node: Node) -> bool:
    return any(isinstance(part, Variable) for part in walk(node))


def _placed(claim: Claim, stated: dict[str, Span], spans: dict[str, Span]) -> Claim:
    """Return a claim with the range its variable has in this sentence, else in those before."""
    if len(claim.variables) != 1:
        return claim
    (name,) = claim.variables
    span = stated.get(name) or stated.get("") or spans.get(name) or spans.get("")
    return Claim(claim.left, claim.relation, claim.right, span, claim.within)


def _chain(tokens: Sequence[Token], position: int) -> tuple[list[Node], list[str], Node | None, int]:
    """Read `a < b <= c` around the first sign. Returns sides, signs, tolerance, and where reading ended."""
    sides = [_left_side(tokens, position)]
    relations: list[str] = []
    while position < len(tokens) and tokens[position].text in _RELATIONS:
        if len(relations) == _LONGEST_CHAIN:
            raise Unreadable("the chain of comparisons is too long")
        relations.append(tokens[position].text)
        parser = Parser(tokens, position + 1)
        sides.append(parser.expression())
        position = parser.position
    within, position = _tolerance(tokens, position)
    if position < len(tokens):
        after = tokens[position]
        calls = is_word(after) and position + 1 < len(tokens) and tokens[position + 1].text == "("
        if calls and not tokens[position + 1].spaced:
            raise Unreadable(f"{after.text[:20]!r} is no function known here")
        if after.text in ("+", "-", "*", "/", "^", "_", "!="):
            raise Unreadable(f"{after.text!r} stands where a claim should end")
    return sides, relations, within, position


def _tolerance(tokens: Sequence[Token], position: int) -> tuple[Node | None, int]:
    """Read "within 1e-6" where it follows."""
    words = " ".join(token.text for token in tokens[position : position + 9])
    match = _WITHIN.match(words)
    if not match:
        return None, position
    skipped = len(match[0].split())
    parser = Parser(tokens, position + skipped)
    within = parser.expression()
    return within, parser.position


def _left_side(tokens: Sequence[Token], end: int) -> Node:
    """Return the longest expression that ends right before token `end`. Raises Unreadable."""
    start = end
    while start > max(0, end - _LONGEST_LEFT_SIDE_TOKENS) and _may_belong(tokens[start - 1]):
        start -= 1
    problem = "nothing readable stands before the sign"
    for first in range(start, end):
        parser = Parser(tokens[:end], first)
        try:
            node = parser.expression()
        except Unreadable as error:
            problem = str(error)
            continue
        if parser.position == end:
            _check_before(tokens, first)
            return node
    raise Unreadable(problem)


def _check_before(tokens: Sequence[Token], first: int) -> None:
    """Refuse an expression that is only the end of a longer one."""
    if first == 0:
        return
    before, here = tokens[first - 1], tokens[first]
    if before.text == "(" and first > 1 and tokens[first - 2].text == "_":
        raise Unreadable("only a part of an index could be read")
    name = before.text.casefold()
    part = before.text != "(" and not is_only_a_name(before) and _may_belong(before)
    if name in _UNKNOWN_SUMS or part:
        raise Unreadable("only the end of an expression could be read")
    if is_word(before) and here.text == "(" and not here.spaced:
        raise Unreadable(f"{before.text[:20]!r} is no function known here")
    follows_closely = first + 1 < len(tokens) and tokens[first + 1].spaced
    if is_word(before) and here.text in ("-", "+") and follows_closely:
        raise Unreadable("only the end of an expression could be read")


def _may_belong(token: Token) -> bool:
    if token.kind == "name":
        return not is_word(token)
    return token.kind != "other" and token.text not in _RELATIONS


def _condition(sides: Sequence[Node], relations: Sequence[str]) -> tuple[str, Span] | None:
    """Return what a chain says about a bare variable, or None where it is a claim."""
    names = [side.name for side in sides if isinstance(side, Variable)]
    if len(names) != 1 or "~" in relations:
        return None
    low: int | None = None
    high: int | None = None
    for place, relation in enumerate(relations):
        left, right = sides[place], sides[place + 1]
        mirrored = isinstance(right, Variable)
        bound = _constant(left if mirrored else right)
        if bound is None or not (mirrored or isinstance(left, Variable)):
            return None
        sign = relation.translate(str.maketrans("<>", "><")) if mirrored else relation
        if sign.startswith("<"):
            high = ceil(bound) - 1 if sign == "<" else floor(bound)
        elif sign.startswith(">"):
            low = floor(bound) + 1 if sign == ">" else ceil(bound)
        elif bound.denominator == 1:
            low = high = int(bound)
        else:
            return None
    return names[0], Span(low, high)


def _constant(node: Node) -> Fraction | None:
    if any(not isinstance(part, Number | Operation | Constant) for part in walk(node)):
        return None
    try:
        return constant_of(normal(node))
    except Unreadable:
        return None


def _narrowed(known: Span | None, span: Span) -> Span:
    """Return two statements about one variable as one: `n >= 5`, `n <= 9`. A full span replaces."""
    if known is None or (span.low is not None and span.high is not None):
        return span
    return Span(
        span.low if span.low is not None else known.low, span.high if span.high is not None else known.high
    )


def _whole(text: str, *, up: bool) -> int | None:
    try:
        value = _constant(Parser(tokens_of(text.rstrip("."))).expression())
    except Unreadable:
        return None
    return None if value is None else ceil(value) if up else floor(value)
