"""When an answer is refined, by whom, and how what came of it is kept as an example to learn from.

The asking itself is in `refinement`. An example may be used for training only where the terms of everyone whose
words may be in it allow that; nobody's terms are guessed.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from studium.records.answers import Answer, Part, Query
from studium.records.examples import Claim, Example, Terms
from studium.records.models import Student
from studium.serve.refining.refinement import Refiners
from studium.serve.team.team import Team

log = logging.getLogger(__name__)

TermsOf = Callable[[Student], Terms]


def _no_terms(_student: Student) -> Terms:
    return Terms()


@dataclass(frozen=True, slots=True)
class Refining:
    """When answers are refined, and where what came of it is kept. `when` is doubt, always, asked or never."""

    when: str = "never"
    doubt_below: float = 0.8
    timeout_s: float = 120.0
    terms: TermsOf = _no_terms
    log: Callable[[Example], int] | None = None
    force_arbiter: Callable[[], bool] = lambda: False
    enabled: Callable[[], bool] = lambda: True

    def refiners(self, query: Query, team: Team) -> Refiners | None:
        """Return who may refine the answer to a query; None where that is not wanted or nobody is named."""
        asked_not = query.refine is False or (self.when == "asked" and not query.refine)
        if self.when == "never" or asked_not or not self.enabled():
            return None
        oracle, arbiter = team.playing("oracle"), team.playing("arbiter")
        if oracle is None and arbiter is None:
            return None
        always = self.when == "always" or bool(query.refine)
        return Refiners(oracle, arbiter, always, self.force_arbiter(), self.doubt_below)

    async def keep(self, query: Query, answer: Answer, team: Team) -> Answer:
        """Keep a refined answer as an example; the answer says so where the disk refuses it."""
        refinement = answer.notes.get("refinement", {})
        if self.log is None or not refinement.get("platinum"):
            return answer
        example = example_of(query, answer, team, self.terms)
        notes = {**refinement, "trainable": example.trainable}
        try:
            notes["example"] = await asyncio.to_thread(self.log, example)
        except Exception as error:
            log.exception("a refined answer could not be kept")
            notes["not_kept"] = f"{type(error).__name__}: {error}"
        return replace(answer, notes={**answer.notes, "refinement": notes})


def example_of(query: Query, answer: Answer, team: Team, terms_of: TermsOf) -> Example:
    """Return a refined answer as an example, with the terms of everyone whose words may be in it."""
    refinement = answer.notes["refinement"]
    spoke = [member for member in answer.members if member.text and member.part is not Part.JUDGE]
    drafts = [member for member in spoke if member.part not in (Part.ORACLE, Part.ARBITER)]
    first = next((member for member in drafts if member.answer is not None), drafts[0] if drafts else None)
    return Example(
        request_id=query.request_id,
        at=time.time(),
        domain=answer.domain,
        kind=answer.kind,
        question=query.question,
        draft=refinement["draft"],
        text=answer.text,
        draft_by=refinement["draft_by"] or (first.student if first else ""),
        refined_by=answer.chosen_model,
        claims=tuple(Claim(**one) for one in refinement["claims"]),
        members=[
            {
                "student": member.student,
                "part": member.part.value,
                "text": member.text,
                "answer": member.answer,
                "cost_usd": member.cost_usd,
                "seconds": member.seconds,
            }
            for member in spoke
        ],
        terms={name: terms_of(team.students[name]) for name in sorted({member.student for member in spoke})},
        cost_usd=answer.cost_usd,
        seconds=answer.seconds,
        score=refinement["score"],
        api_key_name=query.api_key_name,
        notes={"agrees_with_draft": refinement["agrees_with_draft"], "steps": refinement["steps"]},
    )
