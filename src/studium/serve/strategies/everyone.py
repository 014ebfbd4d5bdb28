"""All are asked at once and the most frequent answer wins: what the committee is measured against."""

from dataclasses import replace

from studium.serve.calls import Batch, Brief, Call, Strategy
from studium.serve.choosing.evidence import Panel, Source
from studium.serve.strategies.verdicts import verdict_of

# Any one number for all: what counts is the number of voices.
EQUAL = 0.9


def everyone(brief: Brief) -> Strategy:
    """Ask every student, also those the complexity would leave out; each has one vote of equal weight."""
    members = (*brief.students, *brief.reserves)
    replies = yield Batch(tuple(map(Call, members)))
    panel = Panel({one.name: Source(one.name, EQUAL) for one in members}, brief.same)
    votes = [replace(reply, confidence=None) for reply in replies]
    return verdict_of(brief, panel, votes, ())
