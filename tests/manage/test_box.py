"""A box that is away is waited for a limited time; what it refuses is not asked again; its key goes nowhere else."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from studium.config.running import KEY_VARIABLE
from studium.errors import BadRequest, CallerError, OperatorError
from studium.manage.box import LONGEST_PAUSE_S, PATIENCE_S, Box, Lost


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def a_box(url: str = "http://127.0.0.1:1") -> tuple[Box, Clock, list[str]]:
    clock, said = Clock(), []
    return Box(url, said.append, clock=clock, sleep=clock.sleep), clock, said


@contextmanager
def answering(
    replies: list[tuple[int, dict[str, str], object]],
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Serve these replies in turn; yield the address, and the headers of what was asked."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(dict(self.headers))
            status, headers, body = replies[min(len(asked), len(replies)) - 1]
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_nobody_there_is_told_at_once() -> None:
    box, clock, said = a_box()
    with pytest.raises(Lost, match="no Studium answers"):
        box.get("/api/jobs")
    assert clock.slept == [] and said == []


def test_a_box_that_was_there_is_waited_for_and_then_given_up() -> None:
    box, clock, said = a_box()
    box.until_done(lambda: None)

    def away() -> None:
        raise box.lost("the cable")

    with pytest.raises(Lost):
        box.until_done(away)
    assert PATIENCE_S <= clock.now <= PATIENCE_S + LONGEST_PAUSE_S
    assert clock.slept[:3] == [1.0, 2.0, 4.0] and max(clock.slept) == LONGEST_PAUSE_S
    assert len(said) == 1 and "the cable" in said[0]


def test_a_busy_box_is_asked_again_and_one_that_refuses_is_not() -> None:
    busy = (503, {}, {"error": "this server is stopping"})
    with answering([(200, {}, {"a": 1}), busy, busy, (200, {}, {"a": 2})]) as (url, asked):
        box, clock, said = a_box(url)
        assert [box.get("/x"), box.get("/x")] == [{"a": 1}, {"a": 2}]
        assert len(asked) == 4 and clock.slept == [1.0, 2.0] and "stopping" in said[0]
    with answering([(503, {"x-should-retry": "false"}, {"error": "no room"})]) as (url, asked):
        with pytest.raises(OperatorError, match="no room"):
            a_box(url)[0].get("/x")
        assert len(asked) == 1
    with answering([(413, {}, {"error": "too large"})]) as (url, asked), pytest.raises(CallerError):
        a_box(url)[0].get("/x")


def test_the_key_follows_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "a-secret-key")
    with answering([(200, {}, {})]) as (elsewhere, strangers):
        with answering([(307, {"Location": f"{elsewhere}/x"}, {})]) as (url, asked):
            with pytest.raises(CallerError, match="307"):
                a_box(url)[0].get("/x")
    assert asked[0]["Authorization"] == "Bearer a-secret-key" and strangers == []


@pytest.mark.parametrize(
    "url", ["box:8377", "file:///etc/passwd", "http://", "http://me:pw@box", "http://box?a=1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="no address"):
        a_box(url)
