"""From a recipe's sources to rows: fresh problems of domains by seed, and files of JSON lines.

Problems come from the training side of the hash, unless another side is asked for, so no row can be one that is
measured on. A file's line is {"prompt" or "messages", "completion"} and may add id, prefix, ends, weight, licence,
source, problem (a domain's, whole) with step; a fault names file, line and key, and nothing is trained. Lines of
preferences and of a teacher's traces have more; as a row a preference is its chosen reply, a thumb down is none.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import orjson

from studium.domains.catalogue import trusted as domain_named
from studium.domains.protocol import Domain, Problem, Split, ThinksAloud, make_split
from studium.errors import BadRequest, ConfigurationError
from studium.records.messages import Message
from studium.train.config import Source
from studium.train.rows import Row, asked

GENERATED = "generated"
THINK, THOUGHT_END = "<think>", "</think>"
_OF_ROWS = (
    "id",
    "prompt",
    "messages",
    "completion",
    "prefix",
    "ends",
    "problem",
    "step",
    "weight",
    "licence",
    "source",
)
_OF_PREFERENCES = ("chosen", "rejected", "rejected_ends", "margin", "good")
_OF_TRACES = ("teacher", "tokens", "top")
_KNOWN = (*_OF_ROWS, *_OF_PREFERENCES, *_OF_TRACES)
_MOST_LINE_BYTES = 4 << 20


def rows_of(sources: Sequence[Source], *, side: Split = Split.TRAIN) -> list[Row]:
    """Return every row of the sources, in order; equal sources give equal rows. Reads files."""
    return [row for source in sources for row in _rows(source, side)]


def problems_of(source: Source, *, side: Split, scarce: bool = False) -> list[Problem]:
    """Return a domain's problems on one side of the split: distinct keys, levels in turn, `source.num_problems`.

    None is one that the domain `source.beside` could have asked, on whose other side it might be there. Raises
    ConfigurationError where there are not so many, unless `scarce`: then those there are.
    """
    domain = domain_named(source.domain)
    beside = domain_named(source.beside) if source.beside else None
    rng = Random(f"{source.seed}/{source.domain}/{side}")
    levels = source.levels or domain.levels
    found: dict[str, Problem] = {}
    tries = 0
    wanted = source.num_problems
    while len(found) < wanted and tries < 50 * wanted + 1000:
        problem = make_split(domain, rng, levels[tries % len(levels)], side)
        if beside is None or not beside.recognises(problem.prompt):
            found.setdefault(problem.key, problem)
        tries += 1
    if len(found) < wanted and not scarce:
        raise ConfigurationError(
            f"{source.domain} has only {len(found)} different problems at levels {levels}",
            expected=f"{wanted}, as 'rows' asks for",
            try_next="lower rows, or add levels",
        )
    return list(found.values())


def expert_steps(domain: Domain, problem: Problem) -> list[str]:
    """Return the expert's actions in order: the lines of the solution, the line with the answer last."""
    return domain.solution(problem).split("\n")


def rows_of_problem(domain: Domain, problem: Problem, source: Source) -> Iterator[Row]:
    """Yield a problem's rows as the source teaches it."""
    whole = f"{problem.domain}/{problem.key}"
    common = {
        "messages": asked(problem.prompt),
        "problem": problem,
        "licence": GENERATED,
        "source": problem.domain,
    }
    steps = expert_steps(domain, problem)
    if source.teach in ("solutions", "prompts"):
        said = "\n".join(_thought(domain, problem, at, source) + step for at, step in enumerate(steps))
        yield Row(whole, completion=said if source.teach == "solutions" else "", **common)
        return
    for at, step in enumerate(steps):
        prefix = "".join(f"{one}\n" for one in steps[:at])
        ends = at + 1 == len(steps)
        said = _thought(domain, problem, at, source) + step + ("" if ends else "\n")
        completion = said if source.teach == "steps" else ""
        yield Row(f"{whole}#{at}", completion=completion, prefix=prefix, step=at, ends=ends, **common)


def _rows(source: Source, side: Split) -> Iterator[Row]:
    if bool(source.domain) == bool(source.file):
        raise ConfigurationError(
            f"a source of data names {'both a domain and a file' if source.file else 'neither domain nor file'}",
            expected="'domain: NAME' or 'file: PATH'",
            try_next="see the recipes",
        )
    if source.file:
        return (row for _, row, line in lines_of(source) if line.get("good") is not False)
    domain = domain_named(source.domain)
    return (
        row for problem in problems_of(source, side=side) for row in rows_of_problem(domain, problem, source)
    )


def _thought(domain: Domain, problem: Problem, step: int, source: Source) -> str:
    if not source.thoughts or not isinstance(domain, ThinksAloud):
        return ""
    return f"{THINK}{domain.thoughts(problem)[step]}{THOUGHT_END}"


def lines_of(source: Source) -> Iterator[tuple[str, Row, Mapping[str, Any]]]:
    """Yield a file's lines: the place for messages, the row, and all that was written. Raises BadRequest."""
    path = Path(source.file).expanduser()
    for number, line in islice(numbered_lines(path), source.rows or None):
        place = f"{path.name}:{number}"
        yield place, _row(line, place, source), line


def numbered_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the objects of a file of JSON lines with their line numbers. Raises BadRequest naming the line."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MOST_LINE_BYTES + 1), b""), start=1):
                if line.strip():
                    yield number, _parsed(line, f"{path.name}:{number}")
    except OSError as error:
        raise BadRequest(
            f"the data file {path} cannot be read: {error.strerror}", expected="a file of JSON lines"
        ) from error


def _parsed(line: bytes, place: str) -> Mapping[str, Any]:
    try:
        found = orjson.loads(line) if len(line) <= _MOST_LINE_BYTES else None
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"{place}: no JSON: {error}", expected="one JSON object per line") from error
    if not isinstance(found, dict):
        raise BadRequest(f"{place}: no JSON object of at most 4 MiB", expected="one JSON object per line")
    return found


def _row(line: Mapping[str, Any], place: str, source: Source) -> Row:
    unknown = next((key for key in line if key not in _KNOWN), None)
    if unknown is not None:
        raise BadRequest(f"{place}: unknown key {unknown!r}", expected=f"only {', '.join(_KNOWN)}")
    messages = line.get("messages") or [{"role": "user", "content": line.get("prompt")}]
    try:
        turns = tuple(Message(str(one["role"]), _text(one["content"])) for one in messages)
        return Row(
            id=str(line.get("id", place)),
            messages=turns,
            completion=_text(line.get("completion", line.get("chosen", ""))),
            prefix=_text(line.get("prefix", "")),
            problem=_problem(line["problem"]) if line.get("problem") else None,
            step=line.get("step"),
            ends=bool(line.get("ends", True)),
            weight=float(line.get("weight", 1.0)),
            licence=str(line.get("licence", source.licence)),
            source=str(line.get("source", place)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadRequest(
            f"{place}: {error}",
            expected="'prompt' or 'messages' [{role, content}], and 'completion', as text",
        ) from error


def _problem(value: Mapping[str, Any]) -> Problem:
    return Problem(**{**value, "steps": tuple(value["steps"])})


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:80]!r} is no text")
    return value
