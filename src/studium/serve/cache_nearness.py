"""How near two questions must be to mean the same: as near as configured, and nearer than opposites are to this model.

An embedding is a mean over words in most models, so one word changed in a long question moves it little: with a
student of 0.4 million parameters "I hated the soup" was given the answer of "I loved the soup" at a cosine above 0.97.
The probes are such pairs, in short and in long. A model that holds them for almost the same is not used.
"""

from collections.abc import Awaitable, Callable, Sequence

from studium.serve.cache_keys import similarity

LONGEST_CHARACTERS = 300
"""A longer question means the same only to the letter: one word of it hardly shows."""

_LONG = (
    "We have been to this place with the whole family on a rainy day in spring, sat by the window, and ordered what "
    "the waiter recommended to us, with a bottle of water and some bread. Here is what my sister thinks of it: {}"
)
_SHORT = "Is this review positive, negative or mixed? {}"
_OPPOSITES = (
    ("I loved the soup.", "I hated the soup."),
    ("The shop is open.", "The shop is closed."),
    ("The price rose.", "The price fell."),
    ("She won the match.", "She lost the match."),
    ("It is a cat.", "It is a dog."),
)
PROBES: Sequence[tuple[str, str]] = tuple(
    (frame.format(one), frame.format(other)) for frame in ("{}", _SHORT, _LONG) for one, other in _OPPOSITES
)
_HIGHEST = 0.9995
NEVER = 2.0


async def least_cosine(embed: Callable[[str], Awaitable[Sequence[float]]], configured: float) -> float | None:
    """Return the cosine from which questions mean the same to a model, above 1 where it cannot tell opposites apart.

    Half-way between its nearest opposites and 1, at least `configured`. None where a probe has no embedding now. Embeds
    every probe once.
    """
    nearest = 0.0
    for one, other in PROBES:
        vectors = await embed(one), await embed(other)
        if not all(vectors):
            return None
        nearest = max(nearest, similarity(*vectors))
    return NEVER if nearest > _HIGHEST else max(configured, (1.0 + nearest) / 2)
