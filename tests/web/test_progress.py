"""Progress in a stream: seen by people and by programs that look for it, passed over by ordinary clients."""

import json
from typing import Any

import pytest

from studium.records.answers import Delta, Fate, MemberReply, Part, Progress

JUDGED = MemberReply("judge", Fate.ANSWERED, text="A", answer="A", part=Part.JUDGE)
STEPS = (Progress("asking adder, sorter"), Progress("judge answered A", JUDGED))
MESSAGES = [{"role": "user", "content": "x"}]


async def lines(caller: Any, path: str, body: dict[str, Any]) -> list[bytes]:
    async with caller.post(path, body | {"stream": True}) as response:
        return [line.strip() async for line in response.content if line.strip()]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", {"messages": MESSAGES}), ("/v1/completions", {"prompt": "x"})],
)
async def test_openais_streams_carry_progress_as_comment_and_extra_field(house, caller, path, body):
    house.ensemble.plays(*STEPS, *house.ensemble.steps)
    got = await lines(caller, path, {"model": "auto", **body})
    assert b": asking adder, sorter" in got
    chunks = [json.loads(line[6:]) for line in got if line.startswith(b"data: {")]
    told = [chunk["studium"]["progress"] for chunk in chunks if "progress" in chunk.get("studium", {})]
    assert [one["text"] for one in told] == ["asking adder, sorter", "judge answered A"]
    assert told[1] | {"text": ""} == {
        "text": "",
        "student": "judge",
        "part": "judge",
        "fate": "answered",
        "answer": "A",
    }
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    said = "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)
    assert said == "The answer is 105."
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1


async def test_ollamas_lines_carry_progress_without_text(house, caller):
    house.ensemble.plays(*STEPS, *house.ensemble.steps)
    got = [
        json.loads(line) for line in await lines(caller, "/api/chat", {"model": "auto", "messages": MESSAGES})
    ]
    told = [line for line in got if "progress" in line.get("studium", {})]
    assert len(told) == 2 and all(line["message"]["content"] == "" and not line["done"] for line in told)
    assert "".join(line["message"]["content"] for line in got) == "The answer is 105."


async def test_progress_comes_once_per_step_not_per_word(house, caller):
    house.ensemble.plays(*STEPS, *(Delta("word ") for _ in range(50)), house.ensemble.steps[-1])
    got = await lines(caller, "/v1/chat/completions", {"model": "auto", "messages": MESSAGES})
    assert sum(b'"progress"' in line for line in got) == 2


async def test_our_own_route_tells_who_did_what(house, caller):
    house.ensemble.plays(*STEPS, *house.ensemble.steps)
    got = [json.loads(line) for line in await lines(caller, "/api/ask", {"question": "x"})]
    assert got[1] == {"kind": "progress", "text": "judge answered A", "student": "judge", "part": "judge",
                      "fate": "answered", "answer": "A"}  # fmt: skip
    assert got[-1]["kind"] == "answer"
