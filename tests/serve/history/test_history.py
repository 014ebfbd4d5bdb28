"""From an answer and what is said of it to what is known of its students, over a real store."""

import asyncio
from dataclasses import replace

import pytest
from tests.serve.briefs import student

from studium.config.schema import StoreConfig
from studium.errors import BadRequest
from studium.records.answers import Answer, AnswerStatus, Complexity, Fate, MemberReply, Part, Query
from studium.records.grades import WHOLE, Feedback, Rating
from studium.records.messages import Message
from studium.serve.history.history import CALIBRATING, History, UnknownAnswer
from studium.store import open_store

STUDENTS = {name: student(name) for name in "abc"}
SUM = "What is 47 + 58?"


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "state.db")
    yield store
    store.close()


def asked(question: str = SUM, **more) -> Query:
    return replace(Query(messages=(Message("user", question),), request_id="r1"), **more)


def reply(name: str, answer: str | None, fate: Fate = Fate.ANSWERED, **more) -> MemberReply:
    return MemberReply(
        name, fate, text=f"Answer: {answer}" if answer else "", answer=answer, confidence=0.9, **more
    )


def answered(*members: MemberReply, domain: str = "arithmetic", **more) -> Answer:
    first = members[0]
    plain = Answer(
        first.text, AnswerStatus.ANSWERED, "committee", Complexity.SIMPLE, first.student, 1.0, 0.8, members, 0.1, 1, 1,
        answer=first.answer, domain=domain, kind=domain,
    )  # fmt: skip
    return replace(plain, **more)


def learned(store, query: Query, answer: Answer, keeping: StoreConfig | None = None) -> History:
    history = History(store, STUDENTS, keeping)
    history.answered(query, answer)
    asyncio.run(history.catch_up())
    store.flush()
    history.refresh()
    return history


def share(history: History, name: str, kind: str = "arithmetic") -> float:
    return history.known(STUDENTS[name], kind).reliability


def grades(history: History, name: str, kind: str = "arithmetic") -> float:
    return history.known(STUDENTS[name], kind).evidence


def say(rating: Rating, correction: str = "", key_name: str = "", request: str = "r1") -> Feedback:
    return Feedback(request, 1.0, rating, key_name, correction)


OPEN = answered(reply("a", "hamlet"), reply("b", "faust"), domain="open question", kind="cluster-1")


def test_what_a_domain_can_check_is_learned_from_without_being_told(store):
    declined = reply("c", None, Fate.ABSTAINED)
    history = learned(store, asked(), answered(reply("a", "105"), reply("b", "106"), declined))
    assert share(history, "a") > 0.5 > share(history, "b")
    assert share(history, "c") < 0.5
    assert history.calibration.pairs == 1


def test_tries_of_one_student_in_ordinary_traffic_tell_how_much_it_repeats_itself(store):
    again = [reply("a", "106"), reply("b", "105"), reply("a", "106", sample=1)]
    history = History(store, STUDENTS)
    assert history.known(STUDENTS["a"], "arithmetic").echo is None
    for number in range(30):
        one = answered(*again) if number % 2 else answered(reply("a", "105"), reply("a", "105", sample=1))
        history.answered(replace(asked(), request_id=f"r{number}"), one)
    asyncio.run(history.catch_up())
    echo = history.known(STUDENTS["a"], "arithmetic").echo
    assert echo is not None and echo > 0.6
    assert history.known(STUDENTS["b"], "arithmetic").echo is None
    later = History(store, STUDENTS).known(STUDENTS["a"], "arithmetic").echo
    assert later == pytest.approx(echo)


