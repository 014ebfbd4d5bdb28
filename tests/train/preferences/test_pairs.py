"""Pairs and thumbs: read and written, made from a model's replies, linted, and taken from feedback."""

from dataclasses import replace
from pathlib import Path
from random import Random

import orjson
import pytest

from studium.errors import BadRequest, ConfigurationError
from studium.records.grades import Feedback, Grade, GradeSource, KeptAnswer, KeptMember, Rating
from studium.store import open_store
from studium.store.grades import feedback_key
from studium.train.config import Source
from studium.train.data import rows_of
from studium.train.preferences.feedback import from_feedback
from studium.train.preferences.lint import (
    length_effect,
    lint_pairs,
    lint_thumbs,
    near_duplicates,
    refuse_gross,
)
from studium.train.preferences.maker import Making, best_pair, make
from studium.train.preferences.pairs import Pair, Thumb, read_pairs, read_thumbs, write_pairs, write_thumbs
from studium.train.rl.rollouts import Group
from studium.train.rl.samplers import Draw
from studium.train.rows import Row, asked

STEPS = Source(domain="arithmetic", rows=4, levels=(1,), teach="steps")


def pair(number: int, chosen: str, rejected: str, prompt: str = "", **changed) -> Pair:
    return Pair(Row(f"row {number}", asked(prompt or f"question {number}"), chosen), rejected, **changed)


def varied(count: int = 40) -> list[Pair]:
    """Return pairs without any fault."""
    rng = Random(1)
    words = [f"w{at}" for at in range(500)]
    return [
        pair(at, " ".join(rng.choices(words, k=12)), " ".join(rng.choices(words, k=12)), margin=1.0)
        for at in range(count)
    ]


def kinds(pairs: list[Pair]) -> dict[str, bool]:
    return {fault.kind: fault.gross for fault in lint_pairs(pairs).faults}


def test_pairs_are_read_as_they_were_written(tmp_path):
    rows = rows_of((STEPS,))
    made = [
        Pair(row, "no\n", rejected_ends=False, margin=0.5) if row.step else Pair(row, "no") for row in rows
    ]
    write_pairs(made, tmp_path / "pairs.jsonl")
    assert read_pairs((Source(file=str(tmp_path / "pairs.jsonl")),)) == made


def test_thumbs_are_read_as_they_were_written_and_pairs_count_as_two(tmp_path):
    thumbs = [Thumb(row, good=at % 2 == 0) for at, row in enumerate(rows_of((STEPS,)))]
    write_thumbs(thumbs, tmp_path / "thumbs.jsonl")
    assert read_thumbs((Source(file=str(tmp_path / "thumbs.jsonl")),)) == thumbs
    write_pairs([pair(1, "yes", "no")], tmp_path / "pairs.jsonl")
    both = read_thumbs((Source(file=str(tmp_path / "pairs.jsonl")),))
    assert [(one.row.completion, one.good) for one in both] == [("yes", True), ("no", False)]


def test_as_rows_a_pair_is_its_chosen_reply_and_a_thumb_down_is_none(tmp_path):
    write_pairs([pair(1, "yes", "no")], tmp_path / "pairs.jsonl")
    assert [row.completion for row in rows_of((Source(file=str(tmp_path / "pairs.jsonl")),))] == ["yes"]
    thumbs = [Thumb(pair(at, f"reply {at}", "").row, good=at == 1) for at in range(3)]
    write_thumbs(thumbs, tmp_path / "thumbs.jsonl")
    assert [row.completion for row in rows_of((Source(file=str(tmp_path / "thumbs.jsonl")),))] == ["reply 1"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"prompt": "a", "chosen": "b"}, r"pairs.jsonl:2: no pair of replies"),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, r"pairs.jsonl:2: no pair of replies"),
        ({"chosen": "b", "rejected": "c"}, r"pairs.jsonl:2: 'None' is no text"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "margin": "much"}, r"pairs.jsonl:2: margin 'much'"),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c", "choosen": "d"},
            r"pairs.jsonl:2: unknown key 'choosen'",
        ),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c", "weight": 2},
            r"pairs.jsonl:2: a pair has no weight",
        ),
    ],
)
def test_a_fault_in_a_file_names_its_line(tmp_path, line, says):
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    (tmp_path / "pairs.jsonl").write_bytes(orjson.dumps(good) + b"\n" + orjson.dumps(line))
    with pytest.raises(BadRequest, match=says):
        read_pairs((Source(file=str(tmp_path / "pairs.jsonl")),))


