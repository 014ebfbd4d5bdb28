"""Questions read back: what a domain can grade without having made the problem itself."""

from random import Random

import pytest

from studium.domains.catalogue import domain, shipped_domains
from studium.domains.protocol import ChecksQuestions


@pytest.mark.parametrize("name", ["arithmetic", "sorting", "measures"])
def test_a_question_read_back_is_graded_as_the_problem_it_came_from(name):
    rng, one = Random(5), domain(name)
    assert isinstance(one, ChecksQuestions)
    scored = 0
    for _ in range(300):
        problem = one.make(rng, rng.choice(one.levels))
        other = one.make(rng, problem.level)
        for reply in (one.solution(problem), one.solution(other)):
            score = one.check(problem.prompt, reply)
            assert score in (None, one.verify(problem, reply))
            scored += score is not None
    assert scored > 300


@pytest.mark.parametrize(
    ("name", "question", "reply"),
    [
        ("arithmetic", "What is 47 + 58?", "I cannot answer that."),
        ("arithmetic", "Who wrote Hamlet?", "Answer: 105"),
        ("measures", "Convert 3 metres to hours.", "Answer: 3"),
        ("measures", "How many kilometres are in 1500 metres?", "Answer: 1"),
        ("sentiment", "Is this review positive or negative? Great!", "Answer: positive"),
    ],
)
def test_what_cannot_be_graded_is_not_scored(name, question, reply):
    one = shipped_domains()[name]
    assert not isinstance(one, ChecksQuestions) or one.check(question, reply) is None
