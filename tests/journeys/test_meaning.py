"""Answers given again by meaning, and kinds of questions, with real embedding models: a proper one, and a poor one.

The proper one is `examples/embeddings` (package `wordllama`), behind a real socket as any such server would be.
"""

import asyncio
import importlib.util
import threading
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from benchmarks.same_question import NEAR, pairs_of

from studium.app import open_studium
from studium.config import load_config
from studium.web.server import serve

ROOT = Path(__file__).parents[2]
CLERK = ROOT / "src" / "studium" / "embedded" / "clerk.gguf"
BOUND_S = 120.0
CONFIG = """
workspace: {folder}/state
server: {{port: 0, api_keys_env: KEYS}}
engines:
  elsewhere: {{kind: openai_api, url: "{url}"}}
models:
  - {{name: librarian, engine: scripted, source: "{folder}/script.yaml#librarian"}}
  - {{name: meaning, engine: {engine}, source: "{source}", embeddings: yes}}
students: [{{name: librarian, sampling: {{temperature: 0}}}}, {{name: meaning}}]
"""
# Answers to what is near differ in it, so that one given for the other shows.
SCRIPT = r"""
models:
  librarian:
    rules: [{matches: "(.*)", answer: "You asked: \\1"}]
    default: "Nobody knows."
"""
ANNA, BERT = "key-of-anna", "key-of-bert"
Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", f"{ANNA},{BERT}")


@pytest.fixture
def embeddings_url() -> Iterator[str]:
    """Serve the example's model on a free port."""
    pytest.importorskip("wordllama", reason="the package `wordllama`, an embedding model, is not installed")
    file = ROOT / "examples" / "embeddings" / "embeddings_server.py"
    spec = importlib.util.spec_from_file_location("embeddings_server", file)
    assert spec and spec.loader
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with example.make_server(example.wordllama_embed()) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@asynccontextmanager
async def house(folder: Path, *, engine: str, source: str | Path, url: str = "http://127.0.0.1:9/v1"):
    """Yield a served Studium, its address, and what asks it: text and header `x-studium-cache` come back."""
    (folder / "script.yaml").write_text(SCRIPT)
    file = folder / "studium.yaml"
    file.write_text(CONFIG.format(folder=folder, url=url, engine=engine, source=source))
    config = load_config(file, environment={})
    async with open_studium(config) as studium, serve(studium, drain_s=0.0) as address:
        yield studium, address, _asking(address)


def _asking(address: str) -> Ask:
    clients = {
        key: openai.AsyncOpenAI(base_url=address + "/v1", api_key=key, max_retries=0) for key in (ANNA, BERT)
    }

    async def ask(question: str, key: str = ANNA) -> tuple[str, str | None, Any]:
        create = clients[key].chat.completions.with_raw_response.create
        raw = await create(model="auto", messages=[{"role": "user", "content": question}])
        answer = raw.parse()
        notes = (answer.model_extra or {})["studium"]["notes"]
        return answer.choices[0].message.content or "", raw.headers.get("x-studium-cache"), notes.get("cache")

    return ask


async def _until_it_knows_the_model(ask: Ask) -> None:
    """Ask until a question in other small words is given again: what is near enough is found out by then."""
    async with asyncio.timeout(BOUND_S):
        for number in range(10_000):
            name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
            await ask(f"How do I spell {name}{name}x?")
            if (await ask(f"How can I spell {name}{name}x?"))[1] == "meaning":
                return


