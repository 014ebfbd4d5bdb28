"""Preferences as facts: of two replies to one prompt which is better, or of one reply whether it was good.

In a file of JSON lines a pair is a row (see `data`) with "chosen" and "rejected" for "completion", a thumb one with
"good". A fault names file and line, and nothing is trained.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from studium.errors import BadRequest
from studium.train.config import Source
from studium.train.data import lines_of
from studium.train.rows import Row


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to the prompt of `row`, whose completion is the chosen one.

    `margin` is by how much it was found better, None where that is not known. `rejected_ends` as `Row.ends`.
    """

    row: Row
    rejected: str
    rejected_ends: bool = True
    margin: float | None = None

    @property
    def chosen(self) -> str:
        return self.row.completion

    @property
    def rows(self) -> tuple[Row, Row]:
        """The chosen reply as a row, and the rejected one."""
        rejected = replace(
            self.row,
            id=f"{self.row.id}#rejected",
            completion=self.rejected,
            rejected=True,
            ends=self.rejected_ends,
        )
        return self.row, rejected


@dataclass(frozen=True, slots=True)
class Thumb:
    """A reply, the completion of `row`, and whether it was good."""

    row: Row
    good: bool


def read_pairs(sources: Sequence[Source]) -> list[Pair]:
    """Return the pairs of files. Raises BadRequest naming file and line."""
    return [_pair(*one) for source in sources for one in lines_of(_file(source))]


def read_thumbs(sources: Sequence[Source]) -> list[Thumb]:
    """Return the thumbs of files; a pair counts as one up and one down. Raises BadRequest naming file and line."""
    return [thumb for source in sources for one in lines_of(_file(source)) for thumb in _thumbs(*one)]


def write_pairs(pairs: Iterable[Pair], path: Path) -> int:
    """Write pairs as JSON lines, all or nothing; return how many."""
    return _write((_line(pair.row) | _of_pair(pair) for pair in pairs), path)


def write_thumbs(thumbs: Iterable[Thumb], path: Path) -> int:
    """Write thumbs as JSON lines, all or nothing; return how many."""
    return _write(
        (_line(thumb.row) | {"completion": thumb.row.completion, "good": thumb.good} for thumb in thumbs),
        path,
    )


def thumbs_of(pair: Pair) -> tuple[Thumb, Thumb]:
    """Return a pair as a thumb up and a thumb down."""
    chosen, rejected = pair.rows
    return Thumb(chosen, good=True), Thumb(rejected, good=False)


def _pair(place: str, row: Row, line: Mapping[str, Any]) -> Pair:
    chosen, rejected, margin = line.get("chosen"), line.get("rejected"), line.get("margin")
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        raise BadRequest(
            f"{place}: no pair of replies",
            expected="'chosen' and 'rejected', as text, and 'prompt' or 'messages'",
            try_next="studium train pairs makes such a file",
        )
    if row.weight != 1.0:
        raise BadRequest(f"{place}: a pair has no weight", expected="no 'weight'")
    if margin is not None and not isinstance(margin, int | float):
        raise BadRequest(f"{place}: margin {margin!r} is no number", expected="a number, or no 'margin'")
    return Pair(
        row, rejected, bool(line.get("rejected_ends", True)), None if margin is None else float(margin)
    )


def _thumbs(place: str, row: Row, line: Mapping[str, Any]) -> Iterator[Thumb]:
    if "chosen" in line:
        yield from thumbs_of(_pair(place, row, line))
        return
    good = line.get("good")
    if not isinstance(good, bool) or not isinstance(line.get("completion"), str):
        raise BadRequest(
            f"{place}: no reply with a thumb",
            expected="'completion', as text, and 'good': true or false",
            try_next="studium train pairs --feedback --thumbs FILE makes such a file",
        )
    yield Thumb(row, good)


def _file(source: Source) -> Source:
    if source.domain or not source.file:
        raise BadRequest(
            f"preferences come from a file, not from {source.domain or 'nothing'}",
            expected="data: - file: PAIRS.jsonl",
            try_next="studium train pairs --model MODEL --domain DOMAIN --out PAIRS.jsonl",
        )
    return source


def _line(row: Row) -> dict[str, Any]:
    """Return a row's prompt as a line has it, without the reply."""
    line: dict[str, Any] = {"id": row.id, "messages": [asdict(one) for one in row.messages]}
    extra = {"prefix": row.prefix, "licence": row.licence, "source": row.source}
    line |= {key: value for key, value in extra.items() if value}
    if row.problem is not None:
        line |= {"problem": asdict(row.problem)} | ({} if row.step is None else {"step": row.step})
    return line if row.ends else line | {"ends": False}


def _of_pair(pair: Pair) -> dict[str, Any]:
    more: dict[str, Any] = {"chosen": pair.chosen, "rejected": pair.rejected}
    more |= {} if pair.rejected_ends else {"rejected_ends": False}
    return more if pair.margin is None else more | {"margin": pair.margin}


def _write(lines: Iterable[Mapping[str, Any]], path: Path) -> int:
    part = path.with_name(path.name + ".part")
    number = 0
    with part.open("wb") as out:
        for line in lines:
            out.write(orjson.dumps(line) + b"\n")
            number += 1
    part.replace(path)
    return number