def test_pairs_do_not_come_from_a_domain():
    with pytest.raises(BadRequest, match="come from a file, not from arithmetic"):
        read_pairs((Source(domain="arithmetic"),))


def test_pairs_without_a_fault_have_none():
    assert lint_pairs(varied()).faults == []


def test_every_gross_fault_is_found_and_names_its_rows():
    good = varied()
    one = good[3]
    assert kinds([*good, pair(90, "same", "same")]) == {"identical": True}
    assert kinds([*good, pair(90, " ", "no")])["empty"] is True
    assert kinds([*good, pair(90, one.rejected, one.chosen, "question 3")])["both-ways"] is True
    assert kinds([replace(one, margin=0.0) for one in good]) == {"no-margin": True}
    [fault] = lint_pairs([*good, pair(90, "same", "same")]).gross
    assert fault.rows == ["row 90"]
    with pytest.raises(ConfigurationError, match=r"identical: 1 pairs of equal replies \(row 90\)"):
        refuse_gross(lint_pairs([*good, pair(90, "same", "same")]), ())
    refuse_gross(lint_pairs([*good, pair(90, "same", "same")]), ("identical",))


def test_a_chosen_reply_that_is_verified_to_be_worse_is_found_whole_or_as_a_step():
    whole = rows_of((replace(STEPS, teach="solutions"),))
    right = [Pair(row, "Answer: 1000001") for row in whole]
    turned = [Pair(replace(one.row, completion=one.rejected), one.chosen) for one in right]
    assert "wrong-way" not in kinds(right)
    assert kinds(turned)["wrong-way"] is True
    steps = [Pair(row, "nonsense\n", rejected_ends=row.ends) for row in rows_of((STEPS,))]
    turned = [Pair(replace(one.row, completion=one.rejected), one.chosen) for one in steps]
    assert "wrong-way" not in kinds(steps)
    assert kinds(turned)["wrong-way"] is True


def test_a_prompt_copied_into_chosen_replies_only_is_gross_and_into_both_is_not():
    leaked = [
        replace(one, row=replace(one.row, messages=asked(long), completion=f"{long} {one.chosen}"))
        for one in varied()
        for long in [f"a question of some length, number {one.row.id}"]
    ]
    assert kinds(leaked)["prompt-leak"] is True
    both = [replace(one, rejected=f"{one.row.messages[0].content} {one.rejected}") for one in leaked]
    assert kinds(both)["prompt-leak"] is False


def test_a_length_that_gives_the_answer_away_is_gross_and_a_small_one_is_said():
    long = [replace(one, rejected=one.rejected[:20]) for one in varied()]
    assert kinds(long)["length-bias"] is True
    slight = [
        replace(one, rejected=one.rejected[:-3]) if int(one.row.id[4:]) % 20 == 0 else one
        for one in varied(400)
    ]
    assert "length-bias" not in kinds(slight)


def test_the_effect_of_length_is_cohens_d_on_the_pooled_spread():
    """By hand: means 13 and 10, variances 2 and 2, so d = 3 / sqrt(2)."""
    effect = length_effect([(11, 8), (13, 10), (15, 12), (13, 10)])
    assert effect is not None
    assert effect.value == pytest.approx(3 / 2**0.5)
    assert length_effect([(3, 1)]) is None
    assert length_effect([(3, 1), (3, 1)]).value == float("inf")


