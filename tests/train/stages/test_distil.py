"""Distillation: the loss against slow code, which traces are kept, chains, and resuming."""

import math
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import orjson
import pytest

from studium.domains.catalogue import domain
from studium.errors import BadRequest, ConfigurationError
from studium.train.config import Optimiser, Replay, Source, Validation
from studium.train.course import Checkpoint
from studium.train.data import rows_of
from studium.train.models import load
from studium.train.run_folder import RunFolder, State
from studium.train.stages import distil
from studium.train.stages.distil import kl_of_likeliest
from studium.train.teaching import (
    Drawn,
    ModelTeacher,
    ServedTeacher,
    endpoint_teacher,
    read_traces,
    traces_of,
    with_logprobs,
    write_traces,
)

torch = pytest.importorskip("torch", reason="training is an extra: pip install 'studium[train]'")

PROMPTS = Source(domain="arithmetic", rows=12, levels=(1,), teach="prompts", seed=7)
OLD = Source(domain="sorting", rows=8, levels=(1,), seed=8)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def recipe(**changed) -> distil.Options:
    settings = {
        "model": "sprout",
        "teacher": "abacus",
        "data": (PROMPTS,),
        "batch": 6,
        "steps": 4,
        "drawn": Drawn(each=2, most_tokens=64),
        "optimiser": Optimiser(rate=1e-3, schedule="constant", warmup_steps=0),
        "validation": Validation(every_steps=0),
    }
    return distil.Options(**{**settings, **changed})


def train(options: distil.Options, path: Path) -> Checkpoint:
    return distil.run(options, RunFolder(path), lambda line: None)


def losses(path: Path) -> list[float]:
    return [orjson.loads(line)["loss"] for line in (path / "metrics.jsonl").read_bytes().splitlines()]


def weights(folder: Path | None) -> dict:
    from safetensors.torch import load_file

    assert folder is not None
    return load_file(folder / "model.safetensors")


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        bool((value == other[name]).all()) for name, value in one.items()
    )


def test_the_loss_is_the_kl_of_the_shown_tokens_and_the_rest_as_one():
    torch.manual_seed(1)
    teacher_TV, student_TV = (torch.randn(5, 9).log_softmax(-1) for _ in range(2))
    best = teacher_TV.topk(3)
    found = kl_of_likeliest(best.values, student_TV.gather(-1, best.indices))
    for place in range(5):
        p, q = teacher_TV[place].exp().tolist(), student_TV[place].exp().tolist()
        shown = best.indices[place].tolist()
        rest_p, rest_q = (1 - sum(one[at] for at in shown) for one in (p, q))
        slow = sum(p[at] * math.log(p[at] / q[at]) for at in shown) + rest_p * math.log(rest_p / rest_q)
        assert float(found[place]) == pytest.approx(slow, abs=1e-5)
        whole = sum(one * math.log(one / other) for one, other in zip(p, q, strict=True))
        assert float(found[place]) <= whole + 1e-5


def test_the_loss_is_nothing_for_equals_and_finite_where_the_teacher_is_sure():
    logprobs_TV = torch.randn(4, 9).log_softmax(-1)
    assert kl_of_likeliest(logprobs_TV[:, :4], logprobs_TV[:, :4]).abs().max() < 1e-6
    sure = torch.tensor([[0.0, -50.0]])
    assert bool(torch.isfinite(kl_of_likeliest(sure, torch.tensor([[-40.0, 0.0]]))).all())


def test_a_student_that_is_its_own_teacher_has_nothing_to_learn(tmp_path):
    options = recipe(teacher="sprout", learn="logprobs", likeliest=32, steps=1)
    train(replace(options, drawn=Drawn(each=4, most_tokens=64, verified=False)), tmp_path / "run")
    assert losses(tmp_path / "run")[0] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("learn", ["text", "logprobs"])
def test_the_student_comes_nearer_to_its_teacher(tmp_path, learn):
    train(recipe(learn=learn, batch=12, steps=12), tmp_path / "run")
    told = losses(tmp_path / "run")
    assert told[-1] < 0.7 * told[0]


def test_only_what_the_domain_verifies_is_kept_and_at_most_so_many_of_it():
    rows = rows_of((PROMPTS,))
    teacher = ModelTeacher(load("abacus"))
    kept = traces_of(teacher, rows, Drawn(each=4, keep=2, temperature=1.5, most_tokens=64), seed=1)
    assert kept
    for trace in kept:
        assert trace.row.problem is not None
        assert domain("arithmetic").verify(trace.row.problem, trace.row.completion) == 1.0
    by_prompt = [sum(trace.row.messages == row.messages for trace in kept) for row in rows]
    assert max(by_prompt) <= 2
    assert len({(trace.row.messages, trace.row.completion) for trace in kept}) == len(kept)
    everything = traces_of(teacher, rows, Drawn(4, 4, 1.5, 64, verified=False), seed=1)
    assert len(everything) > len(kept)


def test_traces_are_read_as_they_were_written_and_faults_name_their_line(tmp_path):
    teacher = load("abacus")
    traces = traces_of(ModelTeacher(teacher), rows_of((PROMPTS,))[:3], Drawn(each=1, most_tokens=64), seed=1)
    traces = with_logprobs(traces, teacher, 4)
    path = tmp_path / "traces.jsonl"
    write_traces(traces, path)
    back = read_traces((Source(file=str(path)),))
    assert [(one.row, one.teacher, one.tokens) for one in back] == [
        (t.row, t.teacher, t.tokens) for t in traces
    ]
    for one, other in zip(back, traces, strict=True):
        for top, expected in zip(one.top, other.top, strict=True):
            assert top.ids == expected.ids
            assert top.logprobs == pytest.approx(expected.logprobs, abs=1e-6)
    path.write_bytes(orjson.dumps({"prompt": "a", "completion": "b", "tokens": [1], "top": []}))
    with pytest.raises(BadRequest, match=r"traces.jsonl:1: 1 tokens but 'top' for 0"):
        read_traces((Source(file=str(path)),))


