"""`studium models calibrate` asks problems whose answers are known; `calibration` shows what came of it."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studium.cli.options import ConfigOption, JsonOption, WorkspaceOption, settings
from studium.cli.output import note, write, write_json, write_table

if TYPE_CHECKING:
    from studium.app import Studium
    from studium.config import Config
    from studium.evals.intervals import Interval
    from studium.records.answers import Query
    from studium.serve.history.calibrating import Ask, Progress, Task

Json = dict[str, Any]
AUTO = "auto"
_WIDTH = 40


def calibrate(
    domain: Annotated[
        list[str] | None,
        typer.Option("--domain", metavar="NAME", help="Any domain; repeatable. Else those known of."),
    ] = None,
    problems: Annotated[
        int, typer.Option("--problems", metavar="N", min=1, max=10_000, help="Problems of each domain.")
    ] = 20,
    student: Annotated[
        list[str] | None,
        typer.Option(
            "--student", metavar="NAME", help="Only this one, or auto for all together; repeatable."
        ),
    ] = None,
    tries: Annotated[
        int,
        typer.Option(
            "--tries",
            metavar="N",
            min=1,
            max=5,
            help="Ask who has an answer so often: what a repeat is worth.",
        ),
    ] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be asked.")] = False,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Ask students problems kept for scoring, grade their answers, and learn how far to trust whom.

    The problems are always the same: what was asked before, of the same model, is not asked again, so a run that
    was interrupted goes on where it ended. A running Studium is asked through its endpoint. A further try, at some
    temperature, shows how far a student that is asked again says the same again: its echo.

    Example: studium models calibrate --domain arithmetic --problems 50 --student abacus --student auto
    """
    chosen = settings(config, workspace)
    told = asyncio.run(
        _calibrate(chosen, domain or (), problems, student or (), tries=tries, dry_run=dry_run)
    )
    if json:
        write_json(told)
    elif dry_run:
        write(f"at most {told['to_ask']} questions to ask; {told['done_before']} were asked before\n")
        rows = [(name, str(one["questions"]), _seconds(one["seconds"])) for name, one in told["left"].items()]
        write_table(("student", "questions", "seconds, about"), rows)
    else:
        columns = ("student", "domain", "asked", "right", "share")
        write_table(
            columns,
            [(*row[:2], *(f"{count:g}" for count in row[2:4]), f"{row[4]:.0%}") for row in told["results"]],
        )
        note("what follows from it: studium models calibration, studium models why QUESTION")


