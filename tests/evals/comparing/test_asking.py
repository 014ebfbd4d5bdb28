"""Two models asked in turn: the same problems, an early end, nothing twice, and a report that adds up."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from studium.errors import EngineDied
from studium.evals.comparing import words
from studium.evals.comparing.asking import BLOCK, Contest, Contestant, Step, ask_both, outcome_of
from studium.evals.comparing.report import cost, report, table
from studium.evals.folder import EvalFolder
from studium.evals.gate.evidence import Side
from studium.evals.gate.verdict import Limits, judge
from studium.evals.grading import Said
from studium.evals.items import fresh_items
from studium.evals.runner import Try, Way
from studium.records.adapters import Verdict

FRESH = fresh_items(["arithmetic"], 60, 1)
KNOWN = {one.id for one in FRESH}
SUITE = [one for one in fresh_items(["sorting"], 70, 2) if one.id not in KNOWN]


class Model:
    """Right where `knows` says so; remembers what it was asked."""

    def __init__(self, knows: Callable[[Try], bool], folder: Path, *, dies_at: int = -1) -> None:
        self.asked: list[str] = []
        self._knows, self._dies_at = knows, dies_at
        self.contestant = Contestant(Way(self._ask, timeout_s=5.0), EvalFolder(folder.parent, folder.name))
        self.contestant.folder.begin({"model": folder.name})

    async def _ask(self, one: Try) -> Said:
        self.asked.append(one.item.id)
        if len(self.asked) == self._dies_at:
            raise EngineDied("it died")
        return Said(one.item.reference if self._knows(one) else "Answer: none", 0.25, 10)


async def steps(contest: Contest, one: Model, other: Model) -> list[Step]:
    return [step async for step in ask_both(contest, one.contestant, other.contestant, clock=lambda: 0.0)]


def always(_one: Try) -> bool:
    return True


def sums_never(one: Try) -> bool:
    return one.item.domain.name != "arithmetic"


async def test_a_clear_winner_ends_the_fresh_problems_early_and_then_the_suite_is_asked(tmp_path: Path):
    weak, strong = Model(sums_never, tmp_path / "a"), Model(always, tmp_path / "b")
    contest = Contest(FRESH, SUITE, Limits())
    told = await steps(contest, weak, strong)
    outcome = outcome_of(contest, weak.contestant, strong.contestant)
    assert weak.asked == strong.asked
    assert len(outcome.fresh) == 2 * BLOCK
    assert len(outcome.suite) == len(SUITE)
    assert told[-1].decision.at_pair is not None
    assert judge(outcome.pairs(outcome.fresh), outcome.pairs(outcome.suite)).verdict is Verdict.PROMOTE

    again = Model(sums_never, tmp_path / "a"), Model(always, tmp_path / "b")
    await steps(contest, *again)
    assert not again[0].asked
    assert not again[1].asked


async def test_a_clear_loser_is_not_asked_the_suite_unless_everything_is_wanted(tmp_path: Path):
    strong, weak = Model(always, tmp_path / "a"), Model(sums_never, tmp_path / "b")
    await steps(Contest(FRESH, SUITE, Limits()), strong, weak)
    assert len(weak.asked) == BLOCK
    await steps(Contest(FRESH, SUITE, Limits(), everything=True), strong, weak)
    assert len(weak.asked) == len(FRESH) + len(SUITE)


async def test_a_reply_that_failed_is_not_scored_and_is_asked_again_the_next_time(tmp_path: Path):
    one, other = Model(always, tmp_path / "a"), Model(always, tmp_path / "b", dies_at=3)
    contest = Contest(FRESH[:10], SUITE[:10], Limits())
    await steps(contest, one, other)
    outcome = outcome_of(contest, one.contestant, other.contestant)
    assert [pair.challenger for pair in outcome.pairs(outcome.fresh)].count(None) == 1
    again = Model(always, tmp_path / "b")
    await steps(contest, one, again)
    assert len(again.asked) == 1


def told_of(contest: Contest, one: Model, other: Model) -> dict[str, Any]:
    outcome = outcome_of(contest, one.contestant, other.contestant)
    decision = judge(outcome.pairs(outcome.fresh), outcome.pairs(outcome.suite), contest.limits)
    sides = Side("base"), Side("tuned|[x](y)")
    costs = (
        cost(list(outcome.champion.values()), 2**20, None),
        cost(list(outcome.challenger.values()), None, 9),
    )
    asked = {"domains": ["arithmetic"], "levels": [1], "seed": 1, "suite": "mine"}
    told = report(sides, outcome, decision, costs, planned=len(contest.fresh), asked=asked)
    return told | {"evidence": "ab" * 32}


async def test_the_report_tells_shares_differences_examples_and_cost(tmp_path: Path):
    half = {one.id for one in FRESH[::2]}
    one, other = Model(lambda one: one.item.id in half, tmp_path / "a"), Model(always, tmp_path / "b")
    contest = Contest(FRESH, SUITE, Limits(), everything=True)
    await steps(contest, one, other)
    told = told_of(contest, one, other)
    (whole,) = [row for row in told["differences"] if row["level"] is None]
    assert (whole["baseline"], whole["tuned"], whole["difference"]) == (0.5, 1.0, 0.5)
    assert whole["low"] < 0.5 < whole["high"]
    assert (whole["won"], whole["lost"]) == (30, 0)
    assert whole["cohens_h"] > 1.5
    assert [row["won"] for row in told["suite"]] == [70]
    assert len(told["won"]) == 5
    assert not told["lost"]
    assert told["won"][0]["baseline"] == "Answer: none"
    assert told["baseline"]["cost"]["tokens_per_second"] == 40.0
    assert told["baseline"]["cost"]["peak_bytes"] is None
    assert not told["stopped_early"]
    assert table(told["differences"])[0][3:6] == ("50.0 %", "100.0 %", "+50.0")


async def test_markdown_and_page_show_what_models_said_and_follow_none_of_it(tmp_path: Path):
    weak, strong = Model(sums_never, tmp_path / "a"), Model(always, tmp_path / "b")
    contest = Contest(FRESH, SUITE, Limits())
    await steps(contest, weak, strong)
    told = told_of(contest, weak, strong)
    told["won"][0]["tuned"] = "<script>x</script> | [click](http://x)\nsecond"
    text, page = words.markdown(told), words.page(told, [0.5, 1.5, 2.5])
    assert text.startswith("## PROMOTE: tuned|\\[x](y) in the place of base")
    assert "&lt;script&gt;x&lt;/script&gt; \\| \\[click](http://x)<br>second" in text
    assert "<script" not in page
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 3
    for one in drawings:
        ElementTree.fromstring(one)
    assert "Decided after" in page
