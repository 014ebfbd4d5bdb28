"""A real embedding model beside the students: what it holds for nearly the same is not taken for the same."""

from collections.abc import Sequence
from pathlib import Path

import openai
import pytest

from studium.app import open_studium
from studium.config import load_config
from studium.serve.cache_keys import similarity
from studium.serve.cache_nearness import PROBES, least_cosine
from studium.web.server import serve

CLERK = Path(__file__).parents[2] / "src" / "studium" / "embedded" / "clerk.gguf"
REVIEW = "Is this review positive, negative or mixed? I {} the soup."


@pytest.mark.slow
async def test_a_small_models_embeddings_give_nobody_the_answer_to_the_opposite_question(tmp_path: Path):
    """They did: "I hated the soup" was answered as "I loved the soup", at a cosine above the one asked for."""
    file = tmp_path / "studium.yaml"
    file.write_text(
        "embedded_students: yes\n"
        f'models: [{{name: embedder, engine: llamacpp, source: "{CLERK}", embeddings: yes}}]\n'
        "students: [{name: embedder}]\n"
    )
    told = {"workspace": str(tmp_path / "workspace"), "server.port": "0"}
    config = load_config(file, environment={}, overrides=told)
    async with (
        open_studium(config) as studium,
        serve(studium, drain_s=0.0) as url,
        openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):

        async def embed(text: str) -> Sequence[float]:
            return (await client.embeddings.create(model="embedder", input=text)).data[0].embedding

        async def ask(text: str) -> tuple[str, str | None]:
            create = client.chat.completions.with_raw_response.create
            raw = await create(model="auto", messages=[{"role": "user", "content": text}])
            return raw.parse().choices[0].message.content or "", raw.headers.get("x-studium-cache")

        opposites = similarity(await embed(REVIEW.format("loved")), await embed(REVIEW.format("hated")))
        least = await least_cosine(embed, config.cache.similarity)
        assert least is not None and least > opposites >= config.cache.similarity
        assert len({text for pair in PROBES for text in pair}) == 2 * len(PROBES)
        loved = await ask(REVIEW.format("loved"))
        again = await ask(REVIEW.format("loved"))
        hated = await ask(REVIEW.format("hated"))
    assert loved == (again[0], None) and again[1] == "exact"
    assert hated[1] is None and "positive" in loved[0] and "negative" in hated[0]