async def test_a_paraphrase_is_given_again_and_what_is_only_near_is_not(tmp_path, embeddings_url):
    async with house(tmp_path, engine="elsewhere", source="wordllama-256", url=embeddings_url) as (
        studium,
        _,
        ask,
    ):
        await _until_it_knows_the_model(ask)
        first = await ask("What should I cook for kids?")
        for paraphrase in (
            "What should I cook for children?",
            "Hi! What should I cook for kids, please?",
            "what should I cook for kids",
        ):
            text, header, note = await ask(paraphrase)
            assert (text, header, note["hit"]) == (first[0], "meaning", "meaning"), paraphrase
            assert note["question"] == "What should I cook for kids?" and 0.9 <= note["similarity"] <= 1.0
        for near in (
            "What should I not cook for kids?",
            "What should I cook for 3 kids?",
            "What should I cook for dogs?",
            "What should I cook for Kids Anonymous?",
            "What could I cook for kids?",
            "What should kids cook for I?",
        ):
            text, header, note = await ask(near)
            assert (text, header, note["hit"]) == (f"You asked: {near}", None, None)
        assert (await ask("What should I cook for children?", BERT))[1] is None, "another caller's answer"

        shelf = studium.store.cache
        shelf.switch(False, by="test", at=0.0)
        off = (await ask("Hey! What should I cook for kids?"))[2]
        shelf.switch(True, by="test", at=0.0)
        on = (await ask("Hey! What should I cook for kids?"))[1]
        shelf.settings = replace(shelf.settings, expiry_s=0.0)
        assert (off, on, (await ask("Hello! What should I cook for kids?"))[1]) == (None, "meaning", None)


async def test_a_model_that_is_not_there_is_told_once(tmp_path, embeddings_url, caplog):
    async with house(tmp_path, engine="elsewhere", source="nobody", url=embeddings_url) as (_, _, ask):
        for number in range(3):
            await ask(f"What should I cook for {number} kids?")
    [told] = [one for one in caplog.records if "gives no embeddings" in one.message]
    assert told.levelname == "WARNING" and "nobody" in told.message


@pytest.mark.slow
async def test_pairs_that_are_only_near_are_not_taken_for_the_same(tmp_path, embeddings_url):
    async with house(tmp_path, engine="elsewhere", source="wordllama-256", url=embeddings_url) as (_, _, ask):
        await _until_it_knows_the_model(ask)
        for one, other in pairs_of(NEAR)[::4]:  # all of them: python -m benchmarks.same_question
            await ask(one)
            assert (await ask(other))[:2] == (f"You asked: {other}", None), one


async def test_what_a_proper_model_finds_alike_gets_one_kind_and_why_names_it(tmp_path, embeddings_url):
    """With a fixed bound every question became a kind of its own: this model's cosines are low."""
    asked = (
        "What is the capital of France?",
        "Write a poem about autumn.",
        "Translate to German: good morning",
        "Write a Python function that reverses a string.",
        "Summarise the following text: The cat sat on the mat.",
        "Who wrote Hamlet?",
        "What helps against a sore throat?",
        "How do I bake sourdough bread?",
        "When did the war end?",
        "Which film won the most prizes?",
        "How do I sort a list in Python?",
        "Python code that counts words in a file",
    )
    alike = "How to read a csv with pandas?"
    async with house(tmp_path, engine="elsewhere", source="wordllama-256", url=embeddings_url) as (
        _,
        address,
        ask,
    ):
        for question in asked:
            await ask(question)
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {ANNA}"}) as session:

            async def kind(question: str) -> str:
                async with session.post(address + "/api/why", json={"question": question}) as response:
                    return (await response.json())["kind"]

            async with asyncio.timeout(BOUND_S):
                while len({await kind(question) for question in asked}) < 10:  # learned behind the answers
                    await asyncio.sleep(0.05)
                assert await kind(alike) != await kind(asked[3]), "by letters alone"
                await ask(alike)
                while await kind(alike) != await kind(asked[3]):
                    await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_with_a_poor_model_only_small_words_may_differ(tmp_path):
    """They did more: "I hated the soup" was answered as "I loved the soup", at a cosine above the one asked for."""
    async with house(tmp_path, engine="llamacpp", source=CLERK) as (studium, _, ask):
        await studium.ensemble.embed("meaning", ["a word, so that the model is in memory"])
        await _until_it_knows_the_model(ask)
        for one, other in (
            (
                "Was the soup loved by all my guests at the table?",
                "Was the soup hated by all my guests at the table?",
            ),
            ("Is it safe to eat raw eggs with that?", "Is it unsafe to eat raw eggs with that?"),
            ("Should I buy a house in the old town?", "Should I sell a house in the old town?"),
        ):
            await ask(one)
            assert (await ask(other))[:2] == (f"You asked: {other}", None)
