"""The engine against the scripted server: keys, prices, retries, schemas. Waiting is virtual."""

import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from studium.engines.openai_api import OpenAIApiEngine, Price, Retries
from studium.engines.protocol import complete
from studium.engines.scripted import Fault, FaultKind, ModelScript, Script, says
from studium.engines.scripted.server import Running, serving
from studium.errors import (
    ConfigurationError,
    EngineDied,
    EngineMissing,
    EngineRefused,
    PromptTooLong,
    StudiumError,
    UnknownModel,
    Unsupported,
)
from studium.records.messages import Ask, Message, Sampling
from studium.records.models import ModelSpec

ALPHA = ModelSpec(name="alpha", engine="openai_api", source="served-alpha")
QUESTION = Ask(messages=(Message("user", "hi"),))


class Waits:
    """A clock that moves only by the waits it is asked for."""

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    def __call__(self) -> float:
        return sum(self.waited_s)

    async def sleep(self, seconds: float) -> None:
        self.waited_s.append(seconds)


@asynccontextmanager
async def engine_on(
    model: ModelScript, *, server_key: str | None = None, load: bool = True, **choices
) -> AsyncGenerator[tuple[OpenAIApiEngine, Running], None]:
    async with serving(Script({"served-alpha": model}), api_key=server_key) as running:
        engine = OpenAIApiEngine(f"{running.url}/v1/", **choices)
        try:
            if load:
                await engine.load(ALPHA, timeout_s=30)
            yield engine, running
        finally:
            await engine.close()


def busy(times: int, *, seconds: float = 2.0, kind: FaultKind = FaultKind.BUSY) -> ModelScript:
    return replace(says("well now"), fault=Fault(kind, seconds=seconds, times=times))


async def test_a_call_costs_what_the_price_table_says_and_none_where_it_says_nothing():
    prices = {"served-alpha": Price(prompt_usd_per_million=2.0, completion_usd_per_million=10.0)}
    async with engine_on(says("one two three"), prices=prices) as (engine, _):
        reply = await complete(engine, ALPHA, QUESTION)
        assert (reply.prompt_tokens, reply.completion_tokens) == (1, 3)
        assert reply.cost_usd == pytest.approx(32e-6)
    async with engine_on(says("one"), prices={"other": Price(1.0, 1.0)}) as (engine, _):
        assert (await complete(engine, ALPHA, QUESTION)).cost_usd is None


async def test_the_key_comes_from_the_environment_and_its_absence_is_named_without_it():
    choices = {"server_key": "s3cret", "api_key_env": "MY_KEY", "load": False}
    async with engine_on(says("yes"), environment={"MY_KEY": "s3cret"}, **choices) as (engine, _):
        await engine.load(ALPHA, timeout_s=30)
        assert (await complete(engine, ALPHA, QUESTION)).text == "yes"
    async with engine_on(says("yes"), environment={}, **choices) as (engine, _):
        with pytest.raises(ConfigurationError, match="MY_KEY is not set"):
            await engine.load(ALPHA, timeout_s=30)
    async with engine_on(says("yes"), environment={"MY_KEY": "wr0ng"}, **choices) as (engine, _):
        with pytest.raises(EngineMissing, match="refuses the key in MY_KEY") as refused:
            await engine.load(ALPHA, timeout_s=30)
        assert "wr0ng" not in str(refused.value)


async def test_a_busy_server_is_asked_again_after_the_time_it_names():
    waits = Waits()
    async with engine_on(busy(2), clock=waits, sleep=waits.sleep) as (engine, running):
        reply = await complete(engine, ALPHA, QUESTION)
        assert len(running.seen) == 4  # the list of models, and three attempts
    assert (reply.text, waits.waited_s) == ("well now", [2.0, 2.0])
    assert 4.0 <= reply.seconds < 5.0
    assert reply.first_token_s is not None and reply.first_token_s >= 4.0