def test_near_duplicates_are_those_a_slow_comparison_finds():
    rng = Random(5)
    words = [f"w{at}" for at in range(300)]
    texts = [" ".join(rng.choices(words, k=60)) for _ in range(40)]
    texts += [text.rsplit(" ", 1)[0] for text in texts[:5]]

    def shingles(text: str) -> set[str]:
        parts = text.split()
        return {" ".join(parts[at : at + 5]) for at in range(len(parts) - 4)}

    slow = [
        at
        for at, text in enumerate(texts)
        if any(
            len(shingles(text) & shingles(other)) >= 0.9 * len(shingles(text) | shingles(other))
            for other in texts[:at]
        )
    ]
    assert near_duplicates(texts) == slow == [40, 41, 42, 43, 44]


def test_thumbs_of_one_kind_and_thumbs_both_ways_are_refused():
    rows = [one.row for one in varied(8)]
    assert [fault.kind for fault in lint_thumbs([Thumb(row, good=True) for row in rows]).gross] == [
        "one-kind"
    ]
    both = [Thumb(rows[0], good=True), Thumb(rows[0], good=False), Thumb(rows[1], good=True)]
    assert "both-ways" in [fault.kind for fault in lint_thumbs(both).gross]
    uneven = [Thumb(row, good=at > 0) for at, row in enumerate(rows)]
    [advice] = lint_thumbs(uneven).faults
    assert (advice.kind, advice.gross, advice.try_next) == ("uneven", False, "set bad_weight: 7.0")


def group(*replies: tuple[str, float], step: int | None = None) -> Group:
    row = Row("row", asked("question"), step=step)
    draws = [Draw((1,), (), True) for _ in replies]
    return Group(row, (1,), draws, [text for text, _ in replies], [score for _, score in replies])


def test_a_pair_is_the_best_against_a_worse_one_closest_in_length():
    found = best_pair(
        group(("long and right", 1.0), ("wrong", 0.0), ("right", 1.0), ("rather wrong", 0.0)), 0.5
    )
    assert found is not None
    assert (found.chosen, found.rejected, found.margin) == ("right", "wrong", 1.0)


def test_replies_that_are_about_as_good_make_no_pair():
    assert best_pair(group(("a", 1.0), ("b", 1.0)), 0.5) is None
    assert best_pair(group(("a", 1.0), ("b", 0.6)), 0.5) is None
    assert best_pair(group(("same", 1.0), ("same", 0.0)), 0.5) is None
    assert best_pair(group(), 0.5) is None
    assert best_pair(group(("a", 0.3), ("b", 0.3)), 0.0) is None


def test_a_reply_without_a_word_is_in_no_pair():
    """No run takes such a row: pairs that a command had just made were refused by the next one."""
    assert best_pair(group(("", 1.0), ("a", 0.0)), 0.5) is None
    assert best_pair(group(("a", 1.0), ("\n", 0.0)), 0.5) is None


def test_a_step_that_its_line_ended_goes_on():
    found = best_pair(group(("1+1=2\n", 1.0), ("Answer: 3", 0.0), step=0), 0.5)
    assert found is not None
    assert (found.row.ends, found.rejected_ends) == (False, True)


def test_made_pairs_are_right_over_wrong_as_the_domain_verifies_and_have_no_gross_fault():
    torch = pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")
    torch.set_num_threads(1)
    from studium.domains.catalogue import domain

    source = Source(domain="arithmetic", rows=24, levels=(1,), teach="prompts")
    made = make(Making("sprout", (source,), temperature=1.5, most_tokens=64))
    assert made.prompts == 24
    assert made.prompts == len(made.pairs) + made.tied + made.unscored
    assert made.pairs
    for one in made.pairs:
        assert one.row.problem is not None
        verify = domain("arithmetic").verify
        assert verify(one.row.problem, one.chosen) == 1.0
        assert verify(one.row.problem, one.rejected) == 0.0
    assert not [fault for fault in lint_pairs(made.pairs).gross if fault.kind != "length-bias"]
    with pytest.raises(ConfigurationError, match="all 'teach: prompts' or all"):
        make(Making("sprout", (source, replace(source, teach="step-prompts"))))


