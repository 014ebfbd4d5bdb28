"""The task files for lm-eval and Inspect parse, and the endpoint answers the requests those tools were seen to send."""

import ast
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from tests.fixtures.scripted_house import scripted_house

from studium.domains.catalogue import domain
from studium.evals.items import items_of_file

EXAMPLES = Path(__file__).parents[2] / "examples"
ASKED = [{"role": "user", "content": "What is 47 + 58?"}]
# As recorded from lm-eval 0.4.13 (local-chat-completions) and inspect_ai 0.3.285 (openai-api).
LM_EVAL = {"messages": ASKED, "max_tokens": 200, "temperature": 0.0, "stop": [], "seed": 1234}
INSPECT = {"messages": ASKED, "max_tokens": 200, "temperature": 0.0}


def test_the_task_of_lm_eval_names_data_and_fields_that_are_there():
    task = yaml.safe_load((EXAMPLES / "lm_eval" / "studium_sums.yaml").read_text())
    data = EXAMPLES.parent / task["dataset_kwargs"]["data_files"]["test"]
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    assert task["output_type"] == "generate_until"
    assert {task["doc_to_text"], task["doc_to_target"]} == {f"{{{{{field}}}}}" for field in rows[0]}
    assert len(items_of_file(data, domain("arithmetic"))) == len(rows) == 24


def test_the_task_of_inspect_parses_and_reads_the_same_data():
    tree = ast.parse((EXAMPLES / "inspect_ai" / "sums.py").read_text())
    assert "studium_sums" in {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}
    assert "sums.jsonl" in {one.value for one in ast.walk(tree) if isinstance(one, ast.Constant)}


@pytest.mark.parametrize("body", [LM_EVAL, INSPECT], ids=["lm_eval", "inspect_ai"])
async def test_the_endpoint_answers_what_they_send(tmp_path: Path, body: dict[str, Any]):
    async with scripted_house(tmp_path) as served, aiohttp.ClientSession() as session:
        url = f"{served.url}/v1/chat/completions"
        async with session.post(url, json=body | {"model": "adder"}) as response:
            told = await response.json()
            assert response.status == 200, told
    assert "105" in told["choices"][0]["message"]["content"]
    assert told["choices"][0]["finish_reason"] == "stop"
    assert told["usage"]["total_tokens"] > 0
