"""Topics: who works on what, what is asked, and the exact domains as topics."""

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from random import Random

import pytest

from studium.domains.catalogue import shipped_domains
from studium.domains.protocol import Problem, Split, split
from studium.domains.riemann.subjects import SUBJECTS, subject_of
from studium.domains.topic_catalogue import TOPICS, DomainTopic, all_topics, topic
from studium.domains.topics import Assignment, Topic
from studium.errors import CallerError, ConfigurationError

ROSTER = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")


def solved(made: DomainTopic, assignment: Assignment) -> str:
    facts = assignment.facts
    problem = Problem(
        made.name, facts["key"], assignment.prompt, tuple(facts["steps"]), facts["expected"], facts["level"]
    )
    return made.domain.solution(problem)


def test_riemann_and_every_exact_domain_are_topics():
    assert list(all_topics())[: 1 + len(shipped_domains())] == ["riemann", *shipped_domains()]
    assert topic("riemann").prefix == "rh"
    for name, found in all_topics().items():
        assert isinstance(found, Topic)
        assert found.name == name
        assert found.prefix.isidentifier()  # becomes the name of a folder


def test_an_unknown_topic_suggests_the_nearest():
    with pytest.raises(CallerError, match="did you mean 'riemann'"):
        topic("rieman")


def test_a_package_can_add_a_topic_and_a_broken_one_is_named():
    assert TOPICS.load(EntryPoint("rh", "studium.domains.riemann:Riemann", "")).name == "riemann"
    with pytest.raises(ConfigurationError, match="nowhere:Thing cannot be loaded"):
        TOPICS.load(EntryPoint("broken", "nowhere:Thing", ""))
    with pytest.raises(ConfigurationError, match="is no topic but a str"):
        TOPICS.load(EntryPoint("text", "studium.domains.answers:ABSTENTION", ""))


@pytest.mark.parametrize("name", ["riemann", *shipped_domains()])
def test_equal_arguments_give_equal_work_that_survives_a_restart(name: str):
    made = topic(name)
    for cycle in (1, 2, 3):
        known = ["zeta(3) ~ 1.20206", "zero(1) ~ 14.1347", "N(50) = 10"]
        one = made.assign("alpha", cycle, Random(cycle), known)
        other = made.assign("alpha", cycle, Random(cycle), known[::-1])
        assert one == other
        assert json.loads(json.dumps(dict(one.facts))) == dict(one.facts)


@pytest.mark.parametrize("name", list(shipped_domains()))
def test_an_exact_domain_asks_fresh_problems_and_knows_right_from_wrong(name: str):
    made = topic(name)
    assert isinstance(made, DomainTopic)
    levels = []
    for cycle in range(1, 5):
        assignment = made.assign("alpha", cycle, Random(cycle), ())
        facts = json.loads(json.dumps(dict(assignment.facts)))
        assignment = Assignment(assignment.subject, assignment.prompt, facts)
        levels.append(facts["level"])
        assert split(Problem(name, facts["key"], "", (), "", 1)) is Split.FRESH
        right = made.judge(assignment, solved(made, assignment), ())
        assert (right.score, right.useful, len(right.keys)) == (1.0, True, 1)
        again = made.judge(assignment, solved(made, assignment), right.keys)
        assert (again.score, again.useful, again.keys) == (1.0, False, right.keys)
        wrong = made.judge(assignment, "Answer: something else", ())
        assert (wrong.score, wrong.useful) == (0.0, False)
        declined = made.judge(assignment, "I cannot answer that.", ())
        assert (declined.score, declined.useful) == (None, False)
    assert levels == [made.domain.levels[at % len(made.domain.levels)] for at in range(4)]


def test_a_known_problem_is_not_given_again():
    made = topic("arithmetic")
    known: set[str] = set()
    for turn in range(40):
        assignment = made.assign("alpha", 1, Random(turn % 3), known)
        judged = made.judge(assignment, f"Answer: {assignment.facts['expected']}", known)
        assert judged.useful, "a problem that was solved before was given again"
        known.update(judged.keys)
    assert len(known) == 40


def test_a_topic_that_is_used_up_says_so():
    class Everything(set[str]):
        def __contains__(self, key: object) -> bool:
            return True

    with pytest.raises(CallerError, match="all solved before"):
        topic("arithmetic").assign("alpha", 1, Random(1), Everything())


def test_the_students_of_the_example_roster_have_specialities():
    first = {student: subject_of(student, 1).name for student in ROSTER}
    assert len(set(first.values())) == len(ROSTER)
    assert first["zeta"] == "zeros on the critical line"
    assert first["delta"] == "Robin's inequality"
    assert subject_of("rh-delta:latest", 1) == subject_of("delta", 1) == subject_of("delta", 3)


@pytest.mark.parametrize("student", ["delta", "somebody", ""])
def test_a_student_meets_every_subject(student: str):
    assert {subject_of(student, cycle) for cycle in range(1, 19)} == set(SUBJECTS)


def test_other_students_start_in_different_places_and_move_on():
    starts = {subject_of(f"student-{number}", 1).name for number in range(40)}
    assert len(starts) == len(SUBJECTS)
    assert subject_of("somebody", 1) != subject_of("somebody", 2)


def test_the_prompt_says_what_is_wanted_and_what_is_known():
    assignment = topic("riemann").assign("zeta", 1, Random(1), ["zero(9) ~ 48.0052", "M(7) = -2"])
    assert "ONE new numerical claim" in assignment.prompt
    assert assignment.facts["example"] in assignment.prompt
    assert "zero(9) ~ 48.0052" in assignment.prompt
    assert "M(7)" not in assignment.prompt  # another subject's
    assert (
        len(topic("riemann").assign("zeta", 1, Random(1), [f"zero({k}) > 1" for k in range(5000)]).prompt)
        < 1500
    )


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_every_example_of_the_form_holds(subject):
    for example in subject.examples:
        judged = topic("riemann").judge(Assignment("", "", {}), example, ())
        assert judged.useful, f"{example}: {judged.reason}"
        assert any(f"{function}(" in judged.keys[0] for function in subject.functions)


def test_the_list_of_topics_does_not_load_the_mathematics():
    """Commands that only name topics start fast: mpmath is imported when a claim is judged."""
    code = "import sys; import studium.domains.topic_catalogue as c; c.all_topics(); print('mpmath' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
