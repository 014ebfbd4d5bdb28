"""Round two: pairs and thumbs from what people said of answers (`studium feedback`, POST /api/feedback).

A correction is chosen over the answer it corrects, unless the domain finds both to say the same: then the answer was
good. Where feedback graded students apart, a right student's reply is chosen over a wrong one's. Every rated answer is
a thumb, for KTO, and so is every correction. Of several words of one caller on one answer the last counts; that nobody
had an answer is not to be learned from.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import select

from studium.domains.catalogue import all_domains
from studium.records.answers import AnswerStatus
from studium.records.grades import GradeSource, Rating
from studium.store import Store, schema
from studium.train.preferences.pairs import Pair, Thumb
from studium.train.rows import Row, asked

SOURCE = "feedback"


class FromFeedback(NamedTuple):
    pairs: Sequence[Pair]
    thumbs: Sequence[Thumb]
    rated: int


def from_feedback(store: Store, *, domain: str = "", licence: str = "own") -> FromFeedback:
    """Return what feedback says, of one domain or of all; answers no longer kept are left out. Reads the store.

    `licence` is that of what people wrote, as the operator declares it.
    """
    store.flush()
    pairs: dict[tuple[str, str, str], Pair] = {}
    thumbs: dict[tuple[str, str, bool], Thumb] = {}
    rated = 0
    grades = _grades(store)
    for line in _last_words(store):
        if domain and line["domain"] != domain:
            continue
        rated += 1
        for pair in _pairs(line, grades.get((line["request_id"], line["api_key_name"]), {}), licence):
            pairs.setdefault((line["question"], pair.chosen, pair.rejected), pair)
        for thumb in _thumbs(line, licence):
            thumbs.setdefault((line["question"], thumb.row.completion, thumb.good), thumb)
    return FromFeedback(list(pairs.values()), list(thumbs.values()), rated)


def _last_words(store: Store) -> list[Mapping[str, Any]]:
    """Return every rated answer with the last thing each caller said of it."""
    said, kept = schema.feedback.c, schema.answers.c
    query: Any = (
        select(
            said.request_id,
            said.api_key_name,
            said.rating,
            said.correction,
            kept.domain,
            kept.question,
            kept.text,
            kept.members,
        )
        .join_from(schema.feedback, schema.answers, kept.request_id == said.request_id)
        .where((kept.api_key_name == said.api_key_name) | (said.api_key_name == ""))
        .where(kept.status == AnswerStatus.ANSWERED)
        .order_by(said.id, kept.id)
    )
    last = {(row["request_id"], row["api_key_name"]): row for row in store.read(query)}
    return list(last.values())


def _grades(store: Store) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """Return each student's newest score from feedback, by answer and caller; withdrawn ones are not there."""
    rows = schema.grades.c
    query: Any = (
        select(rows.key, rows.request_id, rows.student, rows.score, rows.weight)
        .where(rows.source == GradeSource.FEEDBACK)
        .order_by(rows.id)
    )
    newest = {row["key"]: row for row in store.read(query)}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for key, row in newest.items():
        if row["weight"] > 0 and row["student"]:
            caller = key.split("\n")[1] if key.count("\n") == 3 else ""
            found.setdefault((row["request_id"], caller), {})[row["student"]] = row["score"]
    return found


def _pairs(line: Mapping[str, Any], scores: Mapping[str, float], licence: str) -> Iterator[Pair]:
    if _corrected(line):
        yield Pair(_row(line, line["correction"], licence), line["text"])
    texts = {
        member["student"]: member["text"]
        for member in orjson.loads(line["members"])
        if member["text"].strip() and member["student"] in scores
    }
    right = [texts[name] for name in sorted(texts) if scores[name] == 1.0]
    wrong = [texts[name] for name in sorted(texts) if scores[name] == 0.0]
    for better, worse in zip(right, wrong, strict=False):
        if better != worse:
            yield Pair(_row(line, better, licence), worse)


def _thumbs(line: Mapping[str, Any], licence: str) -> Iterator[Thumb]:
    good = line["rating"] == Rating.GOOD or (line["rating"] == Rating.CORRECTED and not _corrected(line))
    if line["text"].strip():
        yield Thumb(_row(line, line["text"], licence), good=good)
    if _corrected(line):
        yield Thumb(_row(line, line["correction"], licence), good=True)


def _corrected(line: Mapping[str, Any]) -> bool:
    """Say whether there is a correction that says something else than the answer did."""
    if line["rating"] != Rating.CORRECTED or not line["correction"].strip():
        return False
    found = all_domains().get(line["domain"])
    if found is None:
        return line["text"].strip() != line["correction"].strip()
    one, other = found.extract(line["text"]), found.extract(line["correction"])
    return one is None or other is None or not found.same(one, other)


def _row(line: Mapping[str, Any], reply: str, licence: str) -> Row:
    source = f"{SOURCE}/{line['domain']}" if line["domain"] in all_domains() else SOURCE
    return Row(
        f"{SOURCE}/{line['request_id']}",
        asked(line["question"]),
        completion=reply,
        licence=licence,
        source=source,
    )
