"""How an improvement ends, in one word, one sentence and one exit status: what was not done is never called done."""

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
