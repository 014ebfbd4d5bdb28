"""A judge beside a reference: is a reply in free words as good? Asked twice, positions swapped, by a callable.

A verdict counts where both orders agree (Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena",
section 3.4, the conservative way). A judge that prefers a place, or cannot be read, gives no score.
"""

from collections.abc import Awaitable, Callable

Verdict = Callable[[str, str, str], Awaitable[str | None]]
"""Takes a question and two answers; returns "A", "B", or another word where neither is better; None: unreadable."""


async def as_good_as(question: str, reply: str, reference: str, verdict: Verdict) -> float | None:
    """Return 1.0 where the reply is better or neither is, 0.0 where the reference is better; None: not scored."""
    straight = await verdict(question, reply, reference)
    swapped = await verdict(question, reference, reply)
    match straight, swapped:
        case (None, _) | (_, None):
            return None
        case "B", "A":
            return 0.0
        case ("A", "B"):
            return 1.0
        case _ if straight == swapped and straight not in ("A", "B"):
            return 1.0
        case _:
            return None
