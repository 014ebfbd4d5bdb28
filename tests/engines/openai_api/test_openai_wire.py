"""The shapes are judged by the official client's own models."""

import math

import orjson
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from studium.engines import openai_wire as wire
from studium.records.messages import TokenLogprob

STAMP = wire.Stamp("chatcmpl-1", 1_700_000_000, "alpha")
TOKENS = (TokenLogprob("4", -0.5, (("4", -0.5), ("5", -math.inf))), TokenLogprob("é", -0.1))


def test_a_whole_chat_answer_is_understood_by_the_official_client():
    body = wire.chat_completion(
        STAMP, "4é", "stop", wire.usage(3, 2), logprobs=TOKENS, studium={"asked": ["alpha"]}
    )
    answer = ChatCompletion.model_validate(orjson.loads(orjson.dumps(body)), strict=True)
    assert answer.choices[0].message.content == "4é"
    assert answer.usage is not None and answer.usage.total_tokens == 5
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert logprobs.content[1].bytes == [0xC3, 0xA9]
    assert logprobs.content[0].top_logprobs[1].logprob == wire.LOWEST_LOGPROB
    assert answer.model_extra == {"studium": {"asked": ["alpha"]}}


def test_every_chunk_of_a_stream_is_understood_and_carries_one_stamp():
    chunks = [
        wire.chat_role_chunk(STAMP),
        wire.chat_chunk(STAMP, "4", logprobs=TOKENS[:1]),
        wire.chat_finish_chunk(STAMP, "stop"),
        wire.usage_chunk(STAMP, wire.usage(3, 1)),
    ]
    parsed = [ChatCompletionChunk.model_validate(chunk, strict=True) for chunk in chunks]
    assert {(chunk.id, chunk.created, chunk.model) for chunk in parsed} == {tuple(STAMP)}
    assert parsed[0].choices[0].delta.role == "assistant"
    assert parsed[1].choices[0].delta.content == "4"
    assert parsed[2].choices[0].finish_reason == "stop" and parsed[2].choices[0].delta.content is None
    assert parsed[3].choices == [] and parsed[3].usage is not None


def test_a_completion_counts_the_offsets_of_its_tokens_in_characters():
    body = wire.text_completion(STAMP, "4é", "length", wire.usage(3, 2), logprobs=TOKENS)
    logprobs = Completion.model_validate(body, strict=True).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.text_offset == [0, 1]
    assert logprobs.tokens == ["4", "é"]


def test_embeddings_and_models_are_understood():
    embeddings = CreateEmbeddingResponse.model_validate(wire.embedding_list("alpha", [[0.5, 1.0]], 2))
    assert embeddings.data[0].embedding == [0.5, 1.0]
    (entry,) = wire.model_list(["alpha"], created=7)["data"]
    assert Model.model_validate(entry, strict=True).id == "alpha"


def test_an_event_is_one_data_line_and_a_comment_cannot_break_out_of_its_line():
    assert wire.sse({"a": 1}) == b'data: {"a":1}\n\n'
    assert wire.sse(b"[DONE]") == wire.SSE_DONE
    assert wire.sse_comment("loading\r\ndata: x") == b": loading  data: x\n\n"