def calibration(
    student: Annotated[
        str | None,
        typer.Option("--student", metavar="NAME", help="Of this one; else of the answers themselves."),
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="NAME", help="Only this kind of question.")
    ] = None,
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Show what confidence has been worth: how often answers were right beside how sure they were said to be.

    ECE is the mean gap between the two. "calibrated" is the curve's, on answers it was not fitted to. Below stands what
    was learned of voices that go together: "echo" 0 is a further try worth another student, 1 the same said again;
    "in common" is the correlation of being right; "wrong answers" is how many there are to agree on by accident.

    Example: studium models calibration
    """
    told = asyncio.run(_calibration(settings(config, workspace), student, domain))
    if json:
        write_json(told)
        return
    if told["pairs"]:
        write(f"{told['of']}: {told['pairs']} graded answers\n")
        write(f"ECE {_gap(told['ece'])}; calibrated {_gap(told['ece_calibrated'])}\n\n")
        write_table(("said", "right", "95 % interval", "answers", "said |, right #"), map(_bin, told["bins"]))
    else:
        note(
            f"no graded answer of {told['of']} has a confidence yet: studium models calibrate --student auto"
        )
    _write_together(told["together"])


def _write_together(told: Json) -> None:
    if told["echoes"]:
        write("\n")
        rows = [
            (one["student"], one["kind"], str(one["tries"]), f"{one['echo']:.2f}") for one in told["echoes"]
        ]
        write_table(("student", "kind", "asked again", "echo"), rows)
    if told["kinds"]:
        write("\n")
        rows = [
            (one["kind"], str(one["pairs"]), f"{one['commons']:.2f}", f"{one['wrong_answers']:.1f}")
            for one in told["kinds"]
        ]
        write_table(("kind", "pairs of replies", "in common", "wrong answers"), rows)


async def _calibrate(
    config: "Config",
    domains: Sequence[str],
    problems: int,
    students: Sequence[str],
    *,
    tries: int,
    dry_run: bool,
) -> Json:
    from studium.app import open_studium
    from studium.cli.running import running_server
    from studium.serve.history.calibrating import done, estimate, known_domains, left, run, tasks
    from studium.serve.history.history import CALIBRATING

    url = running_server(config.workspace)
    async with open_studium(config) as studium:
        team, history = studium.ensemble.team, studium.history
        chosen = [team.student(name) for name in students if name != AUTO] if students else team.members()
        if not domains:
            domains = known_domains(chosen or team.members(), history.reliability)
            note(
                f"of which cards or grades tell something, else the skills: {', '.join(domains)}; --domain takes any"
            )
        planned = tasks(domains, problems, chosen, history.models, whole=AUTO in students, tries=tries)
        scores, heard = history.scores(CALIBRATING), history.heard(CALIBRATING)
        to_ask = left(planned, scores, heard)
        before = sum(done(task, scores, heard) for task in planned)
        told: Json = {"to_ask": len(to_ask), "done_before": before}
        if dry_run:
            return told | {"left": estimate(to_ask, team.students, studium.fleet)}
        async for progress in run(to_ask, _asker(studium, url), history):
            _tell(progress)
        return told | {"results": _results(planned, history.scores(CALIBRATING))}


def _asker(studium: "Studium", url: str | None) -> "Ask":
    """Return who is asked: a Studium that serves the workspace, so that two do not compete, else this one."""
    from studium.cli.running import post
    from studium.serve.report import whole

    async def here(query: "Query") -> Json:
        return whole(await studium.ensemble.answer(query), explain=True)

    async def there(query: "Query") -> Json:
        body = {"question": query.question, "model": query.model, "domain": query.domain}
        body |= {"explain": True, "logprobs": True, "cache": False, "refine": False}
        body |= {"temperature": query.sampling.temperature, "seed": query.sampling.seed}
        return await asyncio.to_thread(post, url or "", "/api/ask", body, query.request_id)

    return there if url else here


def _tell(progress: "Progress") -> None:
    task, score = progress.task, progress.score
    outcome = progress.error or ("not graded" if score is None else "right" if score == 1 else "wrong")
    if sys.stderr.isatty() or progress.done % 25 == 0 or progress.error or progress.done == progress.total:
        note(
            f"{progress.done}/{progress.total}, about {progress.seconds_left:.0f} s left: "
            f"{task.student or AUTO}, {task.domain.name}: {outcome}"
        )


def _results(
    planned: "Sequence[Task]", scores: Mapping[str, float]
) -> list[tuple[str, str, int, float, float]]:
    """Return student, domain, how many were asked, how many right, and the share."""
    found: dict[tuple[str, str], list[float]] = {}
    for task in planned:
        if task.key in scores and not task.sample:
            found.setdefault((task.student or AUTO, task.domain.name), []).append(scores[task.key])
    return [(*who, len(of), sum(of), sum(of) / len(of)) for who, of in found.items()]


async def _calibration(config: "Config", student: str | None, domain: str | None) -> Json:
    from studium.app import open_studium
    from studium.records.grades import WHOLE
    from studium.serve.history.calibration import Pair, cross_fitted, ece_interval, fit, reliability_diagram

    async with open_studium(config) as studium:
        kinds = [domain] if domain else None
        pairs = [Pair(*one) for one in studium.store.grades.confidences(student or WHOLE, kinds=kinds)]
        together = _together(studium, student, domain)
    curve = fit(pairs)
    return {
        "of": student or "the ensemble",
        "domain": domain,
        "pairs": len(pairs),
        "ece": _plain(ece_interval(pairs)),
        "ece_calibrated": _plain(ece_interval(cross_fitted(pairs))),
        "curve": {"slope": curve.slope, "offset": curve.offset},
        "together": together,
        "bins": [asdict(one) | {"right": _plain(one.right)} for one in reliability_diagram(pairs)],
    }


def _together(studium: "Studium", student: str | None, domain: str | None) -> Json:
    """Return what was learned of tries of one student, and of different ones, at each kind of question."""
    history, members = studium.history, studium.ensemble.team.members()
    echoes = [
        {"student": name, "kind": kind, "tries": tries, "echo": history.together.echo(name, kind)}
        for (name, kind), tries in sorted(history.together.tries.items())
        if student in (None, name) and domain in (None, kind)
    ]
    kinds = [
        {"kind": kind, "pairs": pairs, **asdict(history.in_common(members, kind, 0.0))}
        for kind, pairs in sorted(history.together.kinds.items())
        if domain in (None, kind)
    ]
    return {"echoes": echoes, "kinds": kinds}


def _bin(one: Json) -> tuple[str, ...]:
    right, low, high = one["right"].values()
    said = round(one["confidence"] * _WIDTH)
    bar = ("#" * round(right * _WIDTH)).ljust(_WIDTH + 1, ".")
    return (
        f"{one['confidence']:.0%}",
        f"{right:.0%}",
        f"{low:.0%} to {high:.0%}",
        str(one["pairs"]),
        f"{bar[:said]}|{bar[said + 1 :]}",
    )


def _plain(found: "Interval | None") -> Json | None:
    return None if found is None else found._asdict()


def _gap(found: Json) -> str:
    return f"{found['value']:.1%} ({found['low']:.1%} to {found['high']:.1%})"


def _seconds(value: float | None) -> str:
    return "not known" if value is None else f"{value:.0f}"
