"""How urgent work is. Everything that wants a model says which class it belongs to (design 4.1)."""

from enum import IntEnum


class Priority(IntEnum):
    """Classes of work, the more urgent the higher. Within a class, whoever waited longer goes first."""

    TRAINING = 0
    CAMPAIGN = 1
    EVALUATION = 2
    SESSION = 3
    INTERACTIVE = 4
