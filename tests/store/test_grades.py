"""Grades in a real store: what the counts say after any history, however and by whomever it was written."""

import time

import pytest

from studium.records.grades import Counts, Feedback, Grade, GradeSource, KeptAnswer, KeptMember, Rating
from studium.store import open_store
from studium.store.grades import WINDOW, feedback_key


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "state.db")
    yield store
    store.close()


def grade(
    score: float, *, student: str = "a", kind: str = "sums", key: str = "", weight: float = 1.0
) -> Grade:
    return Grade(time.time(), "r", student, kind, GradeSource.VERIFIER, score, weight, "m", 0.8, key)


def said(student: str, score: float, request: str = "r1", key_name: str = "") -> Grade:
    key = feedback_key(request, key_name, student)
    return Grade(time.time(), request, student, "sums", GradeSource.FEEDBACK, score, model="m", key=key)


def feedback(rating: Rating = Rating.GOOD, request: str = "r1", key_name: str = "") -> Feedback:
    return Feedback(request, time.time(), rating, key_name)


def counts(store) -> dict[str, Counts]:
    store.flush()
    store.grades.fold()
    return {one.student: one for one in store.grades.counts()}


def test_counts_are_those_of_adding_up_with_forgetting(store):
    scores = [1.0, 0.0, 0.5, 1.0, 1.0, 0.0] * 50
    store.grades.add(grade(score) for score in scores)
    right = wrong = 0.0
    for score in scores:
        right, wrong = right * (1 - 1 / WINDOW) + score, wrong * (1 - 1 / WINDOW) + 1 - score
    found = counts(store)["a"]
    assert (found.right, found.wrong) == (pytest.approx(right), pytest.approx(wrong))


def test_folding_in_pieces_or_twice_is_folding_once(store):
    for _ in range(4):
        store.grades.add([grade(1.0), grade(0.0, student="b")])
        before = counts(store)
        assert counts(store) == before
    assert before["a"].right == pytest.approx(sum((1 - 1 / WINDOW) ** n for n in range(4)))


def test_two_processes_fold_the_same_facts_without_counting_any_twice(store, tmp_path):
    other = open_store(tmp_path / "state.db")
    for _ in range(3):
        store.grades.add([grade(1.0)])
        other.grades.add([grade(1.0)])
        store.flush(), other.flush()
        store.grades.fold(), other.grades.fold()
    other.close()
    assert counts(store)["a"].total == pytest.approx(sum((1 - 1 / WINDOW) ** n for n in range(6)))


def test_an_improved_student_is_noticed(store):
    store.grades.add(grade(0.0) for _ in range(1000))
    assert counts(store)["a"].total == pytest.approx(WINDOW, rel=0.01)
    store.grades.add(grade(1.0) for _ in range(300))
    found = counts(store)["a"]
    assert found.right / found.total > 0.75


def test_a_grade_with_a_known_key_is_not_written_again(store):
    assert store.grades.add_new([grade(1.0, key="k1"), grade(0.0, key="k2")]) == 2
    assert store.grades.add_new([grade(1.0, key="k1"), grade(1.0, key="k3")]) == 1
    assert store.grades.scores("k") == {"k1": 1.0, "k2": 0.0, "k3": 1.0}


def test_feedback_said_again_replaces_what_it_did_before_exactly(store):
    store.grades.add_feedback(feedback(Rating.GOOD), [said("a", 1.0), said("b", 0.0)])
    store.grades.add([grade(1.0), grade(0.0), grade(1.0, student="b")])
    store.grades.add_feedback(feedback(Rating.BAD), [said("a", 0.0)])
    found = counts(store)
    fade = 1 - 1 / WINDOW
    # Of a: right, wrong, then the new 'wrong'; the first 'right' of the feedback is gone without a trace.
    assert found["a"].right == pytest.approx(fade**2)
    assert found["a"].wrong == pytest.approx(fade + 1)
    assert (found["b"].right, found["b"].wrong) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-12))


def test_feedback_of_different_callers_and_answers_adds_up(store):
    for request, key_name in [("r1", ""), ("r1", "key:1"), ("r2", "")]:
        told = [said("a", 1.0, request, key_name)]
        store.grades.add_feedback(feedback(Rating.GOOD, request, key_name), told)
    assert counts(store)["a"].right == pytest.approx(1 + 0.995 + 0.995**2)


def test_feedback_is_on_disk_when_it_is_acknowledged(store, tmp_path):
    store.grades.add_feedback(feedback(), [said("a", 1.0)])
    other = open_store(tmp_path / "state.db")  # another process would see the same
    assert counts(other)["a"].right == 1.0
    other.close()


def test_confidences_are_paired_with_the_newest_word_on_each_answer(store):
    store.grades.add([grade(1.0), grade(0.0, kind="poems"), grade(1.0, key="k")])
    store.flush()
    store.grades.add([grade(0.0, key="k"), grade(0.0, weight=0.0)])
    store.flush()
    assert store.grades.confidences("a") == [(0.8, 1.0), (0.8, 0.0), (0.8, 0.0)]
    assert store.grades.confidences("a", kinds=["poems"]) == [(0.8, 0.0)]
    assert store.grades.confidences("a", kinds=["poems"], others=True) == [(0.8, 1.0), (0.8, 0.0)]
    assert store.grades.confidences("nobody") == []


def test_old_facts_go_and_what_they_said_stays(store):
    store.grades.add(grade(1.0) for _ in range(50))
    before = counts(store)
    assert store.grades.tidy(most=10) == 40
    assert counts(store) == before


def kept(request: str, at: float, *, key_name: str = "", text: str = "105") -> KeptAnswer:
    member = KeptMember("a", "answered", "105", text, 0.9, 0.1, "m")
    return KeptAnswer(
        request, at, "sums", "arithmetic", "47 + 58?", text, "105", "answered", "single", "simple", "a", 1.0, 0.9,
        key_name, (member,),
    )  # fmt: skip


def test_an_answer_is_found_at_once_and_only_by_the_key_it_was_given_to(store):
    answer = kept("r1", 1.0, key_name="key:1")
    store.answers.keep(answer)
    assert store.answers.find("r1", "key:1") == answer
    assert store.answers.find("r1", "") is None
    assert store.answers.find("r2", "key:1") is None


def test_of_two_answers_of_one_id_the_newest_is_meant(store):
    store.answers.keep(kept("r1", 1.0, text="first"))
    store.answers.keep(kept("r1", 2.0, text="second"))
    found = store.answers.find("r1", "")
    assert found is not None and found.text == "second"


def test_answers_are_removed_by_age_and_then_by_size_the_oldest_first(store):
    for number in range(20):
        store.answers.keep(kept(f"r{number}", float(number), text="x" * 1000))
    store.flush()
    assert store.answers.tidy(before=5.0, most_bytes=1 << 30) == 5
    removed = store.answers.tidy(before=0.0, most_bytes=10_000)
    assert 0 < removed < 15
    assert store.answers.find("r19", "") is not None
    assert store.answers.find("r5", "") is None
    assert store.answers.tidy(before=0.0, most_bytes=10_000) == 0