def test_a_file_of_traces_needs_no_teacher_and_prompts_without_one_are_refused(tmp_path):
    first = train(recipe(learn="logprobs"), tmp_path / "first")
    file = Source(file=str(tmp_path / "first" / "traces.jsonl"))
    again = train(recipe(learn="logprobs", teacher="", data=(file,)), tmp_path / "again")
    assert same(weights(first.folder), weights(again.folder))
    with pytest.raises(ConfigurationError, match="there is no teacher"):
        train(recipe(teacher=""), tmp_path / "none")
    with pytest.raises(ConfigurationError, match="gives text, no log-probabilities"):
        train(recipe(teacher="http://127.0.0.1:9/v1#m", learn="logprobs"), tmp_path / "served")


class Stopping(RunFolder):
    """A folder that is asked to stop after some looks."""

    def __init__(self, path: Path, looks: int) -> None:
        super().__init__(path)
        self._left = looks

    @property
    def asked_to_stop(self) -> bool:
        self._left -= 1
        return self._left < 0


@pytest.mark.parametrize("learn", ["text", "logprobs"])
def test_a_run_taken_up_again_ends_as_if_it_had_not_stopped(tmp_path, learn):
    options = recipe(learn=learn, replay=Replay(share=0.25, data=(OLD,)))
    whole = train(options, tmp_path / "whole")
    half = distil.run(options, Stopping(tmp_path / "half", 2), lambda line: None)
    assert (half.ended.state, half.ended.step) == (State.STOPPED, 2)
    assert same(weights(whole.folder), weights(train(options, tmp_path / "half").folder))


def test_in_a_chain_each_student_learns_from_the_one_before(tmp_path):
    lines: list[str] = []
    options = recipe(then=("sprout",), drawn=Drawn(each=2, most_tokens=64, verified=False))
    ended = distil.run(options, RunFolder(tmp_path / "chain"), lines.append)
    first = tmp_path / "chain" / "student-1"
    assert (first / "checkpoint" / "model.gguf").exists()
    assert ended.folder == tmp_path / "chain" / "checkpoint"
    [teacher] = {one.teacher for one in read_traces((Source(file=str(tmp_path / "chain" / "traces.jsonl")),))}
    assert teacher == "checkpoint"
    assert not same(weights(first / "checkpoint"), weights(ended.folder))
    assert "1 of 2: sprout learns from abacus" in lines


def test_a_chain_stopped_at_its_first_student_goes_on_there(tmp_path):
    options = recipe(then=("sprout",), drawn=Drawn(each=2, most_tokens=64, verified=False))
    whole = train(options, tmp_path / "whole")
    stopped = distil.run(options, Stopping(tmp_path / "half", 2), lambda line: None)
    assert stopped.folder is None
    assert RunFolder(tmp_path / "half").status().state is State.STOPPED
    assert RunFolder(tmp_path / "half").told()["stage"] == "distil"
    assert same(weights(whole.folder), weights(train(options, tmp_path / "half").folder))


def test_a_stop_while_the_last_teacher_of_a_chain_draws_is_obeyed_before_the_first_step(tmp_path):
    """It was taken away as the last student began, and the chain went on to its end."""
    folder = RunFolder(tmp_path / "chain")
    options = recipe(then=("sprout",), steps=2, drawn=Drawn(each=2, most_tokens=64, verified=False))

    def say(line: str) -> None:
        if "checkpoint gave" in line:
            assert folder.status().at_work
            folder.ask_to_stop()

    ended = distil.run(options, folder, say)
    assert (ended.ended.state, ended.ended.step, ended.folder) == (State.STOPPED, 0, None)
    assert (folder.status().state, folder.status().message) == (State.STOPPED, "asked to stop")


class Endpoint(BaseHTTPRequestHandler):
    """Answers every second question; the others are cut off."""

    asked: ClassVar[list[dict]] = []

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body)
        over = len(body["messages"][0]["content"]) % 2
        choice = {"message": {"content": "Answer: 4"}, "finish_reason": "stop" if over else "length"}
        said = orjson.dumps({"choices": [choice]})
        self.send_response(200 if self.path == "/v1/chat/completions" else 404)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_served_teacher_is_asked_over_http_and_replies_that_were_cut_off_are_left_out():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        teacher = endpoint_teacher(f"http://127.0.0.1:{server.server_port}/v1#master")
        rows = rows_of((PROMPTS,))
        replies = teacher.replies(rows, Drawn(each=2, most_tokens=33), seed=5)
    finally:
        server.shutdown()
        server.server_close()
    assert [len(one) for one in replies] == [2 * (len(row.messages[0].content) % 2) for row in rows]
    assert {(one["model"], one["max_tokens"]) for one in Endpoint.asked} == {("master", 33)}
    with pytest.raises(ConfigurationError, match="the teacher master gave no reply"):
        teacher.replies(rows[:2], Drawn(), seed=1)


def test_a_question_a_served_teacher_fails_at_is_left_out():
    async def ask(row, drawn: Drawn, seed: int) -> str:
        if row is rows[0]:
            raise TimeoutError("too slow")
        return "Answer: 1"

    rows = rows_of((PROMPTS,))[:3]
    teacher = ServedTeacher("slow", ask)
    assert teacher.replies(rows, Drawn(each=1), seed=0) == [[], ["Answer: 1"], ["Answer: 1"]]