def test_what_students_have_in_common_is_learned_only_where_all_were_asked_in_any_case(store):
    both = [answered(reply("a", "105"), reply("b", "105")), answered(reply("a", "106"), reply("b", "106"))]
    history = History(store, STUDENTS)
    before = history.in_common(list(STUDENTS.values()), "arithmetic", 10.0)
    for strategy in ("committee", "everyone"):
        for number in range(40):
            query = replace(asked(), request_id=f"{strategy}{number}")
            history.answered(query, replace(both[number % 2], strategy=strategy))
        asyncio.run(history.catch_up())
        found = history.in_common(list(STUDENTS.values()), "arithmetic", 10.0)
        assert (found == before) is (strategy == "committee")
    assert found.commons > 0.5
    assert found.wrong_answers < 5.0
    assert history.in_common(list(STUDENTS.values()), "algebra", 10.0) == before


def test_who_failed_or_spoke_after_others_is_not_graded(store):
    late, moved = reply("b", "105", Fate.LATE), reply("c", "105", part=Part.REVISION)
    history = learned(store, asked(), answered(reply("a", "105"), late, moved))
    assert [grades(history, name) for name in "abc"] == [1.0, 0.0, 0.0]


def test_an_open_question_teaches_nothing_by_itself(store):
    history = learned(store, asked("Who wrote it?"), OPEN)
    assert grades(history, "a", "cluster-1") == 0.0


def test_bad_is_held_against_those_who_said_it_and_nobody_else(store):
    history = learned(store, asked("Who wrote it?"), OPEN)
    told = history.rate(say(Rating.BAD))
    assert (told["kind"], told["grades"]) == ("cluster-1", {"a": 0.0})
    assert share(history, "a", "cluster-1") < 0.5
    assert grades(history, "b", "cluster-1") == 0.0


def test_good_counts_against_another_answer_only_where_answers_can_be_compared(store):
    history = learned(store, asked("Who wrote it?"), OPEN)
    assert history.rate(say(Rating.GOOD))["grades"] == {"a": 1.0}
    comparable = answered(reply("a", "105"), reply("b", "0106"))
    history = learned(store, asked("sum it", request_id="r2"), comparable)
    assert history.rate(say(Rating.GOOD, request="r2"))["grades"] == {"a": 1.0, "b": 0.0}


def test_a_correction_is_compared_with_what_each_said(store):
    history = learned(
        store, asked("sum it"), answered(reply("a", "105"), reply("b", "106"), reply("c", "0105"))
    )
    told = history.rate(say(Rating.CORRECTED, "It is\nAnswer: 106"))
    assert told["grades"] == {"a": 0.0, "b": 1.0, "c": 0.0}
    assert told["comparable"]


def test_a_correction_in_free_words_is_kept_and_grades_nobody(store):
    history = learned(store, asked("Who wrote it?"), OPEN)
    told = history.rate(say(Rating.CORRECTED, "Shakespeare, probably"))
    assert (told["grades"], told["comparable"]) == ({}, False)


def test_feedback_given_twice_counts_once_as_it_was_said_last(store):
    history = learned(store, asked("Who wrote it?"), OPEN)
    for rating in (Rating.BAD, Rating.BAD, Rating.GOOD):
        history.rate(say(rating))
    assert grades(history, "a", "cluster-1") == pytest.approx(1.0)
    assert share(history, "a", "cluster-1") > 0.5


def test_nobody_rates_an_answer_that_is_not_theirs_or_not_there(store):
    history = learned(store, asked(api_key_name="key:1"), answered(reply("a", "105")))
    for feedback in (say(Rating.GOOD), say(Rating.GOOD, request="r9", key_name="key:1")):
        with pytest.raises(UnknownAnswer) as refused:
            history.rate(feedback)
        assert refused.value.expected and refused.value.try_next
    assert history.rate(say(Rating.GOOD, key_name="key:1"))["grades"] == {"a": 1.0}


@pytest.mark.parametrize("feedback", [say(Rating.CORRECTED), say(Rating.GOOD, "106")])
def test_a_correction_belongs_to_corrected_and_only_there(store, feedback):
    history = learned(store, asked(), answered(reply("a", "105")))
    with pytest.raises(BadRequest):
        history.rate(feedback)


