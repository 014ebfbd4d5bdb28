"""How strongly voices go together, found again in histories that were made with a known correlation."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from random import Random

import pytest

from studium.records.grades import PairCounts
from studium.serve.history.evidence_history import Together, added, echo, phi, shrunk, wrong_answers

RIGHT = 0
FAMILIES = {name: name for name in "abc"}


def count(kind: str, first: str, second: str, pairs: list[tuple[int, int]]) -> PairCounts:
    """Count pairs of answers; 0 is the right one."""
    total = PairCounts(kind, first, second)
    for one, other in pairs:
        total = added(
            total,
            PairCounts(
                kind,
                first,
                second,
                both=one == other == RIGHT,
                first_only=one == RIGHT != other,
                second_only=one != RIGHT == other,
                same_mistake=one == other != RIGHT,
                other_mistake=RIGHT != one != other != RIGHT,
            ),
        )
    return total


def said(rng: Random, right: float, wrong: int = 10) -> int:
    return RIGHT if rng.random() < right else rng.randrange(1, wrong + 1)


def alike(share: float, number: int = 4000, kind: str = "sums", wrong: int = 10) -> list[PairCounts]:
    """Return counts of three students that are right half of the time; a share of questions is alike to all."""
    rng = Random(3)
    rows: list[dict[str, int]] = []
    for _ in range(number):
        common, easy = rng.random() < share, rng.random() < 0.5
        rows.append({name: said(rng, float(easy) if common else 0.5, wrong) for name in "abc"})
    return [count(kind, a, b, [(one[a], one[b]) for one in rows]) for a, b in combinations("abc", 2)]


def together(counts: list[PairCounts], families: dict[str, str] | None = None) -> Together:
    return Together(counts, families or FAMILIES, lambda _student, _kind: 0.6, lambda _kind: 10.0)


def tries(repeats: float, number: int = 6000, student: str = "a", kind: str = "sums") -> PairCounts:
    """Return tries of a student, right six times in ten; `repeats` of the second ones are the first again."""

    def pairs() -> Iterator[tuple[int, int]]:
        rng = Random(5)
        for _ in range(number):
            first, second = said(rng, 0.6), said(rng, 0.6)
            yield first, first if rng.random() < repeats else second

    return count(kind, student, student, list(pairs()))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_what_students_have_in_common_is_found(share: float):
    found = together(alike(share)).in_common("sums", tuple("abc"), 10.0)
    assert found.commons == pytest.approx(share, abs=0.05)


def test_without_history_the_defaults_stand_and_little_history_moves_them_little():
    assert together([]).in_common("sums", tuple("abc"), 7.0).wrong_answers == 7.0
    assert together([]).in_common("sums", tuple("abc"), 7.0).commons == 0.0
    assert together([]).echo("a", "sums") is None
    few = together(alike(0.8, 4)).in_common("sums", tuple("abc"), 10.0)
    assert few.commons < 0.5
    assert few.wrong_answers == pytest.approx(10.0, abs=3.0)


def test_students_that_are_always_right_tell_nothing_of_what_is_hard():
    always = count("sums", "a", "b", [(RIGHT, RIGHT)] * 50)
    assert phi(always) is None
    assert together([always]).in_common("sums", tuple("ab"), 10.0).commons == 0.0


def test_a_pair_that_goes_together_more_than_others_is_told_apart():
    rng = Random(4)
    other = [(said(rng, 0.5), said(rng, 0.5)) for _ in range(500)]
    same = [(one, one) for one, _ in other]
    found = together([count("sums", "a", "b", same), count("sums", "c", "a", other)])
    assert found.correlation("sums", "a", "b") > 0.8 > 0.2 > found.correlation("sums", "a", "c")
    assert found.correlation("sums", "b", "a") == found.correlation("sums", "a", "b")
    mean = found.in_common("sums", ("a", "b", "c"), 10.0).commons
    assert found.in_common("sums", ("a", "c"), 10.0).commons < mean


@pytest.mark.parametrize("number", [2, 5, 20])
def test_how_many_wrong_answers_there_are_is_counted_from_mistakes_made_twice(number: int):
    assert wrong_answers(alike(0.0, wrong=number), 10.0) == pytest.approx(number, rel=0.15)
    assert together(alike(0.0, wrong=number)).in_common("sums", tuple("abc"), 10.0).wrong_answers < number + 3


def test_mistakes_of_one_family_tell_of_the_family_and_not_of_the_question():
    rng = Random(6)
    shared = [(one, one) for one in (said(rng, 0.5) for _ in range(800))]
    kin = together([count("sums", "a", "b", shared)], {"a": "llama", "b": "llama"})
    found = kin.in_common("sums", ("a", "b"), 10.0)
    assert found.wrong_answers == pytest.approx(10.0)
    assert found.commons == 0.0
    assert found.kinship > 0.9


def test_a_student_that_repeats_itself_more_has_the_stronger_echo():
    found = [echo(tries(share), 0.6, 10.0) for share in (0.0, 0.3, 0.9, 1.0)]
    values = [one.value for one in found if one is not None]
    assert values[0] == pytest.approx(0.0, abs=0.05)
    assert values == sorted(values)
    assert values[-1] > 0.95


def test_an_echo_that_cannot_be_told_is_none_and_counts_for_nothing():
    assert echo(PairCounts("sums", "a", "a"), 0.6, 10.0) is None
    assert echo(count("sums", "a", "a", [(RIGHT, RIGHT)] * 9), 0.6, 10.0) is None
    assert shrunk([None], 0.4) == 0.4


def test_an_echo_is_drawn_to_the_students_own_and_that_to_the_rosters():
    loud, other, few = tries(0.95), tries(0.0, 30, student="b"), replace(tries(0.0, 6), kind="poems")
    found = together([loud, other, few, tries(0.5, 40, student="b", kind="chess")])
    sums, poems, unheard = (found.echo("a", kind) for kind in ("sums", "poems", "chess"))
    assert sums is not None and poems is not None and unheard is not None
    assert sums > unheard > poems > 0.3  # six pairs do not outweigh what is known of the student
    quiet = found.echo("b", "sums")
    assert quiet is not None and quiet < sums


def test_nobody_has_an_echo_that_was_never_asked_twice_nor_where_nobody_was():
    found = together([tries(0.5)])
    assert found.echo("a", "sums") is not None
    assert found.echo("c", "sums") is None
    assert found.echo("a", "cluster-3") is None


def test_the_order_in_which_two_students_spoke_is_no_difference():
    forth = count("sums", "a", "b", [(0, 1), (0, 0), (2, 2), (3, 0), (1, 4)])
    back = count("sums", "b", "a", [(1, 0), (0, 0), (2, 2), (0, 3), (4, 1)])
    one, other = together([forth]), together([back])
    assert one.in_common("sums", ("a", "b"), 10.0) == other.in_common("sums", ("a", "b"), 10.0)
