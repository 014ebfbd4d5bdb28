"""The shapes are judged by the official client's own models."""

import math

import ollama
import orjson
import pytest

from studium.engines import ollama_wire as wire
from studium.errors import BadRequest

MODEL = wire.ListedModel("rh-alpha:latest", 4_000, "ab" * 32, 1_700_000_000.0, family="llama")
TIMING = wire.Timing(total_s=1.5, load_s=0.25, prompt_tokens=3, completion_tokens=2, completion_s=1e-9)


def test_streamed_and_final_lines_are_understood_by_the_official_client():
    line = ollama.ChatResponse.model_validate(wire.chat_line("alpha", 0.5, "hi"))
    last = ollama.ChatResponse.model_validate(wire.chat_final("alpha", 0.5, "stop", TIMING))
    assert (line.message.content, line.done, line.created_at) == ("hi", False, "1970-01-01T00:00:00.500000Z")
    assert (last.done, last.done_reason, last.total_duration) == (True, "stop", 1_500_000_000)
    assert (last.prompt_eval_count, last.eval_count, last.eval_duration) == (3, 2, 1)


def test_generate_lines_are_understood():
    assert ollama.GenerateResponse.model_validate(wire.generate_line("alpha", 0.0, "hi")).response == "hi"
    unloaded = ollama.GenerateResponse.model_validate(wire.generate_final("alpha", 0.0, "unload"))
    assert (unloaded.response, unloaded.done_reason, unloaded.eval_count) == ("", "unload", None)


def test_listings_are_understood():
    (tag,) = ollama.ListResponse.model_validate(wire.tags([MODEL])).models
    entry = wire.ps_entry(MODEL, resident_bytes=5_000, vram_bytes=1_000, expires_unix_s=math.inf)
    (loaded,) = ollama.ProcessResponse.model_validate(wire.ps([entry])).models
    shown = ollama.ShowResponse.model_validate(
        wire.show(MODEL, modelfile="FROM x", model_info={"llama.block_count": 2})
    )
    assert (tag.model, tag.size) == ("rh-alpha:latest", 4_000)
    assert (loaded.size, loaded.size_vram) == (5_000, 1_000)
    assert loaded.expires_at is not None and loaded.expires_at.year == 2100
    assert shown.modelinfo == {"llama.block_count": 2}


def test_a_line_ends_with_exactly_one_newline():
    assert wire.ndjson(wire.error_body("a\nb")) == orjson.dumps({"error": "a\nb"}) + b"\n"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        ("0", 0),
        (-1, math.inf),
        ("-1", math.inf),
        ("-1m", math.inf),
        (30, 30),
        (2.5, 2.5),
        ("10m", 600),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("24h", 86_400),
        (None, 300),
    ],
)
def test_keep_alive_is_read_as_ollama_reads_it(value, seconds):
    assert wire.keep_alive_s(value) == seconds


@pytest.mark.parametrize("value", ["soon", "10 m", "m10", "", True, [], math.nan, "1h30"])
def test_a_keep_alive_that_is_no_duration_is_refused(value):
    with pytest.raises(BadRequest, match="is no duration"):
        wire.keep_alive_s(value)
