"""Arithmetic functions of whole numbers, exactly: primes, their count, divisors, Möbius and Mertens.

Everything works on tables up to a million, made when first needed (some tens of milliseconds) and kept.
Beyond them, primes are counted with Meissel's formula and the Mertens function with its recursion
(sum over k of M(n/k) = 1), so that both reach further than a table could.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import accumulate
from math import isqrt, prod

TABLE = 1_000_000
LARGEST_COUNT = 10**9
LARGEST_MERTENS = 10**8
_NEGATIVE = 255  # minus one, as a byte
_FLIP = bytes([0, _NEGATIVE, *range(2, 255), 1])


@cache
def primes(limit: int = TABLE) -> Sequence[int]:
    """Return the primes up to `limit`, by the sieve of Eratosthenes."""
    marks = bytearray([1]) * (limit + 1)
    marks[0:2] = b"\0\0"
    for number in range(2, isqrt(limit) + 1):
        if marks[number]:
            marks[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return [number for number in range(limit + 1) if marks[number]]


def prime_count(limit: int) -> int:
    """Return the number of primes up to `limit`, at most 10^9."""
    return bisect_right(primes(), limit) if limit <= TABLE else _meissel(limit)


@lru_cache(maxsize=64)
def _meissel(limit: int) -> int:
    """Meissel's formula: pi(x) = phi(x, a) + a - 1 - P2(x, a), with a = pi(x^(1/3))."""
    root = _cube_root(limit)
    table = primes(max(TABLE, limit // root + 1))
    count = bisect_right(table, root)
    square = bisect_right(table, isqrt(limit))
    pairs = sum(bisect_right(table, limit // table[index]) - index for index in range(count, square))
    return _unsieved(limit, count) + count - 1 - pairs


def _cube_root(number: int) -> int:
    root = round(number ** (1 / 3))
    while root**3 > number:
        root -= 1
    while (root + 1) ** 3 <= number:
        root += 1
    return root


def _unsieved(limit: int, count: int) -> int:
    """Return how many numbers up to `limit` no prime of the first `count` divides (Legendre's phi)."""
    table = primes()
    known: dict[tuple[int, int], int] = {}

    def phi(rest: int, index: int) -> int:
        if index == 0 or rest == 0:
            return rest
        if rest <= TABLE and table[index - 1] ** 2 >= rest:
            return max(1, bisect_right(table, rest) - index + 1)
        found = known.get((rest, index))
        if found is None:
            found = rest
            for smaller in range(index):
                if table[smaller] > rest:
                    break
                found -= phi(rest // table[smaller], smaller)
            known[rest, index] = found
        return found

    return phi(limit, count)


@cache
def _moebius_table(limit: int) -> bytearray:
    """One byte for each number: 0, 1 or 255 for minus one."""
    table = bytearray([1]) * (limit + 1)
    for prime in primes():
        if prime > limit:
            break
        table[prime::prime] = table[prime::prime].translate(_FLIP)
        if prime * prime <= limit:
            table[prime * prime :: prime * prime] = bytes(len(range(prime * prime, limit + 1, prime * prime)))
    table[0] = 0
    return table


@cache
def _mertens_table(limit: int) -> Sequence[int]:
    return list(accumulate(byte - 256 if byte == _NEGATIVE else byte for byte in _moebius_table(limit)))


@lru_cache(maxsize=4096)
def mertens(limit: int) -> int:
    """Return M(limit), the sum of the Möbius function up to `limit`, at most 10^8."""
    for size in (10_000, TABLE):
        if limit <= size:
            return _mertens_table(size)[limit]
    total, start = 1, 2
    while start <= limit:
        quotient = limit // start
        last = limit // quotient
        total -= (last - start + 1) * mertens(quotient)
        start = last + 1
    return total


@lru_cache(maxsize=65536)
def factors(number: int) -> tuple[tuple[int, int], ...] | None:
    """Return the prime factors with their powers, or None where that is too hard.

    Primes up to a million are tried; what is left below 10^12 is prime itself.
    """
    found: list[tuple[int, int]] = []
    table = primes(1000) if number < 1_000_000 else primes()
    for prime in table:
        if prime * prime > number:
            break
        power = 0
        while number % prime == 0:
            number //= prime
            power += 1
        if power:
            found.append((prime, power))
    if number > TABLE * TABLE:
        return None
    return (*found, (number, 1)) if number > 1 else tuple(found)


def divisor_sum(parts: Sequence[tuple[int, int]]) -> int:
    """Return sigma of the number with these prime factors."""
    return prod((prime ** (power + 1) - 1) // (prime - 1) for prime, power in parts)


def totient(parts: Sequence[tuple[int, int]]) -> int:
    """Return Euler's phi of the number with these prime factors."""
    return prod(prime ** (power - 1) * (prime - 1) for prime, power in parts)


def moebius(parts: Sequence[tuple[int, int]]) -> int:
    """Return the Möbius function of the number with these prime factors."""
    return 0 if any(power > 1 for _, power in parts) else (-1) ** len(parts)


def exponential_theta(limit: int) -> int:
    """Return exp(theta(limit)), the product of all primes up to `limit`, at most a million."""
    return _product(primes()[: prime_count(limit)])


def exponential_psi(limit: int) -> int:
    """Return exp(psi(limit)), the least common multiple of 1 to `limit`, at most a million."""
    return _product(primes()[: prime_count(limit)]) * _product(
        [_largest_power(prime, limit) // prime for prime in primes()[: prime_count(isqrt(limit))]]
    )


def _largest_power(prime: int, limit: int) -> int:
    power = prime
    while power * prime <= limit:
        power *= prime
    return power


def _product(numbers: Sequence[int]) -> int:
    """Multiply in a balanced tree, which keeps the large products few."""
    if len(numbers) <= 8:
        return prod(numbers)
    middle = len(numbers) // 2
    return _product(numbers[:middle]) * _product(numbers[middle:])
