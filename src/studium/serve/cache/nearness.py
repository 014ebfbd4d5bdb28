"""How near two words must be to stand in for each other: nearer than words are that change a question's meaning.

How high a model's cosines lie, and how far apart it holds opposites, is its own. So it is asked: the probes are pairs
of words that go into the same places and say something else. A model that holds one of them for almost the same is
not used at all.
"""

from collections.abc import Awaitable, Callable, Sequence

from studium.serve.cache.keys import similarity
from studium.serve.cache.same_question import differences

LONGEST_CHARACTERS = 300
"""A longer question means the same only to the letter: who writes so much means each word of it."""

PROBES: Sequence[tuple[str, str]] = (
    ("loved", "hated"),
    ("open", "closed"),
    ("rose", "fell"),
    ("won", "lost"),
    ("buy", "sell"),
    ("start", "stop"),
    ("hot", "cold"),
    ("cat", "dog"),
    ("husband", "wife"),
    ("teacher", "student"),
    ("doctor", "lawyer"),
    ("january", "february"),
    ("monday", "tuesday"),
    ("french", "german"),
    ("coffee", "tea"),
    ("kilometres", "miles"),
)
NEVER = 2.0
_HIGHEST = 0.95

Embed = Callable[[str], Awaitable[Sequence[float]]]


async def least_cosine(embed: Embed) -> float | None:
    """Return the cosine from which a word stands in for another, above 1 where a model holds opposites for the same.

    Half-way between its nearest probe and 1. None where a probe has no embedding now. Embeds every probe once.
    """
    nearest = 0.0
    for pair in PROBES:
        cosine = await _cosine(embed, pair)
        if cosine is None:
            return None
        nearest = max(nearest, cosine)
    return NEVER if nearest > _HIGHEST else (1.0 + nearest) / 2


async def means_the_same(embed: Embed, one: str, other: str, least: float) -> bool:
    """Say whether two plain questions differ at most in words that stand in for each other, by `least_cosine`."""
    pairs = differences(one, other)
    if pairs is None:
        return False
    for pair in pairs:
        cosine = await _cosine(embed, pair)
        if cosine is None or cosine < least:
            return False
    return True


async def _cosine(embed: Embed, pair: tuple[str, str]) -> float | None:
    vectors = await embed(pair[0]), await embed(pair[1])
    return similarity(*vectors) if all(map(len, vectors)) else None
