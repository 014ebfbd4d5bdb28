"""Server-sent events: the same events however the bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studium.engines.sse import EventTooLong, SseDecoder

STREAM = (
    ': a heartbeat\n\ndata: {"text": "é 漢 😀"}\r\n\r\nevent: message\nid: 7\ndata: one\ndata:two\n\n'
    "data: [DONE]\n\n"
).encode()
EVENTS = ['{"text": "é 漢 😀"}'.encode(), b"one\ntwo", b"[DONE]"]


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_the_same_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    decoder = SseDecoder()
    edges = [0, *sorted(cuts), len(STREAM)]
    found = [event for start, end in pairwise(edges) for event in decoder.feed(STREAM[start:end])]
    assert found == EVENTS
    assert decoder.end() == []


def test_the_last_event_needs_no_blank_line() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: last") == []
    assert decoder.end() == [b"last"]


@given(stream=st.binary(max_size=300))
def test_random_bytes_give_events_or_none(stream: bytes) -> None:
    decoder = SseDecoder()
    events = [*decoder.feed(stream), *decoder.end()]
    assert sum(map(len, events)) <= len(stream)


@pytest.mark.parametrize("chunk", [b"x" * 60, b"data: " + b"x" * 30 + b"\n"], ids=["one line", "many lines"])
def test_an_endless_event_is_refused_before_it_fills_the_memory(chunk: bytes) -> None:
    decoder = SseDecoder(max_event_bytes=1000)
    with pytest.raises(EventTooLong):
        for _ in range(100):
            decoder.feed(chunk)