@pytest.mark.parametrize(
    ("model", "timeout_s", "attempts"),
    [
        (busy(9), 60.0, 3),  # no more attempts than allowed
        (busy(1, seconds=11.0), 60.0, 1),  # a longer wait than allowed
        (busy(1, seconds=5.0), 4.0, 1),  # a wait beyond the limit of the ask
        (busy(1, kind=FaultKind.REFUSE), 60.0, 1),  # status 500 may have done its work
        (busy(1, kind=FaultKind.CRASH), 60.0, 1),  # so may a connection that was reset
    ],
)
async def test_retries_have_their_limits(model, timeout_s, attempts):
    waits = Waits()
    async with engine_on(model, clock=waits, sleep=waits.sleep) as (engine, running):
        with pytest.raises((EngineRefused, EngineDied)):
            await complete(engine, ALPHA, replace(QUESTION, timeout_s=timeout_s))
        assert len(running.seen) == 1 + attempts


async def test_nothing_is_tried_again_once_a_piece_was_heard():
    model = replace(says("one two three"), fault=Fault(FaultKind.CRASH, after_tokens=2, times=1))
    async with engine_on(model) as (engine, running):
        heard = []
        with pytest.raises(EngineDied):
            async with aclosing(engine.generate(ALPHA, QUESTION)) as parts:
                async for part in parts:
                    heard.append(part.text)
        assert "".join(heard) == "one two"
        assert len(running.seen) == 2


async def test_a_refused_connection_is_retried_and_then_named_as_a_missing_engine():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        waits = Waits()
        engine = OpenAIApiEngine(url, retries=Retries(attempts=3), clock=waits, sleep=waits.sleep)
        with pytest.raises(EngineMissing, match="start the server"):
            await engine.load(ALPHA, timeout_s=30)
        await engine.close()
    assert waits.waited_s == [0.5, 1.0]


async def test_a_wrong_path_and_an_unknown_model_are_told_apart():
    async with engine_on(says("x"), load=False) as (engine, running):
        with pytest.raises(UnknownModel, match="no model 'beta'; one of served-alpha"):
            await engine.load(replace(ALPHA, source="beta"), timeout_s=30)
        wrong = OpenAIApiEngine(running.url + "/nowhere")
        with pytest.raises(EngineMissing, match="usually ends in /v1"):
            await wrong.models()
        await wrong.close()
        assert await engine.models() == ["served-alpha"]


async def test_a_schema_travels_as_response_format_and_choices_in_the_dialect_of_the_server():
    schema = {"type": "object", "required": ["n"]}
    ask = replace(QUESTION, json_schema=schema, sampling=Sampling(top_k=5, repeat_penalty=1.1))
    vllm = replace(ALPHA, options={"dialect": "vllm"})
    async with engine_on(replace(says("x"), json_answer='{"n":1}')) as (engine, running):
        assert (await complete(engine, vllm, ask)).text == '{"n":1}'
        body = running.seen[-1].body
        with pytest.raises(Unsupported, match=r"top_k.*options\.dialect"):
            await complete(engine, ALPHA, ask)
        with pytest.raises(ConfigurationError, match="dialect is 'french'"):
            await complete(engine, replace(ALPHA, options={"dialect": "french"}), ask)
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert (body["top_k"], body["repetition_penalty"]) == (5, 1.1)


async def test_what_the_protocol_cannot_say_is_refused():
    async with engine_on(replace(says("x"), context_tokens=3)) as (engine, _):
        refusals: list[tuple[ModelSpec, Ask, type[StudiumError]]] = [
            (ALPHA, replace(QUESTION, grammar='root ::= "x"'), Unsupported),
            (ALPHA, Ask(prompt="a", json_schema={}), Unsupported),
            (replace(ALPHA, embeddings=True), QUESTION, Unsupported),
            (ALPHA, Ask(prompt="a b c d"), PromptTooLong),
            (replace(ALPHA, name="other"), QUESTION, EngineDied),
        ]
        for model, ask, error in refusals:
            with pytest.raises(error):
                await complete(engine, model, ask)
        with pytest.raises(Unsupported, match="adapters"):
            await engine.load(replace(ALPHA, adapters=("x",)), timeout_s=30)