def test_where_no_questions_are_kept_grades_are_learned_and_nothing_is_written(store):
    history = learned(
        store, asked("What is 1234 + 4321?"), answered(reply("a", "5555")), StoreConfig(keep_questions=False)
    )
    assert grades(history, "a") == 1.0
    assert store.answers.find("r1", "") is None
    with pytest.raises(BadRequest, match="no questions are kept"):
        history.rate(say(Rating.GOOD))


@pytest.mark.parametrize(
    "keeping",
    [StoreConfig(keep_answers_s=0.0), StoreConfig(max_answers_bytes=0), StoreConfig(keep_questions=False)],
)
def test_answers_are_kept_no_longer_and_no_more_than_allowed(store, keeping):
    learned(store, asked(), answered(reply("a", "105")))
    assert store.answers.find("r1", "") is not None
    after = History(store, STUDENTS, keeping)
    after.tidy()
    assert store.answers.find("r1", "") is None
    assert grades(after, "a") == 1.0


def test_what_was_learned_is_there_after_a_restart(store):
    before = learned(store, asked(), answered(reply("a", "105"), reply("b", "106")))
    after = History(store, STUDENTS)
    assert share(after, "a") == share(before, "a") > 0.5
    assert after.kind("Who wrote it?", "") == "cluster-1"


def test_a_changed_prompt_is_another_student(store):
    history = learned(store, asked(), answered(reply("a", "105")))
    changed = History(store, {**STUDENTS, "a": replace(STUDENTS["a"], system_prompt="Think.")})
    assert changed.models["a"] != history.models["a"]
    assert changed.models["b"] == history.models["b"]


def test_an_answer_from_the_cache_is_not_counted_again_but_can_be_rated(store):
    computed = answered(reply("a", "105"), notes={"cache": {"hit": None, "kept": True}})
    history = learned(store, asked(), computed)
    before = grades(history, "a")
    again = answered(reply("a", "105"), notes={"cache": {"hit": "exact", "of": "r1"}})
    history = learned(store, asked(request_id="r2", api_key_name="key:2"), replace(again, members=()))
    assert grades(history, "a") == before == 1.0
    assert history.rate(say(Rating.BAD, key_name="key:2", request="r2"))["grades"] == {"a": 0.0}


def test_what_calibration_asks_is_graded_by_itself_alone(store):
    own = asked(request_id=f"{CALIBRATING}1")
    assert grades(learned(store, own, answered(reply("a", "105"))), "a") == 0.0


def test_a_judge_that_decided_is_heard_at_half_weight_and_not_on_itself(store):
    ranking = [{"student": "a", "score": 1.0}, {"student": "b", "score": 0.5}, {"student": "c", "score": 0.0}]
    note = {"judge": {"judge": "c", "ranking": ranking, "decided": True}}
    judged = replace(OPEN, members=(*OPEN.members, reply("c", "lear")), notes=note)
    history = learned(store, asked("Who wrote it?"), judged)
    assert [grades(history, name, "cluster-1") for name in "abc"] == [0.5, 0.5, 0.0]


def test_confidence_is_learned_as_computed_not_as_calibrated(store):
    history = History(store, STUDENTS)
    for number in range(60):
        query = asked(request_id=f"r{number}")
        told = history.calibrated(0.7, "arithmetic")
        history.answered(query, answered(reply("a", "105"), confidence=told))
        asyncio.run(history.catch_up())
        store.flush()
    history.refresh()
    said = [confidence for confidence, _ in store.grades.confidences(WHOLE)]
    assert said == pytest.approx([0.7] * 60)
    assert history.calibrated(0.7, "arithmetic") > 0.85
    # What is right about sums says nothing of poems.
    assert history.calibrated(0.7, "cluster-1") == 0.7


async def test_an_embedding_that_fails_is_done_without(store):
    async def broken(_question: str) -> list[float]:
        raise TimeoutError

    history = History(store, STUDENTS, embed=broken)
    history.answered(asked("Who wrote it?"), OPEN)
    await history.catch_up()
    assert set(history.kinds.clusters) == {"cluster-1"}
