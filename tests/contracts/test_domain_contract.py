"""Every shipped domain: nothing that solves nothing gets a score, and what is optional keeps its promises."""

import json
from random import Random

import pytest

from studium.domains.catalogue import shipped_domains
from studium.domains.protocol import Domain, ReadsRows, SoundsAlarm, metrics_of
from studium.domains.stress import stress
from studium.errors import BadRequest
from studium.evals.metrics import PASS_AT_K, metric

DOMAINS = list(shipped_domains().values())
ALARMS = [domain for domain in DOMAINS if isinstance(domain, SoundsAlarm)]
READERS = [domain for domain in DOMAINS if isinstance(domain, ReadsRows)]


def name(domain: object) -> str:
    return getattr(domain, "name", "")


@pytest.mark.parametrize("domain", DOMAINS, ids=name)
def test_junk_gets_no_score(domain: Domain):
    found = stress(domain, per_level=max(3, 24 // len(domain.levels)), seed=7)
    assert not [f"{row.attack}: {row.fooled} of {row.tried}, {row.example}" for row in found.broken]
    assert found.problems >= 24


@pytest.mark.parametrize("domain", DOMAINS, ids=name)
def test_its_metrics_exist(domain: Domain):
    for one in metrics_of(domain):
        assert one == PASS_AT_K or metric(one).name == one


@pytest.mark.parametrize("domain", ALARMS, ids=name)
def test_the_harmless_answer_is_one_it_gives(domain):
    given = {domain.make(Random(seed), domain.levels[0]).expected for seed in range(60)}
    assert domain.harmless in given
    assert len(given) > 1


@pytest.mark.parametrize("domain", READERS, ids=name)
def test_rows_of_a_users_file_become_problems_whose_solution_is_right(domain):
    row = domain.schema["examples"][0]
    assert set(domain.schema["required"]) <= set(row)
    problem = domain.problem_of(json.loads(json.dumps(row)))
    assert problem.domain == domain.name
    assert problem.level == 0
    assert domain.verify(problem, domain.solution(problem)) == 1.0


@pytest.mark.parametrize("domain", READERS, ids=name)
def test_a_row_that_is_wrong_is_refused_by_the_name_of_its_field(domain):
    row = domain.schema["examples"][0]
    for field in domain.schema["required"]:
        for broken in (
            {**row, field: ""},
            {**row, field: 7.5},
            {key: row[key] for key in row if key != field},
        ):
            with pytest.raises(BadRequest, match=field):
                domain.problem_of(broken)
    with pytest.raises(BadRequest, match="row"):
        domain.problem_of([])
