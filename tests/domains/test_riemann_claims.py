"""Made claims are true, new and on their subject, and vary enough to learn a form from."""

from random import Random

import pytest

from studium.domains.riemann import Riemann
from studium.domains.riemann.claims import make_claim
from studium.domains.riemann.subjects import SUBJECTS, Subject
from studium.domains.topics import Assignment
from studium.errors import CallerError

TOPIC = Riemann()


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_every_made_claim_is_useful(subject: Subject):
    rng = Random(7)
    keys: set[str] = set()
    for _ in range(40):
        claim = make_claim(rng, subject.name)
        judged = TOPIC.judge(Assignment(subject.name, "", {}), claim, ())
        assert judged.useful, f"{claim}: {judged.reason}"
        assert any(f"{function}(" in judged.keys[0] for function in subject.functions), claim
        keys.update(judged.keys)
    assert len(keys) >= 15


def test_equal_seeds_make_equal_claims():
    for subject in SUBJECTS:
        assert make_claim(Random(3), subject.name) == make_claim(Random(3), subject.name)


def test_a_changed_value_is_found_out():
    """The judge would be no teacher if it took a wrong digit."""
    rng = Random(5)
    checked = 0
    while checked < 12:
        claim = make_claim(rng, "bounds on the Mertens function")
        expression, equals, value = claim.partition(" = ")
        if not equals:
            continue
        checked += 1
        wrong = TOPIC.judge(Assignment("", "", {}), f"{expression} = {int(value) + 1}", ())
        assert wrong.score == 0.0


def test_an_unknown_subject_suggests_the_nearest():
    with pytest.raises(CallerError, match='did you mean "Robin\'s inequality"'):
        make_claim(Random(1), "Robins inequality")
