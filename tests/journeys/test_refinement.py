"""A doubtful answer of the embedded students goes to an oracle behind a real socket, and what came of it is kept."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import openai
import pytest

from studium.app import Studium, open_studium
from studium.config import load_config
from studium.engines.scripted.script import ModelScript, Rule, Script
from studium.engines.scripted.server import serving
from studium.web.server import serve

CONFIG = """
workspace: {folder}
server: {{port: 0}}
embedded_students: yes
ensemble: {{oracle: oracle, arbiter: arbiter}}
engines:
  cloud:
    kind: openai_api
    url: {url}/v1
    licence: a licence of our own
    training_use: {training}
    prices:
      small-oracle: {{prompt_usd_per_million: 5, completion_usd_per_million: 20}}
      big-arbiter: {{prompt_usd_per_million: 50, completion_usd_per_million: 200}}
models:
  - {{name: small-oracle, engine: cloud, source: small-oracle}}
  - {{name: big-arbiter, engine: cloud, source: big-arbiter}}
students: [{{name: oracle, model: small-oracle}}, {{name: arbiter, model: big-arbiter}}]
"""
METRES = "3 km in m, please?"
SCRIPT = Script(
    {
        "small-oracle": ModelScript(default=("I am not sure, perhaps 300.\nAnswer: 300",)),
        "big-arbiter": ModelScript(
            rules=(Rule(contains="3 km", answers=("One km has 1000 m.\nAnswer: 3000",)),),
            default=("Answer: ?",),
        ),
    }
)


@asynccontextmanager
async def house(folder: Path, training: str = "forbidden") -> AsyncIterator[tuple[str, Studium]]:
    async with serving(SCRIPT) as endpoint:
        file = folder / "studium.yaml"
        file.write_text(CONFIG.format(folder=folder / "w", url=endpoint.url, training=training))
        async with (
            open_studium(load_config(file, environment={})) as studium,
            serve(studium, drain_s=0.0) as url,
        ):
            yield url, studium


def kept(folder: Path) -> list[dict[str, object]]:
    return [
        json.loads(line) for line in (folder / "w/datasets/training_metadata.jsonl").read_text().splitlines()
    ]


async def test_an_openai_client_gets_the_arbiters_answer_and_its_provenance(tmp_path):
    async with (
        house(tmp_path) as (url, _),
        openai.AsyncOpenAI(base_url=url + "/v1", api_key="none") as client,
    ):
        answer = await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": METRES}]
        )
    assert answer.choices[0].message.content == "One km has 1000 m.\nAnswer: 3000"
    evidence = (answer.model_extra or {})["studium"]
    assert evidence["chosen_model"] == "arbiter" and "refined" in evidence["flags"]
    refinement = evidence["notes"]["refinement"]
    assert [step["part"] for step in refinement["steps"]] == ["oracle", "arbiter"]
    assert refinement["steps"][0]["falls_short"] == "it doubts itself"
    assert {claim["said_by"] for claim in refinement["claims"]} <= {
        one["student"] for one in evidence["members"]
    }
    assert refinement["claims"][0]["said_by"] == "arbiter"
    assert evidence["cost_usd"] > 0
    [example] = kept(tmp_path)
    assert example["request_id"] == evidence["request_id"]
    assert example["trainable"] is False


@pytest.mark.parametrize(("training", "trainable"), [("allowed", True), ("forbidden", False)])
async def test_an_example_may_train_only_where_the_endpoints_terms_say_so(tmp_path, training, trainable):
    async with house(tmp_path, training) as (_, studium):
        answer = await studium.ask(METRES)
        assert answer.notes["refinement"]["trainable"] is trainable
    assert kept(tmp_path)[0]["trainable"] is trainable


async def test_refinement_can_be_switched_off_for_one_question_and_by_the_governor(tmp_path):
    async with house(tmp_path) as (_, studium):
        plain = await studium.ask(METRES, refine=False)
        assert "refinement" not in plain.notes and plain.cost_usd == 0
        studium.governor.change({"refinement": "off"}, by="a test")
        assert "refined" not in (await studium.ask(METRES, refine=True)).flags
    assert not (tmp_path / "w/datasets").exists()
