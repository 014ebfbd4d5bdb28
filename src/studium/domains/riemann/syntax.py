"""The little language of numerical claims: from text such as `e^gamma n log log n` to a tree.

Written as people and models write: signs between factors may be left out, `log n` needs no
parentheses, `gamma_3` is the third zero. Nothing is evaluated here. A number written against a name
(`8pi`, `14.13i`) binds more tightly than division; other products written without a sign do not.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

LONGEST_NUMBER_CHARACTERS = 120
LARGEST_EXPONENT = 500
DEEPEST = 30
LARGEST_TREE = 150

CONSTANTS = {"pi": "pi", "e": "e", "gamma": "gamma", "eulergamma": "gamma", "i": "i", "I": "i", "j": "i"}
VARIABLES = frozenset("nxkmtsTy")
# Every name a function goes by, and the name it has in canonical form.
FUNCTIONS = {
    **dict.fromkeys(("zeta", "zeta'", "eta", "xi", "zero", "rho", "sigma", "H", "M", "mu", "phi"), ""),
    **dict.fromkeys(("primepi", "prime", "li", "Li", "R", "theta", "psi", "Lambda", "lambda", "N", "Z"), ""),
    **dict.fromkeys(
        ("log", "exp", "sqrt", "abs", "re", "im", "sin", "cos", "floor", "Gamma", "factorial"), ""
    ),
}
FUNCTIONS = {name: name for name in FUNCTIONS} | {
    "ln": "log", "Re": "re", "real": "re", "Im": "im", "imag": "im", "Abs": "abs", "fac": "factorial",
    "gamma": "Gamma", "pi": "primepi", "Pi": "primepi", "altzeta": "eta", "zetazero": "rho", "harmonic": "H",
    "mertens": "M", "Mertens": "M", "moebius": "mu", "mobius": "mu", "siegelz": "Z", "Zeta": "zeta",
    "totient": "phi", "LI": "Li",
}  # fmt: skip
SUBSCRIPTED = {
    "gamma": "zero", "t": "zero", "zero": "zero", "rho": "rho", "lambda": "lambda", "H": "H", "p": "prime",
}  # fmt: skip
_NEED_NO_PARENTHESES = {"log", "ln", "exp", "sqrt", "sin", "cos"}
_BESIDE_ONLY = {"pi", "gamma"}  # constants, unless a parenthesis follows at once

_TOKEN = re.compile(
    r"(?P<number>\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|(?:\d+(?:\.\d+)?|(?<!\d)\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z]+'?)"
    r"|(?P<sign><=|>=|!=|[-+*/^()|_!<>=~])"
    r"|(?P<other>\S)"
)


class Unreadable(ValueError):
    """Text that is no expression of this language; the message says why, for people."""


class Token(NamedTuple):
    kind: str  # number, name, sign, other
    text: str
    spaced: bool  # white space (or the start) before it


@dataclass(frozen=True, slots=True)
class Number:
    """A decimal as written. `unit` is one in its last place, or None for a whole number without exponent."""

    value: Fraction
    unit: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    name: str


@dataclass(frozen=True, slots=True)
class Variable:
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    argument: "Node"


@dataclass(frozen=True, slots=True)
class Operation:
    sign: str  # + - * / ^
    left: "Node"
    right: "Node"


Node = Number | Constant | Variable | Call | Operation


def tokens_of(text: str) -> list[Token]:
    """Split a text; takes time proportional to its length."""
    found: list[Token] = []
    end = -1
    for match in _TOKEN.finditer(text):
        found.append(Token(match.lastgroup or "other", match[0], match.start() != end))
        end = match.end()
    return found


def is_word(token: Token) -> bool:
    """Say whether a token is a word of prose, not a name of this language."""
    return token.kind == "name" and not (
        token.text in FUNCTIONS
        or token.text in CONSTANTS
        or token.text in VARIABLES
        or token.text in SUBSCRIPTED
    )


def is_only_a_name(token: Token) -> bool:
    """Say whether a token names a function that is nothing without an argument: "the first zero"."""
    return token.text in FUNCTIONS and token.text not in (CONSTANTS.keys() | VARIABLES | _NEED_NO_PARENTHESES)


def number(text: str) -> Number:
    """Read a decimal. Raises Unreadable where it is too long to be meant."""
    plain = text.replace(",", "")
    mantissa, _, exponent = plain.lower().partition("e")
    if len(plain) > LONGEST_NUMBER_CHARACTERS or abs(int(exponent or 0)) > LARGEST_EXPONENT:
        raise Unreadable(f"the number {text[:20]}... is too long")
    digits_behind_point = len(mantissa.partition(".")[2])
    power = int(exponent or 0) - digits_behind_point
    unit = Fraction(10) ** power if digits_behind_point or exponent else None
    return Number(Fraction(mantissa) * Fraction(10) ** int(exponent or 0), unit)


def walk(node: Node) -> Iterator[Node]:
    """Yield every part of a tree."""
    yield node
    if isinstance(node, Call):
        yield from walk(node.argument)
    elif isinstance(node, Operation):
        yield from walk(node.left)
        yield from walk(node.right)


def negative(node: Node) -> Node:
    """Return a tree for minus something."""
    if isinstance(node, Number):
        return Number(-node.value, node.unit)
    return Operation("*", Number(Fraction(-1)), node)


class Parser:
    """Recursive descent over a list of tokens. `position` is where reading stands."""

    def __init__(self, tokens: Sequence[Token], position: int = 0) -> None:
        self._tokens = tokens
        self.position = position
        self._depth = 0
        self._made = 0
        self._inside_bars = 0

    def expression(self) -> Node:
        """Read the longest expression from here. Raises Unreadable."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unreadable("it is nested too deeply")
        node = self._product(first=True)
        while self._sign() in ("+", "-"):
            sign = self._take().text
            node = self._made_of(Operation(sign, node, self._product()))
        self._depth -= 1
        return node

    def _product(self, *, first: bool = False) -> Node:
        if first and self._sign() in ("-", "+"):
            return negative(self._product()) if self._take().text == "-" else self._product()
        node = self._factor()
        while True:
            sign = self._sign()
            if sign in ("*", "/"):
                self._take()
                node = self._made_of(Operation(sign, node, self._factor(signed=True)))
            elif self._starts_factor():
                node = self._made_of(Operation("*", node, self._factor()))
            else:
                return node

    def _factor(self, *, signed: bool = False) -> Node:
        """A power, or a number with powers written against it: 2n, 8pi."""
        if signed and self._sign() == "-":
            self._take()
            return negative(self._factor())
        node = self._power()
        if isinstance(node, Number) and self._tokens[self.position - 1].kind == "number":
            following = self._peek()
            if following and not following.spaced and self._starts_factor():
                node = self._made_of(Operation("*", node, self._power()))
        return node

    def _power(self) -> Node:
        node = self._postfix()
        if self._sign() != "^":
            return node
        self._take()
        return self._made_of(Operation("^", node, self._exponent()))

    def _exponent(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unreadable("it is nested too deeply")
        if self._sign() in ("-", "+"):
            node = negative(self._exponent()) if self._take().text == "-" else self._exponent()
        else:
            node = self._power()
        self._depth -= 1
        return node

    def _postfix(self) -> Node:
        node = self._primary()
        while self._sign() == "!" and not (self._peek() or Token("", "", True)).spaced:
            self._take()
            node = self._made_of(Call("factorial", node))
        return node

    def _primary(self) -> Node:
        token = self._take()
        if token.kind == "number":
            return self._made_of(number(token.text))
        if token.text == "(":
            return self._closed(")")
        if token.text == "|":
            self._inside_bars += 1
            node = self._closed("|")
            self._inside_bars -= 1
            return self._made_of(Call("abs", node))
        if token.kind == "name":
            return self._named(token.text)
        raise Unreadable(f"{token.text[:20]!r} stands where a number or a function should")

    def _named(self, name: str) -> Node:
        if self._sign() == "_" and name in SUBSCRIPTED:
            self._take()
            return self._made_of(Call(SUBSCRIPTED[name], self._primary()))
        following = self._peek()
        opens = following is not None and following.text == "("
        if name in FUNCTIONS and opens and not (name in _BESIDE_ONLY and following and following.spaced):
            self._take()
            return self._made_of(Call(FUNCTIONS[name], self._closed(")")))
        if name in FUNCTIONS and self._sign() == "^" and name not in CONSTANTS:
            return self._power_of_function(name)
        if name in _NEED_NO_PARENTHESES:
            return self._made_of(Call(FUNCTIONS[name], self._bare_argument()))
        if name in CONSTANTS:
            return self._made_of(Constant(CONSTANTS[name]))
        if name in VARIABLES:
            return self._made_of(Variable(name))
        if name in FUNCTIONS or name in SUBSCRIPTED:
            raise Unreadable(f"{name!r} is given nothing to work on; write {name}(...)")
        raise Unreadable(f"{name[:20]!r} is no function or number known here")

    def _power_of_function(self, name: str) -> Node:
        """log^2(x) means (log x)^2."""
        self._take()
        exponent = self._primary()
        if not isinstance(exponent, Number):
            raise Unreadable(f"the power of {name} is not a number")
        if self._sign() == "(":
            self._take()
            argument = self._closed(")")
        elif name in _NEED_NO_PARENTHESES:
            argument = self._bare_argument()
        else:
            raise Unreadable(f"{name} is given nothing to work on")
        return self._made_of(Operation("^", Call(FUNCTIONS[name], argument), exponent))

    def _bare_argument(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unreadable("it is nested too deeply")
        node = self._factor()
        self._depth -= 1
        return node

    def _closed(self, bracket: str) -> Node:
        bars, self._inside_bars = self._inside_bars, self._inside_bars if bracket == "|" else 0
        node = self.expression()
        self._inside_bars = bars
        if self._sign() != bracket:
            raise Unreadable(f"a {bracket!r} is missing")
        self._take()
        return node

    def _starts_factor(self) -> bool:
        token = self._peek()
        if token is None or token.kind == "number":
            return False
        if token.kind == "name":
            return not is_word(token) and token.text not in ("p", "rho", "zero", "I")
        if token.text == "(":  # "(see below)" is prose, " (3)" the number of an equation
            inside = self._tokens[self.position + 1 : self.position + 3]
            tag = token.spaced and [part.text for part in inside[1:]] == [")"] and inside[0].text.isdigit()
            return bool(inside) and not is_word(inside[0]) and not tag
        return token.text == "|" and not self._inside_bars

    def _peek(self) -> Token | None:
        return self._tokens[self.position] if self.position < len(self._tokens) else None

    def _sign(self) -> str:
        token = self._peek()
        return token.text if token is not None and token.kind == "sign" else ""

    def _take(self) -> Token:
        token = self._peek()
        if token is None:
            raise Unreadable("it ends too early")
        self.position += 1
        return token

    def _made_of(self, node: Node) -> Node:
        self._made += 1
        if self._made > LARGEST_TREE:
            raise Unreadable("it is too long")
        return node
