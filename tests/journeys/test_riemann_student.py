"""The embedded student of the riemann topic, in its engine: what its proposals are worth, and what it declines."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from studium.app import Studium, open_studium
from studium.config import load_config
from studium.domains.answers import abstains
from studium.domains.catalogue import skills
from studium.domains.outside import outside_question
from studium.domains.protocol import Split, make_split
from studium.domains.riemann import Riemann
from studium.records.answers import Complexity
from studium.records.messages import Sampling

ASKS, LEAST_USEFUL = 36, 0.4
PROPOSER = "augur"


@pytest.fixture
async def studium(tmp_path: Path) -> AsyncIterator[Studium]:
    file = tmp_path / "studium.yaml"
    file.write_text("fleet: {memory_budget: 200MiB}\ncache: {enabled: no}\n")
    config = load_config(file, environment={}, overrides={"workspace": str(tmp_path / "state")})
    async with open_studium(config) as opened:
        yield opened


async def test_two_in_five_of_its_proposals_at_least_are_true_tested_and_new(studium: Studium):
    topic, known, useful = Riemann(), set[str](), 0
    for number in range(ASKS):
        task = topic.assign(PROPOSER, number + 1, Random(f"floor/{number}"), known)
        said = await studium.ask(task.prompt, model=PROPOSER, sampling=Sampling(seed=number, max_tokens=120))
        judged = topic.judge(task, said.text, known)
        known |= set(judged.keys)
        useful += judged.useful
    assert useful >= LEAST_USEFUL * ASKS, f"{useful} of {ASKS}"


async def test_it_declines_questions_of_every_domain_and_others(studium: Studium):
    rng = Random(12)
    questions = [
        make_split(domain, rng, level, Split.FRESH).prompt
        for domain in skills().values()
        for level in domain.levels
    ] + [outside_question(rng, Split.FRESH) for _ in range(15)]
    answers = [(await studium.ask(one, model=PROPOSER)).text for one in questions]
    assert sum(map(abstains, answers)) >= 0.9 * len(questions)


async def test_a_question_to_everybody_is_not_put_to_it(studium: Studium):
    assert PROPOSER not in {one.name for one in studium.ensemble.team.members()}
    answer = await studium.ask("What is 47 + 58?", complexity=Complexity.MEDIUM)
    assert re.search(r"\b105\b", answer.text)
    assert PROPOSER not in {member.student for member in answer.members}
