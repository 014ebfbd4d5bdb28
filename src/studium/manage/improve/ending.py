"""How an improvement ends, in one word, one sentence and one exit status: what was not done is never called done."""

from collections.abc import Sequence
from enum import StrEnum


class Ending(StrEnum):
    """Only PROMOTED changed who serves, and is said only after the new champion was heard to answer."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    HELD = "held"
    NOT_MEASURED = "not measured"
    NOT_TRAINED = "not trained"
    NOT_ACTIVE = "not active"
    NOTHING_WEAK = "nothing weak"
    STOPPED = "stopped"


EXIT = {
    Ending.PROMOTED: 0,
    Ending.ROLLED_BACK: 10,
    Ending.HELD: 11,
    Ending.NOT_MEASURED: 12,
    Ending.NOT_TRAINED: 13,
    Ending.NOT_ACTIVE: 14,
    Ending.NOTHING_WEAK: 15,
    Ending.STOPPED: 130,
}

STOPPED_LATE = (
    "Stopped after it was promoted, before it was heard to answer: it serves. It can be gone on with."
)

SENTENCES = {
    Ending.PROMOTED: "The trained model was proven better, and it answers now.",
    Ending.ROLLED_BACK: "The trained model was shown to be worse somewhere; who served before goes on serving.",
    Ending.HELD: "The trained model was not proven better; who served before goes on serving.",
    Ending.NOT_MEASURED: "Nothing could be compared, so nothing was changed.",
    Ending.NOT_TRAINED: "Nothing was trained, so nothing was compared or changed.",
    Ending.NOT_ACTIVE: "The trained model was proven better and promoted, but it was not heard to answer.",
    Ending.NOTHING_WEAK: "No skill was found that it has and is weak at; nothing was done.",
    Ending.STOPPED: "Stopped before its end; nothing that serves was changed. It can be gone on with.",
}


def outcome(endings: Sequence[Ending | None]) -> Ending:
    """Return how turns ended as a whole: the last one tells, but for a promotion before it, which stands."""
    last = endings[-1] or Ending.STOPPED
    if Ending.PROMOTED in endings and last not in (Ending.STOPPED, Ending.NOT_ACTIVE):
        return Ending.PROMOTED
    return last


def sentence(ending: Ending, *, promoted: bool) -> str:
    """Return what an ending means; `promoted` says whether the step that changes who serves was done."""
    return STOPPED_LATE if ending is Ending.STOPPED and promoted else SENTENCES[ending]
