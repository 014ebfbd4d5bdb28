"""One comparison from its names to its evidence: asked, kept, resumed where it was stopped, written down."""

import asyncio
import hashlib
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from studium.cli import compare_models
from studium.cli.compare_models import Two
from studium.cli.output import note
from studium.errors import OperatorError
from studium.evals import packs
from studium.evals.comparing import words
from studium.evals.comparing.asking import Contest, Contestant, Outcome, ask_both, outcome_of
from studium.evals.comparing.report import cost, report
from studium.evals.folder import EvalFolder
from studium.evals.gate import evidence
from studium.evals.gate.evidence import Side
from studium.evals.gate.verdict import Limits, paths_of
from studium.evals.items import fresh_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studium.config import Config

Json = dict[str, Any]
FOLDER, EVIDENCE = "compare", "evidence"
_LN_10 = 2.302585092994046
_UNFIT = re.compile(r"[^a-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller chose to ask. `narrow`: of the suite, only the domains compared."""

    domains: tuple[str, ...]
    levels: tuple[int, ...]
    problems: int
    seed: int
    suite: str
    narrow: bool = False
    everything: bool = False


def contest_of(wanted: Wanted) -> tuple[Contest, Json]:
    """Return what is asked, and what tells it from all else. Raises CallerError, BadRequest."""
    frozen = packs.suite(wanted.suite)
    known = {one.id for one in frozen.items}  # so that the two parts judge apart
    drawn = [fresh_of(name, wanted.problems, wanted.seed, levels=wanted.levels) for name in wanted.domains]
    # Domains take turns, so that more problems go on where fewer ended.
    fresh = [one for turn in zip(*drawn, strict=True) for one in turn if one.id not in known]
    suite = [one for one in frozen.items if not wanted.narrow or one.domain.name in wanted.domains]
    asked: Json = {
        "domains": list(wanted.domains),
        "levels": list(wanted.levels),
        "problems": wanted.problems,
        "seed": wanted.seed,
        "fresh_sha256": _digest([one.id for one in fresh]),
        "suite": wanted.suite,
        "suite_sha256": frozen.sha256,
        "narrow": wanted.narrow,
        "temperature": 0.0,
    }
    return Contest(fresh, suite, Limits(), wanted.everything), asked


async def compare_two(config: "Config", two: Two, wanted: Wanted, timeout_s: float, out: Path | None) -> Json:
    """Ask what is left, write evidence and reports, and return the report. What is asked is kept as it comes."""
    contest, asked = contest_of(wanted)
    sides = await asyncio.to_thread(compare_models.sides, two)
    folder = config.workspace / FOLDER / _name(sides, asked)
    pair = EvalFolder(folder, "baseline"), EvalFolder(folder, "tuned")
    for one, side in zip(pair, sides, strict=True):
        await asyncio.to_thread(one.begin, _told(side, asked))
    before = [one.report().get("peak_bytes", 0) for one in pair]
    async with compare_models.opened(two, timeout_s) as ready:
        contestants = Contestant(ready.ways[0], pair[0]), Contestant(ready.ways[1], pair[1])
        said = time.monotonic()
        async for step in ask_both(contest, *contestants):
            await ready.look()
            if (now := time.monotonic()) - said >= (1.0 if sys.stderr.isatty() else 5.0):
                said = now
                left = f"{step.done}/{step.total} questions, at most {step.seconds_left:.0f} s left"
                note(
                    f"{left}; evidence {step.decision.better:.3g} for better, {step.decision.worse:.3g} for worse"
                )
    outcome = outcome_of(contest, *contestants)
    seen = [ready.peaks.get(one.student.model.name, 0) for one in (two.baseline, two.tuned)]
    peaks = [max(one) for one in zip(before, seen, strict=True)]
    for one, peak in zip(pair, peaks, strict=True):
        one.finish({"peak_bytes": peak})
    told = _conclude(config, two, sides, contest, asked, outcome, peaks)
    for where in (folder, *([out] if out else [])):
        _write_reports(told, outcome, where)
    return told | {"folder": str(folder)}


def head_now(config: "Config", body: Json, names: "tuple[str, str] | None" = None) -> Json:
    """Return what the head of a body would be today, its models found again by their names."""
    asked = body["asked"]
    wanted = Wanted(
        tuple(asked["domains"]),
        tuple(asked["levels"]),
        asked["problems"],
        asked["seed"],
        asked["suite"],
        asked["narrow"],
    )
    first, second = names or (body["said"]["champion"], body["said"]["challenger"])
    two = compare_models.both(config, first, second, body["said"]["role"])
    sides = compare_models.sides(two)
    return _body(two, sides, contest_of(wanted)[1], Limits(), [], None)


def _conclude(
    config: "Config",
    two: Two,
    sides: tuple[Side, Side],
    contest: Contest,
    asked: Json,
    outcome: Outcome,
    peaks: "Sequence[int]",
) -> Json:
    whole = bool(contest.suite) and len(outcome.suite) == len(contest.suite)
    suite = outcome.pairs(outcome.suite) if whole else None
    body = _body(two, sides, asked, contest.limits, outcome.pairs(outcome.fresh), suite)
    sealed = evidence.seal(body, role=two.role, at=time.time())
    path = evidence.write(sealed, config.workspace / EVIDENCE)
    compare_models.keep(config, sealed)
    replies = list(outcome.champion.values()), list(outcome.challenger.values())
    first, second = (
        cost(said, compare_models.file_bytes(one), peak or None)
        for said, one, peak in zip(replies, (two.baseline, two.tuned), peaks, strict=True)
    )
    decision = evidence.decision_of(body)
    planned = len(contest.fresh)
    told = report(sides, outcome, decision, (first, second), planned=planned, asked=asked)
    return told | {"role": two.role, "evidence": sealed.id, "evidence_file": str(path)}


def _body(
    two: Two,
    sides: tuple[Side, Side],
    asked: Json,
    limits: Limits,
    fresh: "Sequence[Any]",
    suite: "Sequence[Any] | None",
) -> Json:
    said = {"champion": two.baseline.said, "challenger": two.tuned.said, "role": two.role}
    body = evidence.body_of(
        *sides, asked=asked, engine=compare_models.engines(two), limits=limits, fresh=fresh, suite=suite
    )
    return body | {"said": said}


def _write_reports(told: Json, outcome: Outcome, folder: Path) -> None:
    path = [value / _LN_10 for value in paths_of(outcome.pairs(outcome.fresh)).better.tolist()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.md").write_text(words.markdown(told), encoding="utf-8")
        (folder / "report.html").write_text(words.page(told, path), encoding="utf-8")
        (folder / "report.json").write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise OperatorError(
            f"{folder} cannot be written: {error.strerror}", expected="a folder that may be written to"
        ) from error


def _told(side: Side, asked: Json) -> Json:
    """Return what an evaluation's folder is told of one side."""
    return {
        "model": side.name,
        "fingerprint": side.fingerprint,
        "files": dict(side.files),
        "items": _lasting(asked),
        "domains": asked["domains"],
        "samples": 1,
        "temperature": 0.0,
        "metrics": [],
        "judge": "",
    }


def _lasting(asked: Json) -> Json:
    """Return what stays the same where more problems are asked."""
    return {key: value for key, value in asked.items() if key not in ("problems", "fresh_sha256")}


def _name(sides: tuple[Side, Side], asked: Json) -> str:
    """Return a folder's name that equal comparisons share and others do not."""
    told = [_lasting(asked), *([dict(one.files), one.fingerprint] for one in sides)]
    digest = _digest([orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode()])[:8]
    plain = "-".join(_UNFIT.sub("-", one.name.lower()).strip("-_.")[:20] for one in sides)
    return f"{plain}-{digest}"


def _digest(lines: "Sequence[str]") -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