def kept(request_id: str, text: str, *members: tuple[str, str]) -> KeptAnswer:
    parts = tuple(KeptMember(name, "answered", said, said, None, 1.0) for name, said in members)
    return KeptAnswer(
        request_id, 1.0, "sums", "arithmetic", f"question {request_id}", text, text, "answered",
        "committee", "simple", "m", 1.0, 0.9, "", parts,
    )  # fmt: skip


def test_feedback_gives_pairs_from_corrections_and_from_students_it_told_apart(tmp_path):
    store = open_store(tmp_path / "state.db")
    store.answers.keep(kept("one", "Answer: 5"))
    store.answers.keep(kept("same", "2+2=4\nAnswer: 4"))
    store.answers.keep(replace(kept("unable", "I cannot answer that"), status="unable"))
    store.answers.keep(kept("two", "7", ("ann", "7"), ("bob", "8"), ("cy", "7")))
    store.answers.keep(kept("three", "9"))
    store.answers.keep(kept("unrated", "1"))
    store.flush()

    def said(request_id: str, rating: Rating, correction: str = "", **scores: float) -> None:
        grades = [
            Grade(
                1.0,
                request_id,
                name,
                "sums",
                GradeSource.FEEDBACK,
                score,
                key=feedback_key(request_id, "", name),
            )
            for name, score in scores.items()
        ]
        store.grades.add_feedback(Feedback(request_id, 2.0, rating, "", correction), grades)

    said("one", Rating.GOOD)
    said("one", Rating.CORRECTED, "Answer: 6")
    said("same", Rating.CORRECTED, "Answer: 4")
    said("unable", Rating.BAD)
    said("two", Rating.BAD, ann=0.0, bob=1.0, cy=0.0)
    said("three", Rating.GOOD)
    found = from_feedback(store)
    assert found.rated == 4
    assert [(one.row.messages[0].content, one.chosen, one.rejected) for one in found.pairs] == [
        ("question one", "Answer: 6", "Answer: 5"),
        ("question two", "8", "7"),
    ]
    assert [(one.row.completion, one.good) for one in found.thumbs] == [
        ("Answer: 5", False), ("Answer: 6", True), ("2+2=4\nAnswer: 4", True), ("7", False), ("9", True),
    ]  # fmt: skip
    assert from_feedback(store, domain="sorting").rated == 0
    store.close()


def test_feedback_that_was_taken_back_says_nothing_any_more(tmp_path):
    """A student graded wrong by a first word, and by a second no longer graded at all."""
    store = open_store(tmp_path / "state.db")
    store.answers.keep(kept("two", "7", ("ann", "7"), ("bob", "8")))
    grades = [
        Grade(1.0, "two", name, "sums", GradeSource.FEEDBACK, score, key=feedback_key("two", "", name))
        for name, score in (("ann", 0.0), ("bob", 1.0))
    ]
    store.grades.add_feedback(Feedback("two", 2.0, Rating.BAD, ""), grades)
    assert len(from_feedback(store).pairs) == 1
    store.grades.add_feedback(Feedback("two", 3.0, Rating.GOOD, ""), grades[:0])
    assert from_feedback(store).pairs == []
    assert [one.good for one in from_feedback(store).thumbs] == [True]
    store.close()


def test_every_line_of_a_file_is_read_unless_a_recipe_says_how_many(tmp_path: Path):
    """A limit of 512 that was meant for problems of a domain once cut files off without a word."""
    write_pairs(varied(600), tmp_path / "pairs.jsonl")
    assert len(read_pairs((Source(file=str(tmp_path / "pairs.jsonl"), rows=10),))) == 10
    assert len(read_pairs((Source(file=str(tmp_path / "pairs.jsonl")),))) == 600
