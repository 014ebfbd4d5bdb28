"""A draft, an oracle, an arbiter: who is asked, whose text stands, and what is kept of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tests.serve.briefs import brief, student
from tests.serve.test_ensemble import ask, ensemble

from studium.engines.scripted import says
from studium.records.answers import Fate, MemberReply, Part
from studium.records.examples import Example, Terms
from studium.serve.calls import Batch, Strategy, Verdict
from studium.serve.refining.provenance import Said, provenance
from studium.serve.refining.refinement import Refiners, refined
from studium.serve.refining.refining import Refining
from studium.serve.strategies.committee import committee
from studium.serve.team.team import Parts

ORACLE, ARBITER = student("O"), student("R")


def play(strategy: Strategy, says: Mapping[str, str | Fate]) -> tuple[Verdict, list[str], list[str]]:
    """Carry a strategy out by a table; return its verdict, who was asked, and what refiners were told."""
    asked: list[str] = []
    told: list[str] = []
    try:
        batch: Batch = next(strategy)
        while True:
            assert not batch.live, "a text that may be changed must not be passed on"
            got: list[MemberReply] = []
            for call in batch.calls:
                said = says[call.student.name]
                asked.append(call.student.name)
                if call.ask is not None:
                    told.append(call.ask.messages[-1].content)
                if isinstance(said, Fate):
                    got.append(MemberReply(call.student.name, said, part=call.part))
                else:
                    got.append(
                        MemberReply(call.student.name, Fate.ANSWERED, text=said, answer=said, part=call.part)
                    )
            batch = strategy.send(got)
    except StopIteration as end:
        return end.value, asked, told


def run(says: Mapping[str, str | Fate], refiners: Refiners) -> tuple[Verdict, list[str], list[str]]:
    question = replace(brief("ab", also="OR"), recognised=False)
    return play(refined(committee(question), question, refiners), says)


def test_a_sound_answer_goes_to_nobody():
    verdict, asked, _ = run({"a": "4", "b": "4"}, Refiners(ORACLE, ARBITER, doubt_below=0.1))
    assert asked == ["a", "b"]
    assert verdict.text is None


def test_the_oracle_sees_the_drafts_without_names_and_the_arbiter_is_left_in_peace():
    verdict, asked, told = run(
        {"a": "It is 4.", "b": "It is 5.", "O": "It is 4 indeed."}, Refiners(ORACLE, ARBITER, always=True)
    )
    assert asked == ["a", "b", "O"]
    assert verdict.text == "It is 4 indeed."
    assert "refined" in verdict.flags
    assert "It is 4." in told[0] and "It is 5." in told[0]
    assert "draft 1" in told[0]
    assert "What is 2 + 2?" in told[0]


def test_an_oracle_that_doubts_itself_is_followed_by_the_arbiter():
    says = {"a": "4", "b": "4", "O": "I am not sure, perhaps 5.", "R": "4, by counting."}
    verdict, asked, told = run(says, Refiners(ORACLE, ARBITER, always=True))
    assert asked == ["a", "b", "O", "R"]
    assert verdict.text == "4, by counting."
    steps = verdict.notes["refinement"]["steps"]
    assert [(step["part"], bool(step["falls_short"])) for step in steps] == [
        ("oracle", True),
        ("arbiter", False),
    ]
    assert "perhaps 5" in told[1]


def test_the_arbiter_can_be_forced_and_then_the_oracle_is_not_paid_for():
    says = {"a": "4", "b": "4", "R": "4."}
    _, asked, _ = run(says, Refiners(ORACLE, ARBITER, force_arbiter=True))
    assert asked == ["a", "b", "R"]


def test_refiners_that_fail_leave_the_draft_and_say_so():
    says: dict[str, str | Fate] = {"a": "4", "b": "4", "O": Fate.FAILED, "R": Fate.LATE}
    verdict, _, _ = run(says, Refiners(ORACLE, ARBITER, always=True))
    assert verdict.winner is not None and verdict.winner.answer == "4"
    assert "not_refined" in verdict.flags
    assert verdict.notes["refinement"]["platinum"] is False


def test_every_statement_is_led_back_to_who_said_it():
    drafts = [Said("a", "Water boils at 100 degrees. Ice is warm."), Said("b", "Ice is cold and hard.")]
    final = Said("O", "Water boils at 100 degrees. Ice is cold and very hard.\nSteam is a gas.", 0.02, 3.0)
    claims = provenance(final, drafts)
    assert [(claim.said_by, claim.changed_by) for claim in claims] == [("a", ()), ("b", ("O",)), ("O", ())]
    assert [claim.cost_usd for claim in claims] == [0.0, 0.02, 0.02]


async def refined_example(terms: Mapping[str, Terms]) -> tuple[Sequence[Example], object]:
    kept: list[Example] = []

    def keep(example: Example) -> int:
        kept.append(example)
        return len(kept)

    refining = Refining("always", terms=lambda one: terms.get(one.name, Terms()), log=keep)
    models = {
        "a": says("Answer: Saturn"),
        "b": says("Answer: Saturn"),
        "o": says("Jupiter is the largest.\nAnswer: Jupiter"),
    }
    async with ensemble(models, parts=Parts(oracle="o"), refining=refining) as team:
        answer = await team.answer(ask())
    return kept, answer


async def test_a_refined_answer_is_kept_and_may_train_only_where_everyone_allows_it():
    free = Terms("Apache-2.0", True, "ours")
    kept, answer = await refined_example(
        {"a": free, "b": free, "o": Terms("terms of service", False, "endpoint")}
    )
    (example,) = kept
    assert (example.draft, example.text) == ("Answer: Saturn", "Jupiter is the largest.\nAnswer: Jupiter")
    assert (example.draft_by in "ab", example.refined_by) == (True, "o")
    assert not example.trainable
    assert {claim.said_by for claim in example.claims} >= {"o"}
    assert answer.notes["refinement"]["example"] == 1  # type: ignore[attr-defined]
    kept, _ = await refined_example({"a": free, "b": free, "o": free})
    assert kept[0].trainable
    assert all(member["part"] in (Part.MEMBER, Part.ORACLE) for member in kept[0].members)


def test_a_result_that_falls_short_leaves_a_sound_draft_in_its_place():
    says = {"a": "4", "b": "4", "O": "I'm not sure, maybe 5.", "R": "I cannot answer that."}
    verdict, asked, _ = run(says, Refiners(ORACLE, ARBITER, always=True))
    assert asked == ["a", "b", "O", "R"]
    assert verdict.winner is not None and (verdict.text, verdict.winner.answer) == (None, "4")
    assert "not_refined" in verdict.flags


def test_where_there_is_no_draft_a_doubtful_result_is_better_than_none_and_says_so():
    says: dict[str, str | Fate] = {"a": Fate.ABSTAINED, "b": Fate.FAILED, "O": "I'm not sure, maybe 5."}
    verdict, _, _ = run(says, Refiners(ORACLE, None))
    assert verdict.text == "I'm not sure, maybe 5."
    assert {"refined", "doubtful"} <= set(verdict.flags)


def test_what_the_domain_can_check_is_checked():
    sums = brief("ab", also="OR", check=lambda question, reply: float(reply.endswith("4")))
    says = {"a": "5", "b": "5", "O": "5", "R": "4"}
    verdict, asked, _ = play(refined(committee(sums), sums, Refiners(ORACLE, ARBITER, always=True)), says)
    assert asked[-2:] == ["O", "R"]
    assert verdict.text == "4"
    assert verdict.notes["refinement"]["steps"][0]["falls_short"] == "sums finds it wrong"
    assert verdict.notes["refinement"]["score"] == 1.0


def test_the_judge_may_prefer_the_draft():
    judged = replace(brief("ab", also="ORJ"), recognised=False, judge=student("J"))
    says: dict[str, str | Fate] = {"a": "Long and good.", "b": "Long and good.", "O": "Bad."}

    def verdict_of(order: Sequence[str]) -> str:
        return "A" if "good" in order[0] else "B"

    strategy = refined(committee(judged), judged, Refiners(ORACLE, None, always=True))
    batch, replies, parts = next(strategy), list[MemberReply](), list[Part]()
    try:
        while True:
            replies = []
            for call in batch.calls:
                parts.append(call.part)
                if call.part is Part.JUDGE:
                    assert call.ask is not None
                    shown = call.ask.messages[-1].content
                    said = verdict_of(sorted(("good", "Bad"), key=shown.index))
                    replies.append(
                        MemberReply(
                            "J",
                            Fate.ANSWERED,
                            text=said,
                            answer=call.extract and call.extract(said),
                            part=call.part,
                        )
                    )
                else:
                    text = str(says[call.student.name])
                    replies.append(
                        MemberReply(call.student.name, Fate.ANSWERED, text=text, answer=text, part=call.part)
                    )
            batch = strategy.send(replies)
    except StopIteration as end:
        verdict: Verdict = end.value
    assert parts.count(Part.JUDGE) == 2
    assert "not_refined" in verdict.flags
    assert verdict.notes["refinement"]["steps"][0]["falls_short"] == "J judges the draft better"
